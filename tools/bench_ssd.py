"""Speed of the state space scan's peer in PyTorch eager: the same chunked form of products, batched over images, heads and chunks.

Written for speed: chunks of 50 steps for 197 tokens, faster here than 33 or 64; the decays within chunks from running sums, since
products row by row would be a loop; no copy that the products do not need. Gradients by autograd.
"""
import statistics
import time

import torch
import torch.nn.functional as F

CHUNK = 50


def scan(v, k, q, r, skip, heads, chunk, future):
    """v, k, q [batch, tokens, heads·width], r [batch, tokens, heads] as linear maps give them; `future` masks later steps."""
    batch, tokens, _ = v.shape
    chunks = -(-tokens // chunk)
    padding = chunks * chunk - tokens
    cut = lambda y: F.pad(y, (0, 0, 0, padding)).view(batch, chunks, chunk, heads, -1).permute(0, 3, 1, 2, 4)
    v, k, q = cut(v), cut(k), cut(q)
    sums = cut(F.logsigmoid(r) / 16)[..., 0].cumsum(-1)
    decay = (sums[..., :, None] - sums[..., None, :]).masked_fill(future, -torch.inf).exp()
    first, last = sums.exp(), (sums[..., -1:] - sums).exp()
    added = (k * last[..., None]).transpose(-1, -2) @ v
    states = [torch.zeros_like(added[:, :, 0])]
    for index in range(chunks - 1):
        states.append(states[-1] * first[:, :, index, -1, None, None] + added[:, :, index])
    o = ((q @ k.transpose(-1, -2)) * decay) @ v + (q * first[..., None]) @ torch.stack(states, 2)
    o = o + v * skip[:, None, None, None]
    return o.permute(0, 2, 3, 1, 4).reshape(batch, chunks * chunk, -1)[:, :tokens]


def run(seconds, batch=8, tokens=197, heads=6, width=64):
    """Prints the images a second of the scan alone, and of the scan and its gradients."""
    dim = heads * width
    future = ~torch.ones(CHUNK, CHUNK, dtype=torch.bool).tril()
    leaves = [torch.randn(batch, tokens, dim) * scale for scale in (1, width**-0.5, 1)]
    leaves += [torch.randn(batch, tokens, heads) + 3, torch.randn(heads)]
    upstream = torch.randn(batch, tokens, dim)

    def forward():
        with torch.no_grad():
            scan(*leaves, heads, CHUNK, future)

    wanted = [leaf.clone().requires_grad_() for leaf in leaves]

    def both():
        torch.autograd.grad(scan(*wanted, heads, CHUNK, future), wanted, upstream)

    for name, step in [("ssd-forward", forward), ("ssd-gradient", both)]:
        for _ in range(5):
            step()
        times, work, end = [], [], time.perf_counter() + seconds
        while time.perf_counter() < end or len(times) < 5:
            start, begin = time.perf_counter(), time.process_time()
            step()
            times.append(time.perf_counter() - start)
            work.append(time.process_time() - begin)
        print(f"{name} {tokens} tokens x {dim} x batch {batch}: {batch / statistics.median(times):.0f} samples/s,"
              f" {statistics.median(work) * 1e3:.2f} ms of processor a step", flush=True)
