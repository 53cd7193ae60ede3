#!/usr/bin/env python3
"""Training speed of the mixers' peers in PyTorch eager: samples a second of forward, backward and AdamW.

The peer of `vit.conv` is torch.nn.functional.conv2d with a group for each channel, between two linear maps; that of `vit.lstm` is
torch.nn.LSTM, bidirectional, with a linear map behind it, that of `vit.lstm_full` one for each head between linear maps; that of
`vit.glr` is the same module with the scan as a hand-written autograd function, one fused operation for each step. The other side of the
comparison:

    tools/bench mixers
"""
import argparse
import statistics
import time

import torch
import torch.nn.functional as F

import bench_ssd


class GatedScan(torch.autograd.Function):
    """h[t] = a[t]·h[t−1] + (1 − a[t])·v[t] over the first axis, from h[0] = v[0]."""

    @staticmethod
    def forward(context, a, v):
        h = torch.empty_like(v)
        h[0] = v[0]
        for t in range(1, v.shape[0]):
            torch.lerp(v[t], h[t - 1], a[t], out=h[t])
        context.save_for_backward(a, v, h)
        return h

    @staticmethod
    def backward(context, dh):
        a, v, h = context.saved_tensors
        total = torch.empty_like(v)  # what each state is asked for, by its own step and all later ones
        total[-1] = dh[-1]
        for t in range(v.shape[0] - 2, -1, -1):
            torch.addcmul(dh[t], a[t + 1], total[t + 1], out=total[t])
        dv = total * (1 - a)
        dv[0] = total[0]
        da = torch.zeros_like(a)
        torch.mul(total[1:], h[:-1] - v[1:], out=da[1:])
        return da, dv


class GLR(torch.nn.Module):
    def __init__(self, dim, width, heads):
        super().__init__()
        self.heads = heads
        self.values = torch.nn.Linear(dim, width)
        block = width // heads
        self.a = torch.nn.Parameter(torch.randn(heads, block, block) * 0.1 / block**0.5)
        self.g = torch.nn.Parameter(torch.randn(heads, block, block) * 0.1 / block**0.5)
        self.ba = torch.nn.Parameter(torch.randn(width))
        self.bg = torch.nn.Parameter(torch.full((width,), 1.2784645427610737))
        self.output = torch.nn.Linear(width, dim)

    def forward(self, x):
        v = self.values(x)
        batch, tokens, width = v.shape
        blocks = v.view(batch * tokens, self.heads, -1).transpose(0, 1)
        r = torch.bmm(blocks, self.a.transpose(1, 2)).transpose(0, 1).reshape(batch, tokens, width) + self.ba
        q = torch.bmm(blocks, self.g.transpose(1, 2)).transpose(0, 1).reshape(batch, tokens, width) + self.bg
        half = width // 2
        turn = lambda y: torch.cat([y[..., :half], y[..., half:].flip(1)], -1)
        h = GatedScan.apply(turn(torch.sigmoid(r)).transpose(0, 1).contiguous(), turn(v).transpose(0, 1).contiguous())
        return self.output(turn(h.transpose(0, 1)) * F.silu(q))


class Conv(torch.nn.Module):
    def __init__(self, dim, width, heads, tokens):
        super().__init__()
        self.heads, self.side = heads, int((tokens - 1) ** 0.5)
        self.values = torch.nn.Linear(dim, width)
        self.taps = torch.nn.Parameter(torch.randn(width, 1, 3, 3) / 3)
        self.mean = torch.nn.Parameter(torch.randn(width) / 3)
        self.before = torch.nn.Parameter(torch.randn(width) / 3)
        self.rows = torch.nn.Parameter(torch.full((heads, 1, tokens), 1 / tokens))
        self.output = torch.nn.Linear(width, dim)

    def forward(self, x):
        v = self.values(x)
        batch, tokens, width = v.shape
        first, patches = v[:, :1], v[:, 1:]
        image = patches.transpose(1, 2).reshape(batch, width, self.side, self.side)
        sums = F.conv2d(image, self.taps, padding=1, groups=width).flatten(2).transpose(1, 2)
        sums = sums + (self.mean * patches.mean(1, keepdim=True) + self.before * first)
        own = (self.rows @ v.view(batch, tokens, self.heads, -1).transpose(1, 2)).transpose(1, 2).flatten(2)
        return self.output(torch.cat([own, sums], 1))


