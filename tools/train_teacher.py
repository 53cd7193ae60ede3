"""Trains the small Fashion-MNIST teacher and exports it.

    python train_teacher.py --data DIR_WITH_IDX_GZ --out OUT_DIR [--epochs 16] [--threads 2]

DIR_WITH_IDX_GZ holds train-images-idx3-ubyte.gz and its three siblings. Writes OUT_DIR/fashion-vit.onnx,
fashion-vit.preprocessor_config.json and fashion-vit.pt (state dict). Needs torch, timm and onnx.

The recipe is made for few epochs on a CPU: Muon on the matrices inside the blocks and AdamW on the rest, warm-up and
cosine, mimetic initialisation of the attention (Trockman and Kolter, 2023), flips and two-pixel shifts, half of the
patches dropped for the first `--drop-share` of the steps (the full sequence afterwards). No choice is made on the test set: the last
step's weights are the model.
"""
import argparse, gzip, json, math, os, time
import numpy as np
import timm.layers
import torch
import torch.nn.functional as F
from timm.models.vision_transformer import VisionTransformer

MEAN, STD = 0.2860, 0.3530
LABELS = ["T-shirt/top", "Trouser", "Pullover", "Dress", "Coat", "Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot"]


def idx(path):
    with gzip.open(path) as f:
        raw = f.read()
    rank = raw[3]
    shape = [int.from_bytes(raw[4 + 4 * i:8 + 4 * i], "big") for i in range(rank)]
    return np.frombuffer(raw, np.uint8, offset=4 + 4 * rank).reshape(shape)


def load(folder, split):
    p = "train" if split == "train" else "t10k"
    x = idx(os.path.join(folder, f"{p}-images-idx3-ubyte.gz"))
    y = idx(os.path.join(folder, f"{p}-labels-idx1-ubyte.gz"))
    x = (torch.from_numpy(x.copy()).float() / 255 - MEAN) / STD
    return x[:, None], torch.from_numpy(y.copy()).long()


def build(**kw):
    return VisionTransformer(img_size=28, patch_size=4, in_chans=1, num_classes=10, embed_dim=96, depth=8,
                             num_heads=3, mlp_ratio=2.0, **kw)


