"""The compiled library as Python sees it: its structures, functions and the numbers of the weights."""

import ctypes
from ctypes import POINTER, c_float, c_int32, c_size_t, c_void_p
from enum import IntEnum
from functools import cache
from pathlib import Path

from asterism.workers.engine.errors import NativeUnavailable
from asterism.workers.engine.native.build import build


class Config(ctypes.Structure):
    """As in native.h."""

    _fields_ = (
        ("vocab", c_int32),
        ("hidden", c_int32),
        ("intermediate", c_int32),
        ("layers", c_int32),
        ("heads", c_int32),
        ("kv_heads", c_int32),
        ("head_dim", c_int32),
        ("positions", c_int32),
        ("window", c_int32),
        ("blocks", c_int32),
        ("threads", c_int32),
        ("eps", c_float),
    )


class NativeStep(ctypes.Structure):
    """As Step in step.c; the pointers are to int32, but for `logits`."""

    _fields_ = (
        ("rows", c_int32),
        ("samples", c_int32),
        ("copies", c_int32),
        ("token_ids", c_void_p),
        ("positions", c_void_p),
        ("row_tables", c_void_p),
        ("blocks", c_void_p),
        ("sample_rows", c_void_p),
        ("copied", c_void_p),
        ("logits", c_void_p),
    )


class Held(IntEnum):
    """What weights are held in, as in native.h."""

    FLOAT32 = 0
    BFLOAT16 = 1
    INT8 = 2


class Weight(IntEnum):
    """As Kind in model.c."""

    INPUT_NORM = 0
    QUERY = 1
    KEY = 2
    VALUE = 3
    QUERY_BIAS = 4
    KEY_BIAS = 5
    VALUE_BIAS = 6
    QUERY_NORM = 7
    KEY_NORM = 8
    OUTPUT = 9
    OUTPUT_BIAS = 10
    POST_NORM = 11
    GATE = 12
    UP = 13
    GATE_BIAS = 14
    UP_BIAS = 15
    DOWN = 16
    DOWN_BIAS = 17
    FINAL_NORM = 18
    HEAD = 19
    COS = 20
    SIN = 21
    EMBEDDING = 22


class Library:
    """Functions of one compiled library; a model is a pointer that `destroy` frees."""

    def __init__(self, path: Path) -> None:
        try:
            loaded = ctypes.CDLL(str(path))
        except OSError as error:
            raise NativeUnavailable(f"the compiled library does not load: {error}") from error
        self.create = loaded.model_create
        self.create.argtypes, self.create.restype = (POINTER(Config), POINTER(c_int32)), c_void_p
        self.destroy = loaded.model_destroy
        self.destroy.argtypes, self.destroy.restype = (c_void_p,), None
        self.weights_bytes = loaded.model_weights_bytes
        self.weights_bytes.argtypes, self.weights_bytes.restype = (c_void_p,), c_size_t
        self.kv_bytes = loaded.model_kv_bytes
        self.kv_bytes.argtypes, self.kv_bytes.restype = (c_void_p,), c_size_t
        self.populate_kv = loaded.model_populate_kv
        self.populate_kv.argtypes, self.populate_kv.restype = (c_void_p,), c_int32
        self.weight = loaded.model_weight
        self.weight.argtypes, self.weight.restype = (c_void_p, c_int32, c_int32, c_void_p), c_int32
        self.step = loaded.model_step
        self.step.argtypes, self.step.restype = (c_void_p, POINTER(NativeStep)), c_int32


@cache
def library() -> Library:
    """The library of this machine, built at the first call; raises `NativeUnavailable`."""
    return Library(build())


def is_available() -> str | None:
    """Builds and loads the library; None, or the reason why that cannot be."""
    try:
        library()
    except NativeUnavailable as error:
        return error.reason
    return None
