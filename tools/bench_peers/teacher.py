"""A trained vision transformer in ONNX as a `ViT`: its weights are found by where they stand in the dataflow, not by name."""
import sys

import numpy as np
import onnx
import onnxruntime as ort
import torch
from onnx import numpy_helper
from torch import nn

from bench_peers.vit import Attention, Block, ViT


def session(model):
    """An ONNX Runtime session of a path or of bytes, on one thread."""
    options = ort.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 3
    return ort.InferenceSession(model, options, providers=["CPUExecutionProvider"])


class Parts:
    """The weights of a graph in the order of its nodes: of convolutions, norms, linear maps, and scales behind these."""

    def __init__(self, graph):
        self.constants = {tensor.name: numpy_helper.to_array(tensor) for tensor in graph.initializer}
        self.convolutions, self.norms, self.maps, self.softmaxes = [], [], [], []
        for node in graph.node:
            weights = [self.constants[name] for name in node.input if name in self.constants]
            attributes = {a.name: onnx.helper.get_attribute_value(a) for a in node.attribute}
            match node.op_type, weights:
                case "Cast", [tensor]:
                    self.constants[node.output[0]] = tensor.astype(np.float32)
                case "Conv", [weight, bias]:
                    self.convolutions.append((weight, bias, attributes["strides"]))
                case "LayerNormalization", [gain, bias]:
                    self.norms.append((gain, bias, attributes.get("epsilon", 1e-5)))
                case "MatMul", [weight]:
                    self.maps.append([weight.T, np.zeros(weight.shape[1], np.float32)])
                case "Gemm", [weight, bias]:
                    self.maps.append([weight if attributes.get("transB") else weight.T, bias])
                case "Add", [bias] if self.maps and bias.shape == self.maps[-1][1].shape:
                    self.maps[-1][1] = self.maps[-1][1] + bias
                case "Mul", [scale] if self.maps and scale.shape == self.maps[-1][1].shape:
                    self.maps[-1] = [self.maps[-1][0] * scale[:, None], self.maps[-1][1] * scale]
                case "Softmax", _:
                    self.softmaxes.append(node.output[0])


def set_weights(module, weight, bias):
    module.weight, module.bias = (nn.Parameter(torch.from_numpy(np.array(w, np.float32))) for w in (weight, bias))


def block_of(maps, norms, heads):
    """A block of its linear maps (queries, keys and values in one map or in three, then output, and the perceptron's two)."""
    *inputs, output, fc1, fc2 = maps
    dim = len(output[1])
    weight, bias = (np.concatenate([m[i] for m in inputs]) for i in (0, 1))
    width = len(bias) // 3 // heads
    block = Block(dim, Attention(dim, heads, width, width, width**-0.5), len(fc1[1]), norms[0][2])
    for name, part in zip("qkv", zip(np.split(weight, 3), np.split(bias, 3))):
        set_weights(getattr(block.mixer, name), *part)
    for module, values in [(block.mixer.proj, output), (block.mlp.fc1, fc1), (block.mlp.fc2, fc2), (block.norm1, norms[0]),
                           (block.norm2, norms[1])]:
        set_weights(module, *values[:2])
    return block


def rebuild(path):
    """The `ViT` of an ONNX file; the scale of a layer is part of the map before it."""
    model = onnx.load(path)
    parts = Parts(model.graph)
    (kernel, bias, strides), = parts.convolutions
    depth, (*maps, head) = (len(parts.norms) - 1) // 2, parts.maps
    step = len(maps) // depth
    shape = [d.dim_value for d in model.graph.input[0].type.tensor_type.shape.dim][1:]
    image = np.random.default_rng(0).standard_normal((1, *shape)).astype(np.float32)
    model.graph.output.append(onnx.ValueInfoProto(name=parts.softmaxes[0]))
    probe = session(model.SerializeToString()).run([parts.softmaxes[0]], {model.graph.input[0].name: image})[0]
    heads, tokens, dim = probe.shape[1], probe.shape[2], len(bias)
    blocks = [block_of(maps[step * i:step * (i + 1)], parts.norms[2 * i:2 * i + 2], heads) for i in range(depth)]
    patches = nn.Conv2d(*kernel.shape[1::-1], kernel.shape[2:], list(strides))
    vit = ViT(patches, tokens, dim, blocks, parts.norms[-1][2], len(head[1]))
    for module, values in [(vit.patches, (kernel, bias)), (vit.norm, parts.norms[-1]), (vit.head, head)]:
        set_weights(module, *values[:2])
    for name, size in [("class_token", (1, 1, dim)), ("positions", (1, tokens, dim))]:
        tensor, = [t for t in parts.constants.values() if t.shape == size and t.dtype == np.float32]
        setattr(vit, name, nn.Parameter(torch.from_numpy(tensor.copy())))
    return vit.eval()


def load(path, images):
    """The `ViT` of an ONNX file, or an error where it does not compute on `images` what ONNX Runtime does."""
    try:
        vit = rebuild(path)
        runtime = session(str(path))
        wanted = runtime.run(None, {runtime.get_inputs()[0].name: images.numpy()})[0]
        with torch.inference_mode():
            error = np.abs(vit(images).numpy() - wanted).max() / np.abs(wanted).max()
    except (ValueError, IndexError, KeyError, TypeError, RuntimeError, ZeroDivisionError) as reason:
        sys.exit(f"{path}: expected a plain pre-LN vision transformer with a class token, found something else ({reason})")
    if not error < 1e-4:
        sys.exit(f"{path}: expected a plain pre-LN vision transformer with a class token; as one it differs by {error:.1e}")
    return vit
