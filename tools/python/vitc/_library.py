"""The C library: where it is, what its functions take, and its errors."""
from __future__ import annotations

import ctypes
import ctypes.util
import os
import pathlib
from ctypes import CFUNCTYPE, POINTER, c_char_p, c_float, c_int32, c_int64, c_size_t, c_void_p

ABI_MAJOR = 0
CHECK_FAILED, INTERRUPTED = 1, 130


class ModelOptions(ctypes.Structure):
    """`vitc_model_options`."""
    _fields_ = [
        ("size", c_size_t), ("precision", c_char_p), ("input_shapes", POINTER(c_char_p)), ("input_shape_count", c_size_t),
        ("preprocessing", POINTER(c_char_p)), ("preprocessing_count", c_size_t), ("threads", c_int32),
    ]


class ValueInfo(ctypes.Structure):
    """`vitc_value`."""
    _fields_ = [("name", c_char_p), ("type", c_int32), ("rank", c_size_t), ("shape", POINTER(c_int64))]


class Tensor(ctypes.Structure):
    """`vitc_tensor`."""
    _fields_ = [
        ("type", c_int32), ("data", c_void_p), ("rank", c_size_t), ("shape", POINTER(c_int64)), ("strides", POINTER(c_int64)),
    ]


Output = CFUNCTYPE(None, c_void_p, c_void_p, c_size_t)
Told = CFUNCTYPE(None, c_void_p, c_char_p, c_char_p, c_char_p)
Progress = CFUNCTYPE(None, c_void_p, c_char_p, c_int64, c_int64, c_char_p)
Cancelled = CFUNCTYPE(c_int32, c_void_p)


class Callbacks(ctypes.Structure):
    """`vitc_callbacks`."""
    _fields_ = [
        ("size", c_size_t), ("context", c_void_p), ("output", Output), ("message", Told), ("progress", Progress),
        ("cancelled", Cancelled),
    ]


_HANDLE, _ERROR = c_void_p, POINTER(c_void_p)
# What each function gives back and takes.
FUNCTIONS = {
    "vitc_version": (c_char_p, []),
    "vitc_abi_version": (c_int32, []),
    **{f"vitc_error_{part}": (c_char_p, [_HANDLE]) for part in ("code", "message", "file", "node", "help", "text")},
    "vitc_error_free": (None, [_HANDLE]),
    "vitc_model_open": (c_int32, [c_char_p, POINTER(ModelOptions), POINTER(c_void_p), _ERROR]),
    "vitc_model_open_memory": (
        c_int32, [c_char_p, c_size_t, c_char_p, POINTER(ModelOptions), POINTER(c_void_p), _ERROR]),
    "vitc_model_free": (None, [_HANDLE]),
    **{f"vitc_model_{part}_count": (c_size_t, [_HANDLE]) for part in ("input", "output", "label", "message")},
    **{f"vitc_model_{part}": (POINTER(ValueInfo), [_HANDLE, c_size_t]) for part in ("input", "output")},
    **{f"vitc_model_{part}": (c_char_p, [_HANDLE, c_size_t]) for part in ("label", "message")},
    "vitc_model_parameter_count": (c_int64, [_HANDLE]),
    "vitc_session_open": (c_int32, [_HANDLE, c_int32, POINTER(c_void_p), _ERROR]),
    "vitc_session_free": (None, [_HANDLE]),
    "vitc_session_output_shape": (
        c_int32, [_HANDLE, POINTER(Tensor), c_size_t, c_size_t, POINTER(c_int64), POINTER(c_size_t), _ERROR]),
    "vitc_session_run": (c_int32, [_HANDLE, POINTER(Tensor), c_size_t, POINTER(Tensor), c_size_t, _ERROR]),
    "vitc_image_shape": (c_int32, [_HANDLE, POINTER(c_int64), POINTER(c_size_t), _ERROR]),
    "vitc_image_prepare": (c_int32, [_HANDLE, c_char_p, c_size_t, POINTER(c_float), c_size_t, _ERROR]),
    "vitc_image_prepare_pixels": (
        c_int32, [_HANDLE, c_void_p, c_size_t, c_size_t, c_size_t, c_size_t, POINTER(c_float), c_size_t, _ERROR]),
    "vitc_command": (c_int32, [POINTER(c_char_p), c_size_t, POINTER(Callbacks), _ERROR]),
}


def _found() -> ctypes.CDLL:
    """The library that VITC_LIBRARY names, else the package's own, else the system's."""
    own = pathlib.Path(__file__).with_name("libvitc.so")
    name = os.environ.get("VITC_LIBRARY") or (str(own) if own.exists() else ctypes.util.find_library("vitc"))
    if not name:
        raise ImportError(
            "libvitc is not found: 'pip install tools/python' in vitc's sources builds it, or let VITC_LIBRARY name one")
    library = ctypes.CDLL(name)
    for function, (result, arguments) in FUNCTIONS.items():
        try:
            entry = getattr(library, function)
        except AttributeError:
            raise ImportError(f"'{name}' has no {function}: it is of an earlier version") from None
        entry.restype, entry.argtypes = result, arguments
    found = library.vitc_abi_version() // 1000
    if found != ABI_MAJOR:
        raise ImportError(f"'{name}' has the interface {found}, expected {ABI_MAJOR}")
    return library


lib = _found()


def version() -> str:
    """The version of the library."""
    return lib.vitc_version().decode()


class Error(Exception):
    """What went wrong. `code` is stable between versions, the wording is not; `status` is the exit code of the command line."""

    def __init__(
        self, text: str, *, status: int, code: str, message: str, file: str | None = None, node: str | None = None,
        help: str | None = None,
    ):
        super().__init__(text)
        self.status, self.code, self.message = status, code, message
        self.file, self.node, self.help = file, node, help


def text(value: bytes | None) -> str | None:
    """Text of the library's; names of files that are no UTF-8 survive."""
    return None if value is None else value.decode("utf-8", "surrogateescape")


def check(status: int, error: c_void_p) -> None:
    """Raises what a call left behind."""
    if status == 0:
        return
    if not error.value:
        raise Error("a check failed", status=status, code="check", message="a check failed")
    try:
        parts = {part: text(getattr(lib, f"vitc_error_{part}")(error)) for part in ("code", "message", "file", "node", "help")}
        whole = text(lib.vitc_error_text(error)) or ""
    finally:
        lib.vitc_error_free(error)
    raise Error(whole, status=status, **parts)


def call(name: str, *arguments) -> None:
    """Calls a function that ends with a place for an error, and raises what it leaves there."""
    error = c_void_p()
    check(getattr(lib, name)(*arguments, ctypes.byref(error)), error)


def encoded(name) -> bytes:
    """The bytes of a path, or of a word."""
    return os.fsencode(name)