class LSTM(torch.nn.Module):
    def __init__(self, dim, width):
        super().__init__()
        self.lstm = torch.nn.LSTM(dim, width // 2, batch_first=True, bidirectional=True)
        self.output = torch.nn.Linear(width, dim)

    def forward(self, x):
        return self.output(self.lstm(x)[0])


class LSTMFull(torch.nn.Module):
    def __init__(self, dim, heads):
        super().__init__()
        width = dim // heads
        self.project = torch.nn.Linear(dim, dim)
        self.heads = torch.nn.ModuleList(
            torch.nn.LSTM(width, width, batch_first=True, bidirectional=True) for _ in range(heads))
        self.merge = torch.nn.ModuleList(torch.nn.Linear(2 * width, width) for _ in range(heads))
        self.output = torch.nn.Linear(dim, dim)

    def forward(self, x):
        parts = self.project(x).chunk(len(self.heads), -1)
        return self.output(torch.cat([merge(lstm(p)[0]) for p, lstm, merge in zip(parts, self.heads, self.merge)], -1))


def forward_rate(module, tokens, dim, batch, seconds):
    x = torch.randn(batch, tokens, dim)
    with torch.inference_mode():
        for _ in range(5):
            module(x)
        times, end = [], time.perf_counter() + seconds
        while time.perf_counter() < end or len(times) < 5:
            start = time.perf_counter()
            module(x)
            times.append(time.perf_counter() - start)
    return batch / statistics.median(times)


def rate(module, tokens, dim, batch, seconds):
    x, y = torch.randn(batch, tokens, dim), torch.randn(batch, tokens, dim)
    optimiser = torch.optim.AdamW(module.parameters(), lr=1e-3, betas=(0.9, 0.98), weight_decay=0.05)
    scale = y.square().sum()

    def step():
        optimiser.zero_grad()
        ((module(x) - y).square().sum() / scale).backward()
        optimiser.step()

    for _ in range(5):
        step()
    times, work, end = [], [], time.perf_counter() + seconds
    while time.perf_counter() < end or len(times) < 5:
        start, begin = time.perf_counter(), time.process_time()
        step()
        times.append(time.perf_counter() - start)
        work.append(time.process_time() - begin)
    return batch / statistics.median(times), statistics.median(work) * 1e3


parser = argparse.ArgumentParser()
parser.add_argument("--threads", type=int, default=2)
parser.add_argument("--seconds", type=float, default=4)
arguments = parser.parse_args()
torch.set_num_threads(arguments.threads)
torch.manual_seed(1)
for tokens, dim, batch in [(50, 96, 64), (65, 384, 32)]:
    for name, module in [("conv", Conv(dim, dim, 6, tokens)), ("glr", GLR(dim, dim, 6)), ("lstm", LSTM(dim, dim // 2))]:
        samples, work = rate(module, tokens, dim, batch, arguments.seconds)
        print(f"{name} {tokens} tokens x {dim} x batch {batch}: {samples:.0f} samples/s, {work:.2f} ms of processor a step",
              flush=True)
for dim, heads in [(192, 3), (384, 6)]:
    module = LSTMFull(dim, heads)
    samples, work = rate(module, 197, dim, 8, arguments.seconds)
    print(f"lstm-full 197 tokens x {dim} x batch 8: {samples:.0f} samples/s, {work:.2f} ms of processor a step")
    samples = forward_rate(module, 197, dim, 8, arguments.seconds)
    print(f"lstm-full-forward 197 tokens x {dim} x batch 8: {samples:.0f} samples/s", flush=True)
bench_ssd.run(arguments.seconds)