@torch.no_grad()
def mimetic(model):
    """Query x key near the identity, value x projection near its negative."""
    d = model.embed_dim
    for b in model.blocks:
        a = b.attn
        h, k = a.num_heads, d // a.num_heads
        for i in range(h):
            m = 0.7 * torch.randn(d, d) / math.sqrt(d) + 0.7 * torch.eye(d)
            u, s, v = torch.linalg.svd(m)
            r = s[:k].sqrt()
            a.qkv.weight[i * k:(i + 1) * k] = (u[:, :k] * r).T
            a.qkv.weight[d + i * k:d + (i + 1) * k] = (v[:k].T * r).T
        m = 0.4 * torch.randn(d, d) / math.sqrt(d) - 0.4 * torch.eye(d)
        u, s, v = torch.linalg.svd(m)
        a.qkv.weight[2 * d:] = (v.T * s.sqrt()).T
        a.proj.weight.copy_(u * s.sqrt())
    n = model.pos_embed.shape[1] - 1
    g = int(n ** 0.5)
    yy, xx = torch.meshgrid(torch.arange(g).float(), torch.arange(g).float(), indexing="ij")
    f = 1.0 / 100 ** (torch.arange(d // 4) / (d // 4))
    pe = torch.cat([t.flatten()[:, None] * f for t in (yy, xx)], 1)
    model.pos_embed[:, 1:] = 0.2 * torch.cat([pe.sin(), pe.cos()], 1)
    model.pos_embed[:, :1] = 0


def augment(x, gen):
    n = x.shape[0]
    flip = torch.rand(n, generator=gen) < 0.5
    x = torch.where(flip[:, None, None, None], x.flip(-1), x)
    x = F.pad(x, (2, 2, 2, 2), value=-MEAN / STD)
    dx, dy = torch.randint(0, 5, (n,), generator=gen), torch.randint(0, 5, (n,), generator=gen)
    r = (dy[:, None] + torch.arange(28))[:, :, None]
    c = (dx[:, None] + torch.arange(28))[:, None, :]
    return x[torch.arange(n)[:, None, None], 0, r, c][:, None]


@torch.no_grad()
def accuracy(model, x, y, batch=500):
    model.eval()
    hit = sum((model(x[i:i + batch]).argmax(1) == y[i:i + batch]).sum().item() for i in range(0, len(x), batch))
    model.train()
    return hit / len(x)


def export(model, path, shape):
    timm.layers.set_fused_attn(False)
    for m in model.modules():
        if hasattr(m, "fused_attn"):
            m.fused_attn = False
    model.eval()
    torch.onnx.export(model, torch.zeros(shape), path, opset_version=17, dynamo=False, input_names=["pixel_values"],
                      output_names=["logits"], dynamic_axes={"pixel_values": {0: "batch"}, "logits": {0: "batch"}})


def main():
    p = argparse.ArgumentParser()
    p.add_argument("--data", required=True)
    p.add_argument("--out", required=True)
    p.add_argument("--epochs", type=float, default=16)
    p.add_argument("--batch", type=int, default=128)
    p.add_argument("--lr", type=float, default=3e-3)
    p.add_argument("--drop-share", type=float, default=0.4)
    p.add_argument("--threads", type=int, default=2)
    p.add_argument("--seed", type=int, default=1)
    p.add_argument("--compile", action="store_true")
    a = p.parse_args()
    torch.set_num_threads(a.threads)
    torch.manual_seed(a.seed)
    gen = torch.Generator().manual_seed(a.seed)
    xt, yt = load(a.data, "train")
    xe, ye = load(a.data, "test")
    model = build(patch_drop_rate=0.5)
    mimetic(model)
    keep = model.patch_drop
    mats = [q for n, q in model.named_parameters() if n.startswith("blocks") and q.ndim == 2]
    ids = {id(q) for q in mats}
    rest = [q for q in model.parameters() if id(q) not in ids]
    opts = [torch.optim.Muon(mats, lr=a.lr, weight_decay=0.05, momentum=0.95, adjust_lr_fn="match_rms_adamw"),
            torch.optim.AdamW(rest, lr=a.lr * 0.5, weight_decay=0.0, betas=(0.9, 0.98))]
    base = [g["lr"] for o in opts for g in o.param_groups]
    total = int(a.epochs * len(xt) / a.batch)
    step, t0, seen, run = 0, time.time(), 0, 0.0
    f = torch.compile(model) if a.compile else model
    model.train()
    while step < total:
        order = torch.randperm(len(xt), generator=gen)
        for i in range(0, len(xt) - a.batch + 1, a.batch):
            if step >= total:
                break
            if step == int(total * a.drop_share):
                model.patch_drop = torch.nn.Identity()
                if a.compile:
                    torch._dynamo.reset()
                    f = torch.compile(model)
            s = min(1.0, (step + 1) / 150) * (0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * step / total)))
            for q, b in zip([g for o in opts for g in o.param_groups], base):
                q["lr"] = b * s
            j = order[i:i + a.batch]
            loss = F.cross_entropy(f(augment(xt[j], gen)), yt[j])
            for o in opts:
                o.zero_grad(set_to_none=True)
            loss.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            for o in opts:
                o.step()
            step += 1
            seen += a.batch
            run = 0.98 * run + 0.02 * loss.item()
            if step % 50 == 0:
                print(f"step {step}/{total} loss {run / (1 - 0.98 ** step):.4f} {seen / (time.time() - t0):.0f} img/s {time.time() - t0:.0f} s", flush=True)
        torch.save(model.state_dict(), os.path.join(a.out, "fashion-vit.pt"))
    clean = build()
    clean.load_state_dict(model.state_dict())
    clean.eval()
    print(f"test accuracy {accuracy(clean, xe, ye):.4f}  train time {time.time() - t0:.0f} s", flush=True)
    torch.save(clean.state_dict(), os.path.join(a.out, "fashion-vit.pt"))
    export(clean, os.path.join(a.out, "fashion-vit.onnx"), (1, 1, 28, 28))
    with open(os.path.join(a.out, "fashion-vit.preprocessor_config.json"), "w") as h:
        json.dump({"image_processor_type": "ViTImageProcessor", "do_resize": True, "size": {"height": 28, "width": 28},
                   "resample": 3, "do_rescale": True, "rescale_factor": 1 / 255, "do_normalize": True,
                   "do_convert_rgb": False, "image_mean": [MEAN], "image_std": [STD], "num_channels": 1,
                   "labels": LABELS}, h, indent=1)


if __name__ == "__main__":
    main()
