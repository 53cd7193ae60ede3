"""Models and what runs them."""
from __future__ import annotations

import ctypes
import dataclasses
import os
import threading
from collections.abc import Mapping, Sequence
from ctypes import POINTER, byref, c_char_p, c_float, c_int64, c_size_t, c_void_p
from typing import Any, Union

import numpy as np

from ._library import ModelOptions, Tensor, call, encoded, lib, text

# The numbers of vitc_type that NumPy has a type for.
TYPES = {
    1: np.float32, 2: np.float64, 3: np.float16, 5: np.int64, 6: np.int32, 7: np.int16, 8: np.int8,
    9: np.uint64, 10: np.uint32, 11: np.uint16, 12: np.uint8, 13: np.bool_,
}
NUMBERS = {np.dtype(kind): number for number, kind in TYPES.items()}
MAX_RANK = 16
Path = Union[str, bytes, "os.PathLike[Any]"]


@dataclasses.dataclass(frozen=True)
class Value:
    """An input or output: extents that the caller chooses are None."""
    name: str
    dtype: np.dtype
    shape: tuple[int | None, ...]


class _Handle:
    """A pointer of the library's, freed with the object."""

    def __init__(self, free: str):
        self.pointer, self._free = c_void_p(), getattr(lib, free)

    def __del__(self):
        if self.pointer:
            self._free(self.pointer)


class Model:
    """A vision transformer, or what vitc has made of one. May be used from several threads at once."""

    def __init__(self, handle: _Handle, threads: int):
        self._handle, self._threads = handle, threads
        self._session: _Handle | None = None
        self._opening = threading.Lock()
        self.inputs = tuple(self._values("input"))
        self.outputs = tuple(self._values("output"))
        pointer = handle.pointer
        self.labels = tuple(text(lib.vitc_model_label(pointer, i)) for i in range(lib.vitc_model_label_count(pointer)))
        #: Warnings and notes of reading it.
        self.messages = tuple(
            text(lib.vitc_model_message(pointer, i)) for i in range(lib.vitc_model_message_count(pointer)))
        self.parameter_count = int(lib.vitc_model_parameter_count(pointer))

    def _values(self, what: str):
        entry = getattr(lib, f"vitc_model_{what}")
        for index in range(getattr(lib, f"vitc_model_{what}_count")(self._handle.pointer)):
            value = entry(self._handle.pointer, index).contents
            shape = tuple(None if n < 0 else int(n) for n in value.shape[:value.rank])
            yield Value(text(value.name) or "", np.dtype(TYPES.get(value.type, np.void)), shape)

    def __repr__(self) -> str:
        parts = [f"{v.name}: {v.dtype}{list(v.shape)}" for v in (*self.inputs, *self.outputs)]
        return f"<vitc.Model of {self.parameter_count:,} parameters, {', '.join(parts)}>"

    def run(self, *inputs: Any, **named: Any) -> Any:
        """The outputs for these arrays, in the model's order or by the names of inputs: an array, or a list of several."""
        given = self._ordered(inputs, named)
        arrays = [_usable(array, value) for array, value in zip(given, self.inputs)]
        session = self._opened()
        # What a tensor points to lives as long as these lists.
        kept = [_tensor(array) for array in arrays]
        tensors = (Tensor * len(arrays))(*(tensor for tensor, _ in kept))
        results = [np.empty(self._shape(session, tensors, index), value.dtype) for index, value in enumerate(self.outputs)]
        taken = [_tensor(array) for array in results]
        outputs = (Tensor * len(results))(*(tensor for tensor, _ in taken))
        call("vitc_session_run", session.pointer, tensors, len(arrays), outputs, len(results))
        return results[0] if len(results) == 1 else results

    __call__ = run

    def _ordered(self, inputs: Sequence[Any], named: Mapping[str, Any]) -> list[Any]:
        if not named:
            given = list(inputs)
        else:
            names = [value.name for value in self.inputs]
            if inputs or set(named) != set(names):
                raise TypeError(f"expected inputs {names}, all in order or all by name")
            given = [named[name] for name in names]
        if len(given) != len(self.inputs):
            raise TypeError(f"expected {len(self.inputs)} inputs, found {len(given)}")
        return given

    def _opened(self) -> _Handle:
        with self._opening:
            if self._session is None:
                session = _Handle("vitc_session_free")
                call("vitc_session_open", self._handle.pointer, self._threads, byref(session.pointer))
                self._session = session
            return self._session

    @staticmethod
    def _shape(session: _Handle, tensors, index: int) -> tuple[int, ...]:
        shape, rank = (c_int64 * MAX_RANK)(), c_size_t(MAX_RANK)
        call("vitc_session_output_shape", session.pointer, tensors, len(tensors), index, shape, byref(rank))
        return tuple(shape[:rank.value])

    @property
    def image_shape(self) -> tuple[int, ...]:
        """The shape of a prepared image, without the axis that counts them."""
        shape, rank = (c_int64 * MAX_RANK)(), c_size_t(MAX_RANK)
        call("vitc_image_shape", self._handle.pointer, shape, byref(rank))
        return tuple(shape[:rank.value])

    def prepare(self, image: Any) -> np.ndarray:
        """An image as the model wants it: of a path or the bytes of a JPEG, PNG or WebP file, or an array or Pillow image
        of uint8, [height, width] or [height, width, 1 or 3]."""
        target = np.empty(self.image_shape, np.float32)
        place = target.ctypes.data_as(POINTER(c_float))
        if isinstance(image, (str, os.PathLike)):
            with open(image, "rb") as file:
                image = file.read()
        if isinstance(image, (bytes, bytearray, memoryview)):
            data = bytes(image)
            call("vitc_image_prepare", self._handle.pointer, data, len(data), place, target.size)
            return target
        if hasattr(image, "convert") and getattr(image, "mode", "L") not in ("L", "RGB"):
            image = image.convert("RGB")
        pixels = np.asarray(image)
        if pixels.dtype != np.uint8 or pixels.ndim not in (2, 3):
            raise TypeError(f"expected uint8 [height, width] or [height, width, channels], found {pixels.dtype}{list(pixels.shape)}")
        pixels = np.ascontiguousarray(pixels)
        height, width = pixels.shape[:2]
        channels = pixels.shape[2] if pixels.ndim == 3 else 1
        call("vitc_image_prepare_pixels", self._handle.pointer, pixels.ctypes.data, width, height, channels, width * channels,
             place, target.size)
        return target


