"""Token merging (Bolya et al., "Token Merging: Your ViT But Faster"): each block makes one token of those that are alike."""
import torch
import torch.nn.functional as F
from torch import nn

from bench_peers.vit import first


class Merging(nn.Module):
    """A teacher that merges `count` pairs of tokens in every block but the last, between attention and perceptron."""

    def __init__(self, teacher, count):
        super().__init__()
        self.teacher, self.count = teacher, count

    def attend(self, mixer, x, sizes, rows):
        """Attention in which a token counts as often as it has parts; the mean of the heads' keys."""
        q, k, v = mixer.split(mixer.q(first(x, rows))), mixer.split(mixer.k(x)), mixer.split(mixer.v(x))
        scores = q @ k.transpose(-1, -2) * mixer.scale + sizes.log().transpose(1, 2).unsqueeze(1)
        return mixer.proj((scores.softmax(-1) @ v).transpose(1, 2).flatten(2)), k.mean(1)

    def merge(self, x, sizes, keys):
        """Tokens in turn are of set A or B; the pairs of an A and its nearest B that are most alike become one."""
        keys = F.normalize(keys, dim=-1)
        scores = keys[:, ::2] @ keys[:, 1::2].transpose(-1, -2)
        # The class token is the first of A, and stays by itself.
        scores = torch.cat([torch.full_like(scores[:, :1], -2.0), scores[:, 1:]], 1)
        best, partner = scores.max(-1)
        order = best.topk(scores.shape[1], dim=-1).indices
        merged, alone = order[:, :self.count], order[:, self.count:].sort(-1).values
        target = partner.gather(1, merged).unsqueeze(-1)

        def sums(y):
            width = y.shape[-1]
            a, b = y[:, ::2], y[:, 1::2]
            part = lambda index: a.gather(1, index.unsqueeze(-1).expand(-1, -1, width))
            return torch.cat([part(alone), b.scatter_add(1, target.expand(-1, -1, width), part(merged))], 1)

        total = sums(sizes)
        return sums(x * sizes) / total, total

    def forward(self, images):
        x = self.teacher.embed(images)
        sizes = torch.ones_like(x[..., :1])
        *blocks, last = self.teacher.blocks
        for block in blocks:
            attended, keys = self.attend(block.mixer, block.norm1(x), sizes, None)
            x, sizes = self.merge(x + attended, sizes, keys)
            x = x + block.mlp(block.norm2(x))
        x = x[:, :1] + self.attend(last.mixer, last.norm1(x), sizes, 1)[0]
        return self.teacher.head(self.teacher.norm(x + last.mlp(last.norm2(x)))[:, 0])
