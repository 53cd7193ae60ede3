"""Whole blocks less: left out, or a linear map in the place of each that least squares finds."""
import copy

import torch
from torch import nn

from bench_peers.vit import first


class LinearBlock(nn.Module):
    """x + W·x + b for each token by itself."""

    mixes = False

    def __init__(self, weight, bias):
        super().__init__()
        self.map = nn.Linear(*weight.shape)
        self.map.weight, self.map.bias = nn.Parameter(weight.T.float().contiguous()), nn.Parameter(bias.float())

    def forward(self, x, rows=None):
        x = first(x, rows)
        return x + self.map(x)


def with_blocks(model, blocks):
    """The same model with other blocks; all else is shared."""
    changed = copy.copy(model)
    changed._modules = {**model._modules, "blocks": nn.ModuleList(blocks)}
    return changed


def log_probabilities(model, images):
    with torch.inference_mode():
        return torch.cat([model(batch) for batch in images.batches()]).log_softmax(1)


def divergence(model, images, wanted):
    """The mean KL from the teacher's logarithms of probabilities."""
    return float((wanted.exp() * (wanted - log_probabilities(model, images))).sum(1).mean())


def without(model, index):
    return with_blocks(model, [*model.blocks[:index], *model.blocks[index + 1:]])


def fitted(model, index, images, ridge=1e-3):
    """The model with a linear map for the change that this block makes, of all tokens of these images."""
    moments, products = 0, 0
    with torch.inference_mode():
        for batch in images.batches():
            x = model.embed(batch)
            for block in model.blocks[:index]:
                x = block(x)
            rows = model.rows(index)
            change = (model.blocks[index](x, rows) - first(x, rows)).flatten(0, 1).double()
            x = first(x, rows).flatten(0, 1).double()
            x = torch.cat([x, torch.ones_like(x[:, :1])], 1)
            moments, products = moments + x.T @ x, products + x.T @ change
    damping = ridge * moments.diagonal().mean() * torch.eye(len(moments), dtype=torch.double)
    damping[-1, -1] = 0
    solution = torch.linalg.solve(moments + damping, products)
    block = LinearBlock(solution[:-1], solution[-1])
    return with_blocks(model, [*model.blocks[:index], block, *model.blocks[index + 1:]])


def greedy(teacher, images, count, shrink):
    """So many times the change of one block by `shrink(model, index)` that keeps the outputs nearest to the teacher's."""
    wanted, model = log_probabilities(teacher, images), teacher
    for _ in range(count):
        places = [i for i, block in enumerate(model.blocks) if block.mixes]
        model = min((shrink(model, i) for i in places), key=lambda smaller: divergence(smaller, images, wanted))
    return copy.deepcopy(model)


def dropped(teacher, images, count):
    return greedy(teacher, images, count, without)


def linear(teacher, images, count):
    return greedy(teacher, images, count, lambda model, index: fitted(model, index, images))
