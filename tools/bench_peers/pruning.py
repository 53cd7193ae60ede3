"""Structured pruning: hidden channels of perceptrons, and channels of heads, that a score says do least."""
import copy

import torch.nn.functional as F
import torch_pruning as tp
from torch import nn


def kept(linear, rows=None, columns=None):
    """The linear map with these outputs and these inputs only."""
    weight, bias = linear.weight.detach(), linear.bias.detach()
    weight, bias = (weight, bias) if rows is None else (weight[rows], bias[rows])
    weight = weight if columns is None else weight[:, columns]
    smaller = nn.Linear(*weight.shape[::-1])
    smaller.weight, smaller.bias = nn.Parameter(weight.clone()), nn.Parameter(bias.clone())
    return smaller


def magnitude(teacher, share):
    """Each perceptron without this share of its channels: those whose weights in and out have the smallest product of norms."""
    model = copy.deepcopy(teacher)
    for block in model.blocks:
        fc1, fc2 = block.mlp.fc1, block.mlp.fc2
        score = fc1.weight.norm(dim=1) * fc2.weight.norm(dim=0)
        stay = score.topk(round(len(score) * (1 - share))).indices.sort().values
        block.mlp.fc1, block.mlp.fc2 = kept(fc1, rows=stay), kept(fc2, columns=stay)
    return model


def taylor(teacher, images, share, heads=False):
    """The same by torch-pruning, by what the first order of the loss says a channel does; with `heads` channels of heads, too."""
    model = copy.deepcopy(teacher)
    inner = [block.mlp.fc1 for block in model.blocks]
    attention = [getattr(block.mixer, name) for block in model.blocks for name in "qkv"]
    pruned = set(inner + attention if heads else inner)
    counts = {module: block.mixer.heads for block in model.blocks for module in (block.mixer.q, block.mixer.k, block.mixer.v)}
    pruner = tp.pruner.BasePruner(
        model, images[:1], tp.importance.GroupTaylorImportance(), pruning_ratio=share, num_heads=counts if heads else {},
        prune_head_dims=heads, ignored_layers=[m for m in model.modules() if isinstance(m, (nn.Linear, nn.Conv2d)) and m not in pruned],
        unwrapped_parameters=[(model.class_token, 2), (model.positions, 2)])
    for start in range(0, len(images), 100):
        F.cross_entropy(model(images[slice(start, start + 100)]), images.labels[start:start + 100]).backward()
    pruner.step()
    model.zero_grad(set_to_none=True)
    return model
