"""What vitc makes: compiled by its command line, run by its own runtime, and built again in PyTorch to be timed in another."""
import json
import re
import resource
import subprocess
import tempfile

import numpy as np
import torch
from torch import nn

from bench_peers import vit

RAISED = "open-batch,fold,raise,dce,trim"


class Vitc:
    """The executable, with the data that it may see, on one thread."""

    def __init__(self, executable, model, data, eval_data):
        self.executable, self.model, self.data, self.eval_data = executable, model, data, eval_data

    def __call__(self, *words):
        result = subprocess.run([self.executable, *map(str, words), "--threads", "1", "--quiet"], capture_output=True, text=True)
        if result.returncode:
            raise RuntimeError(f"vitc {' '.join(map(str, words))} failed: {result.stderr.strip()}")
        return result.stdout

    def compile(self, options, path):
        """Writes a hybrid; the seconds of the processor that it took. Few images: what is reached is measured here."""
        spent = lambda: sum(resource.getrusage(resource.RUSAGE_CHILDREN)[:2])
        begin = spent()
        self("compile", self.model, "-o", path, "--data", self.data, "--eval-data", self.eval_data, "--eval-images", 500,
             *options.split())
        return spent() - begin

    def raised(self, source, path):
        """Writes the model in vitc's own operations, without the rows that nobody reads."""
        self("opt", source, "--passes", RAISED, "-o", path)
        return path

    def logits(self, path, images):
        outputs = []
        with tempfile.TemporaryDirectory() as folder:
            x, y = f"{folder}/x.npy", f"{folder}/y.npy"
            for batch in images.batches(500):
                np.save(x, batch.numpy())
                self("run", path, "--input", x, "--output", y)
                outputs.append(np.load(y))
        return torch.from_numpy(np.concatenate(outputs))

    def bench(self, path, other, batch, seconds):
        return json.loads(self("bench", path, "--against", other, "--batch", batch, "--time", f"{seconds}s", "--json"))

    def text(self, path):
        return self("opt", path, "--passes", "dce", "--elide-tensors")


class Conv(nn.Module):
    """`vit.conv` over the patches, and attention for the class token's row, which uses the same values and output map."""

    def __init__(self, dim, width, heads, scores, grid, kernel):
        super().__init__()
        self.grid, self.heads = grid, vit.Attention(dim, heads, scores // heads, width // heads, 1)
        self.taps = nn.Conv2d(width, width, kernel, padding=[k // 2 for k in kernel], groups=width, bias=False)
        self.mean, self.token = nn.Parameter(torch.randn(width)), nn.Parameter(torch.randn(width))

    def forward(self, x, rows=None):
        heads = self.heads
        values = heads.v(x)
        patches = values[:, 1:]
        mixed = self.taps(patches.transpose(1, 2).unflatten(2, self.grid)).flatten(2).transpose(1, 2)
        mixed = mixed + (self.mean * patches.mean(1, keepdim=True) + self.token * values[:, :1])
        q, k, v = heads.split(heads.q(x[:, :1])), heads.split(heads.k(x)), heads.split(values)
        token = ((q @ k.transpose(-1, -2)).softmax(-1) @ v).transpose(1, 2).flatten(2)
        return heads.proj(torch.cat([token, mixed], 1))


def same_shape(text, teacher):
    """A `ViT` of random weights with the sizes of the hybrid of this text; `None` where it has what ONNX has no quick form of."""
    shapes = {name: [int(n) for n in shape.split(",")]
              for name, shape in re.findall(r"^  tensor @(\S+|\".*?\") : \w+\[([\d, ]+)\]", text, re.M)}
    dim, epsilon = teacher.head.in_features, teacher.norm.eps
    blocks, mixer, conv = [], None, None
    for operation, operands, attributes in re.findall(r" = vit\.(\w+)\((.*?)\) (?:\{(.*?)\} )?:", text):
        rows = [shapes.get(word.lstrip("@"), [0])[0] for word in operands.split(", ")]
        number = lambda key: [int(n) for n in re.findall(r"\d+", re.search(rf"\b{key} = (\[.*?\]|\d+)", attributes)[1])]
        match operation:
            case "attention":
                heads = number("heads")[0]
                mixer = vit.Attention(dim, heads, rows[1] // heads, rows[5] // heads, 1)
            case "conv":
                conv = number("grid"), number("kernel")
            case "prefix_attention":
                heads = number("heads")[0]
                mixer = (Conv(dim, rows[5], heads, rows[2], *conv) if conv
                         else vit.Attention(dim, heads, rows[2] // heads, rows[5] // heads, 1))
                conv = None
            case "mlp":
                blocks.append(vit.Block(dim, mixer, rows[1], epsilon))
            case "add" | "layer_norm" | "linear" | "patch_embed" | "scale":
                pass
            case _:
                return None
    tokens = teacher.positions.shape[1]
    return vit.ViT(teacher.patches, tokens, dim, blocks, epsilon, teacher.head.out_features).eval()
