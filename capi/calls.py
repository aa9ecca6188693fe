"""The public functions' calls made through the C library, for tests and benchmarks: arguments by the same names, NumPy arrays in and out."""
from __future__ import annotations

import importlib.util
import inspect
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np

import numbapool
from numbapool import fields, pairs

from . import cffi_module, functions

CODES = {"f": 2, "i": 0, "u": 1, "b": 6}  # DLPack's, by NumPy's kinds
ERRORS = {1: ValueError, 2: TypeError, 3: BufferError, 4: MemoryError, 5: NotImplementedError, 6: RuntimeError}
AS_THEY_ARE = ("x", "logit")  # all other tensors of real numbers are parameters
KEPT_APART = ("logit", "weight", "omega", "samples", "sequences", "indices")  # which are no fields, or not by themselves
OF = {f.name: f for f in functions.table()}


def load(folder: Path) -> Any:
    """The module of numbapool.h's declarations, compiled against the library that $NUMBAPOOL_CAPI or build/capi holds, into `folder`."""
    spec = importlib.util.spec_from_file_location("numbapool_capi", cffi_module.compiled(folder))
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


class Capi:
    """Calls by the names and arguments of numbapool's public functions."""

    def __init__(self, module: Any) -> None:
        self.lib, self.ffi = module.lib, module.ffi
        self.settings: dict[str, Any] = {}  # further fields of params

    def check(self, status: int) -> None:
        """Raise what Python's functions would."""
        if status:
            raise ERRORS[status](self.ffi.string(self.lib.numbapool_error_message()).decode())

    def tensor(self, array: Any) -> Any:
        """A DLTensor over an array, which it keeps alive."""
        array = np.asarray(array)
        bfloat = array.dtype.name == "bfloat16"
        parts = [self.ffi.new("int64_t[]", [*numbers, 0]) for numbers in (array.shape, [s // array.itemsize for s in array.strides])]
        address = array.__array_interface__["data"][0]
        t = self.ffi.new("DLTensor *", {
            "data": self.ffi.cast("void *", address), "device": {"device_type": 1, "device_id": 0}, "ndim": array.ndim,
            "dtype": {"code": 4 if bfloat else CODES[array.dtype.kind], "bits": 8 * array.itemsize, "lanes": 1}, "shape": parts[0],
            "strides": parts[1], "byte_offset": 0})
        return SimpleNamespace(t=t, keep=(parts, array))

    def caller(self, name: str, tensors: dict[str, Any], params: Any, *more: Any) -> Callable[[], int]:
        """A call of a C function with its tensors by name, which can be made again and again."""
        kept = {n: self.tensor(a) for n, a in tensors.items() if a is not None}
        arguments = [kept[a.name].t if a.name in kept else self.ffi.NULL for a in OF[name].arguments]
        function = getattr(self.lib, name)

        def call(kept: Any = (kept, params)) -> int:
            return function(*arguments, params, *more)
        return call

    def call(self, name: str, tensors: dict[str, Any], params: Any, *more: Any) -> None:
        """A C function with its tensors by name."""
        self.check(self.caller(name, tensors, params, *more)())

    # ------------------------------------------------------------ arguments

    def params(self, function: Callable[..., Any], given: dict[str, Any], ndim: int) -> Any:
        """numbapool_params from the arguments of a public function."""
        p = self.ffi.new("numbapool_params *")
        self.check(self.lib.numbapool_params_init(p, self.ffi.sizeof("numbapool_params")))
        keep = []
        for name, value in given.items():
            if name in ("sequences", "indices") and isinstance(value, list | tuple):
                keep += self.sequences(p, value)
        operation = pairs.functions()[function.__name__][0].operation
        settings = {n: v for n, v in given.items() if n in (*operation.window, *operation.parameters, "channels_last") and n not in KEPT_APART}
        for name, value in fields.of(operation, settings).items():
            if isinstance(value, list):
                getattr(p, name)[0:ndim] = value
            else:
                setattr(p, name, value)
        for name, value in self.settings.items():
            setattr(p, name, value)
        return SimpleNamespace(p=p, keep=keep)

    def sequences(self, p: Any, arrays: Sequence[Any]) -> list[Any]:
        """One array an axis."""
        kept = [self.ffi.new("int64_t[]", np.asarray(a).tolist()) for a in arrays]
        for i, (memory, a) in enumerate(zip(kept, arrays, strict=True)):
            p.sequences[i], p.sequence_sizes[i] = memory, len(a)
        return kept

    # ------------------------------------------------------------ calls

    @staticmethod
    def scalar(dtype: np.dtype) -> Any:
        """The dtype of a parameter's gradient where the parameter is a number."""
        return np.float64

    def bound(self, function: str, x: np.ndarray, args: tuple, kwargs: dict[str, Any]) -> tuple[str, dict[str, Any], Any]:
        """A function's C name, its tensors, its params."""
        pooling, ndim = re.fullmatch(r"(?:adaptive_|global_)?(\w+?)(?:_pool)?(\d)d", function).groups()
        given = inspect.signature(getattr(numbapool, function)).bind(x, *args, **kwargs).arguments
        name = next(n for n in (f"numbapool_{pooling}_pool", f"numbapool_{pooling}") if n in OF)
        numbers = {p.name for p in functions.parameters_of(OF[name].pooling) if functions.numbered(p)}
        tensors = {a.name: np.asarray(given[a.name]) for a in OF[name].arguments if a.const and a.name != "x" and given.get(a.name) is not None}
        tensors = {n: a if n == "logit" else np.asarray(a, np.int64) if n == "indices" else real(a) for n, a in tensors.items()
                   if a.ndim or n not in numbers}
        return name, {"x": np.asarray(x), **tensors}, self.params(getattr(numbapool, function), given, int(ndim))

    def shape(self, name: str, x: np.ndarray, params: Any) -> tuple[int, ...]:
        """The shape of y."""
        shape = self.ffi.new("int64_t[5]")
        stem = name.removesuffix("_pool")
        self.call(f"{stem}_shape", {"x": x}, params.p, shape)
        return tuple(shape[0:x.ndim])

    def forward(self, function: str, x: np.ndarray, *args: Any, indexed: bool = False, **kwargs: Any) -> list[np.ndarray]:
        """[y], or [y, indices]; outputs begin as NaN, or as 77."""
        name, tensors, params = self.bound(function, x, args, kwargs)
        shape = self.shape(name, tensors["x"], params)
        order = np.argsort([-abs(s) for s in tensors["x"].strides], kind="stable")  # memory as Python would make it
        results = {"y": poisoned(shape, tensors["x"].dtype, order=order)} | ({"indices": poisoned(shape, np.int64, order=order)} if indexed else {})
        self.call(name, tensors | results, params.p)
        return list(results.values())

    def backward(self, function: str, grad: np.ndarray, x: np.ndarray, *args: Any, learns: Sequence[str] = (), indices: Any = None,
                 like: np.ndarray | None = None, **kwargs: Any) -> list[np.ndarray]:
        """The gradients of x and of the parameters named; `like` tells how grad_x lies in memory."""
        gradient = kwargs.pop("gradient", None)  # an argument of the backward pass alone
        if isinstance(indices, list):  # S3's, which are windows
            kwargs["indices"], indices = indices, None
        name, tensors, params = self.bound(function, x, args, kwargs)
        if gradient is not None:
            params.p.gradient = ("exact", "constant").index(gradient)
        if indices is not None:
            tensors["indices"] = np.asarray(indices, np.int64)
        dtype = grad.dtype if tensors["x"].dtype.kind in "iub" else tensors["x"].dtype
        results = {"grad_x": poisoned(tensors["x"].shape, dtype, like)}
        results |= {f"grad_{n}": poisoned(np.shape(tensors.get(n, 0.0)), tensors[n].dtype if n in tensors else self.scalar(dtype),
                                          like if n == "logit" else None) for n in learns}
        self.call(f"{name}_backward", {**tensors, "grad": grad, **results}, params.p)
        return list(results.values())


def real(array: np.ndarray) -> np.ndarray:
    """float32 stays, the rest becomes float64."""
    return array if array.dtype == np.float32 else array.astype(np.float64)


def poisoned(shape: tuple[int, ...], dtype: Any, like: np.ndarray | None = None, order: Any = None) -> np.ndarray:
    """Memory in which nothing is a result; like : an array that lies as it shall; order : its axes from slowest to fastest."""
    if order is not None:
        array = np.transpose(np.empty([shape[i] for i in order], dtype), np.argsort(order))
    else:
        array = np.empty(shape, dtype) if like is None else np.empty_like(like, dtype)
    array[...] = np.nan if array.dtype.kind not in "iub" else True if array.dtype.kind == "b" else 77
    return array