def load(
    model: Any, *, precision: str | None = None, input_shapes: Sequence[str] = (), preprocessing: Mapping[str, Any] | None = None,
    threads: int = 0, name: str | None = None,
) -> Model:
    """Opens an ONNX file, a .vmod or a textual model, by its path or as bytes.

    `precision` is what products are computed in ("f32", "bf16", "int8"); `input_shapes` say what an ONNX file leaves open
    ("images=batch,3,224,224"); `preprocessing` how images are prepared where the model does not say; `threads` compute, 0 for as many
    as cores may be used; errors call a model of bytes `name`."""
    options = ModelOptions(size=ctypes.sizeof(ModelOptions), threads=threads)
    options.precision = precision.encode() if precision else None
    shapes = [encoded(shape) for shape in input_shapes]
    settings = [encoded(f"{key}={value}") for key, value in (preprocessing or {}).items()]
    options.input_shapes, options.input_shape_count = (c_char_p * len(shapes))(*shapes), len(shapes)
    options.preprocessing, options.preprocessing_count = (c_char_p * len(settings))(*settings), len(settings)
    handle = _Handle("vitc_model_free")
    if isinstance(model, (bytes, bytearray, memoryview)):
        data = bytes(model)
        call("vitc_model_open_memory", data, len(data), encoded(name) if name else None, byref(options), byref(handle.pointer))
    else:
        call("vitc_model_open", encoded(model), byref(options), byref(handle.pointer))
    return Model(handle, threads)


def _usable(array: Any, value: Value) -> np.ndarray:
    """An array whose elements the library knows."""
    array = np.asarray(array)
    if not array.dtype.isnative:
        array = array.astype(array.dtype.newbyteorder("="))
    if array.dtype not in NUMBERS:
        raise TypeError(f"input '{value.name}' cannot be of {array.dtype}, expected floats, whole numbers or bools")
    if array.ndim > MAX_RANK:
        raise TypeError(f"input '{value.name}' has {array.ndim} axes, expected at most {MAX_RANK}")
    return array


def _tensor(array: np.ndarray) -> tuple[Tensor, Any]:
    """What the library is told of an array, and what must live as long as that."""
    shape, strides = (c_int64 * array.ndim)(*array.shape), (c_int64 * array.ndim)(*array.strides)
    tensor = Tensor(
        NUMBERS[array.dtype], array.ctypes.data, array.ndim, ctypes.cast(shape, POINTER(c_int64)),
        ctypes.cast(strides, POINTER(c_int64)))
    return tensor, (array, shape, strides)
