"""Truncated singular value decomposition of the linear maps, plain or weighted by what their inputs are."""
import copy

import torch
from torch import nn


def input_moments(model, images, names):
    """The mean x·xᵀ and the mean x of the inputs of these linear maps."""
    sums = {name: [0, 0, 0] for name in names}

    def note(name):
        def hook(_, inputs):
            x = inputs[0].flatten(0, 1).double()
            sums[name] = [a + b for a, b in zip(sums[name], [x.T @ x, x.sum(0), len(x)])]
        return hook

    hooks = [model.get_submodule(name).register_forward_pre_hook(note(name)) for name in names]
    with torch.inference_mode():
        for batch in images.batches():
            model(batch)
    for hook in hooks:
        hook.remove()
    return {name: (second / count, first / count) for name, (second, first, count) in sums.items()}


def factors(linear, rank, moments):
    """Two maps of this rank; with moments W·(x − mean) is kept as well as can be for the covariance of x."""
    weight, bias = linear.weight.detach().double(), linear.bias.detach().double()
    root, mean = torch.eye(weight.shape[1], dtype=torch.double), torch.zeros(weight.shape[1], dtype=torch.double)
    if moments:
        mean = moments[1]
        covariance = moments[0] - torch.outer(mean, mean)
        root = torch.linalg.cholesky(covariance + 1e-4 * covariance.diagonal().mean() * torch.eye(len(mean)))
    left, values, right = torch.linalg.svd(weight @ root, full_matrices=False)
    scale = values[:rank].sqrt()
    inner = torch.linalg.solve_triangular(root, scale[:, None] * right[:rank], upper=False, left=False)
    outer = left[:, :rank] * scale
    first, second = nn.Linear(weight.shape[1], rank, bias=False), nn.Linear(rank, weight.shape[0])
    bias = bias + (weight - outer @ inner) @ mean
    for parameter, value in [(first.weight, inner), (second.weight, outer), (second.bias, bias)]:
        parameter.data = value.float()
    return nn.Sequential(first, second)


def decompose(teacher, images, share, weighted):
    """All linear maps of the blocks with this share of their parameters."""
    model = copy.deepcopy(teacher)
    names = [name for name, module in model.named_modules() if isinstance(module, nn.Linear) and name != "head"]
    moments = input_moments(model, images, names) if weighted else {}
    for name in names:
        linear = model.get_submodule(name)
        rank = int(share * linear.weight.numel() / sum(linear.weight.shape))
        model.set_submodule(name, factors(linear, rank, moments.get(name)))
    return model
