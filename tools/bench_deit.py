"""DeiT-Tiny and DeiT-Small with random weights as ONNX files: what the speed of a forward pass is measured on."""
import pathlib
import warnings

import torch
import torch.nn.functional as F

# Width, heads and layers.
MODELS = {"deit-tiny": (192, 3, 12), "deit-small": (384, 6, 12)}
IMAGE, PATCH, CLASSES = 224, 16, 1000


class Block(torch.nn.Module):
    def __init__(self, dim, heads):
        super().__init__()
        self.heads = heads
        self.norm1, self.norm2 = torch.nn.LayerNorm(dim, eps=1e-6), torch.nn.LayerNorm(dim, eps=1e-6)
        self.qkv, self.proj = torch.nn.Linear(dim, 3 * dim), torch.nn.Linear(dim, dim)
        self.fc1, self.fc2 = torch.nn.Linear(dim, 4 * dim), torch.nn.Linear(4 * dim, dim)

    def forward(self, x):
        batch, tokens, dim = x.shape
        qkv = self.qkv(self.norm1(x)).reshape(batch, tokens, 3, self.heads, dim // self.heads).permute(2, 0, 3, 1, 4)
        q, k, v = qkv.unbind(0)
        heads = F.scaled_dot_product_attention(q, k, v)
        x = x + self.proj(heads.transpose(1, 2).reshape(batch, tokens, dim))
        return x + self.fc2(F.gelu(self.fc1(self.norm2(x))))


class DeiT(torch.nn.Module):
    def __init__(self, dim, heads, layers):
        super().__init__()
        self.patches = torch.nn.Conv2d(3, dim, PATCH, PATCH)
        self.class_token = torch.nn.Parameter(torch.randn(1, 1, dim))
        self.positions = torch.nn.Parameter(0.5 * torch.randn(1, (IMAGE // PATCH) ** 2 + 1, dim))
        self.blocks = torch.nn.ModuleList(Block(dim, heads) for _ in range(layers))
        self.norm = torch.nn.LayerNorm(dim, eps=1e-6)
        self.head = torch.nn.Linear(dim, CLASSES)

    def forward(self, image):
        x = self.patches(image).flatten(2).transpose(1, 2)
        x = torch.cat([self.class_token.expand(x.shape[0], -1, -1), x], 1) + self.positions
        for block in self.blocks:
            x = block(x)
        return self.head(self.norm(x)[:, 0])


def model(name, seed=7):
    """The model with its random weights."""
    torch.manual_seed(seed)
    return DeiT(*MODELS[name]).eval()


def export(name, folder):
    """Writes folder/name.onnx unless it is there; its path."""
    path = pathlib.Path(folder) / f"{name}.onnx"
    if path.exists():
        return path
    path.parent.mkdir(parents=True, exist_ok=True)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(
            model(name), (torch.randn(2, 3, IMAGE, IMAGE),), str(path), dynamo=False, opset_version=17, input_names=["image"],
            output_names=["logits"], dynamic_axes={"image": {0: "batch"}, "logits": {0: "batch"}})
    return path
