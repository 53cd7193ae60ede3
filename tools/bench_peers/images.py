"""Labelled images: IDX files or folders of classes, prepared as a Hugging Face configuration beside the model says."""
import gzip
import json
import pathlib
import sys

import numpy as np
import torch


class Images:
    """Prepared images of one split: bytes until they are asked for."""

    def __init__(self, pixels, labels, mean, deviation):
        self.pixels, self.labels = pixels, labels
        self.mean, self.deviation = (torch.tensor(x).view(-1, 1, 1) for x in (mean, deviation))

    def __len__(self):
        return len(self.labels)

    def __getitem__(self, index):
        """The images of a slice or of indices, [n, channels, rows, columns]."""
        return (self.pixels[index] / 255 - self.mean) / self.deviation

    def batches(self, size=250):
        return (self[i:i + size] for i in range(0, len(self), size))

    def sample(self, count, seed=0):
        """So many of these images, in an order that the seed decides."""
        order = torch.randperm(len(self), generator=torch.Generator().manual_seed(seed))[:count]
        return Images(self.pixels[order], self.labels[order], self.mean.flatten().tolist(), self.deviation.flatten().tolist())


def read_idx(path, header):
    with gzip.open(path) if path.suffix == ".gz" else open(path, "rb") as file:
        return np.frombuffer(file.read(), np.uint8, offset=header)


def idx_split(folder, split):
    prefix = {"train": "train", "test": "t10k"}[split]
    images, labels = (sorted(folder.glob(f"{prefix}-{kind}*"))[0] for kind in ("images", "labels"))
    labels = read_idx(labels, 8)
    side = int((len(read_idx(images, 16)) / len(labels)) ** 0.5)
    return read_idx(images, 16).reshape(len(labels), side, side, 1), labels


def folder_split(folder, split, size, channels):
    from PIL import Image

    folder = folder / split if (folder / split).is_dir() else folder
    classes = sorted(path for path in folder.iterdir() if path.is_dir())
    files = [(path, label) for label, name in enumerate(classes) for path in sorted(name.iterdir())]
    mode = "L" if channels == 1 else "RGB"
    pictures = [Image.open(path).convert(mode).resize(size, Image.Resampling.BICUBIC) for path, _ in files]
    return np.stack([np.asarray(p).reshape(*size[::-1], channels) for p in pictures]), np.array([label for _, label in files])


def load(model, folder, split):
    """The images of a split of `folder`, prepared for the model at this path."""
    model, folder = pathlib.Path(model), pathlib.Path(folder)
    beside = [model.with_suffix(".preprocessor_config.json"), model.parent / "preprocessor_config.json"]
    found = [path for path in beside if path.exists()]
    if not found:
        sys.exit(f"{model}: expected '{beside[0].name}' beside it, found none")
    settings = json.loads(found[0].read_text())
    size, mean = (settings["size"]["width"], settings["size"]["height"]), settings["image_mean"]
    if any(folder.glob("*-images-idx3-ubyte*")):
        pixels, labels = idx_split(folder, split)
    else:
        pixels, labels = folder_split(folder, split, size, len(mean))
    if pixels.shape[1:] != (*size[::-1], len(mean)):
        sys.exit(f"{folder}: expected images of {size[0]} x {size[1]} x {len(mean)}, found {pixels.shape[1:]}")
    pixels = torch.from_numpy(np.array(pixels)).permute(0, 3, 1, 2).contiguous()
    return Images(pixels, torch.from_numpy(labels.astype(np.int64)), mean, settings["image_std"])
