"""A plain pre-LN vision transformer whose blocks may differ in size: what all peers reduce."""
import torch
from torch import nn


class Attention(nn.Module):
    """Self-attention with maps of their own for queries, keys and values, so that each may lose channels or rank."""

    def __init__(self, dim, heads, scores, values, scale):
        super().__init__()
        self.heads, self.scale = heads, scale
        self.q, self.k = nn.Linear(dim, heads * scores), nn.Linear(dim, heads * scores)
        self.v, self.proj = nn.Linear(dim, heads * values), nn.Linear(heads * values, dim)

    def split(self, x):
        """[batch, tokens, heads·width] to [batch, heads, tokens, width]."""
        return x.unflatten(-1, (self.heads, -1)).transpose(1, 2)

    def forward(self, x, rows=None):
        """The attention of the first `rows` tokens (of all, where there is no number) to all."""
        q, k, v = self.split(self.q(first(x, rows))), self.split(self.k(x)), self.split(self.v(x))
        maps = (q @ k.transpose(-1, -2) * self.scale).softmax(-1)
        return self.proj((maps @ v).transpose(1, 2).flatten(2))


class Perceptron(nn.Module):
    def __init__(self, dim, hidden):
        super().__init__()
        self.fc1, self.fc2 = nn.Linear(dim, hidden), nn.Linear(hidden, dim)

    def forward(self, x):
        return self.fc2(nn.functional.gelu(self.fc1(x)))


class Block(nn.Module):
    mixes = True  # A token's result depends on the others.

    def __init__(self, dim, mixer, hidden, epsilon):
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(dim, epsilon), nn.LayerNorm(dim, epsilon)
        self.mixer, self.mlp = mixer, Perceptron(dim, hidden)

    def forward(self, x, rows=None):
        x = first(x, rows) + self.mixer(self.norm1(x), rows)
        return x + self.mlp(self.norm2(x))


class ViT(nn.Module):
    """Logits of images, by the class token; rows that nobody reads are not computed."""

    def __init__(self, patches, tokens, dim, blocks, epsilon, classes):
        super().__init__()
        self.patches = patches
        self.class_token = nn.Parameter(torch.randn(1, 1, dim))
        self.positions = nn.Parameter(torch.randn(1, tokens, dim))
        self.blocks = nn.ModuleList(blocks)
        self.norm, self.head = nn.LayerNorm(dim, epsilon), nn.Linear(dim, classes)

    def embed(self, images):
        x = self.patches(images).flatten(2).transpose(1, 2)
        return torch.cat([self.class_token.expand(x.shape[0], -1, -1), x], 1) + self.positions

    def rows(self, index):
        """How many rows of this block's result are read: one where no block behind it mixes tokens, else all."""
        return None if any(block.mixes for block in self.blocks[index + 1:]) else 1

    def forward(self, images):
        x = self.embed(images)
        for index, block in enumerate(self.blocks):
            x = block(x, self.rows(index))
        return self.head(self.norm(x)[:, 0])


def first(x, rows):
    return x if rows is None else x[:, :rows]
