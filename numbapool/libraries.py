"""What kernels see of an array, and the libraries that results are made in: NumPy, torch, JAX, and whatever speaks DLPack.

Importing this imports NumPy alone; the other libraries are looked up in `sys.modules`, for whoever holds a torch tensor has
imported torch.
"""
from __future__ import annotations

import ctypes
import functools
import sys
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from math import prod
from typing import Any, NamedTuple

import numpy as np

from .memory import LINE_BYTES, past_cache


class Dtype(NamedTuple):
    """How wide an element is, and what it holds."""

    itemsize: int  # bytes
    kind: str  # "float", "int", "uint" or "bool"


DTYPES = {"float16": Dtype(2, "float"), "bfloat16": Dtype(2, "float")}
DTYPES |= {f"{kind}{8 * size}": Dtype(size, kind)
           for kind, sizes in (("float", (4, 8)), ("int", (1, 2, 4, 8)), ("uint", (1, 2, 4, 8))) for size in sizes}
DTYPES |= {"bool": Dtype(1, "bool")}
NAMES: dict[Any, str] = {}  # dtype object of any library -> key of DTYPES, filled as dtypes are met


class Array(NamedTuple):
    """What a kernel needs to know of an array."""

    address: int  # of element [0, 0, ...], also where strides are negative
    shape: tuple[int, ...]
    strides: tuple[int, ...]  # in elements, any sign, zero allowed
    dtype: str  # a key of DTYPES
    library: Library  # the caller's: makes results
    owner: Any  # keeps the memory alive; of a result: the caller's object (NumPy, torch) or the NumPy array behind it


class Library:
    """Makes and hands over results: NumPy's way, and the base of the others'.  index : the number of the CUDA device, None on a CPU."""

    index: int | None = None

    def empty(self, shape: tuple[int, ...], dtype: str, order: tuple[int, ...] | None = None) -> Array:
        """Return uninitialised memory, dense in the axis order `order` (slowest axis first; None is C order)."""
        return from_numpy_array(self.maker(shape, dtype, order)()[0], "result", self)

    def maker(self, shape: tuple[int, ...], dtype: str, order: tuple[int, ...] | None = None) -> Callable[[], tuple[Any, int]]:
        """Return a function that makes such memory: an object for `hand_over`, and its address."""
        kind = _numpy_dtype(dtype)
        make = self.way(kind.itemsize * prod(shape))
        if order is None:
            return functools.partial(make, shape, kind)
        axes, memory_shape = _inverse(order), tuple(shape[axis] for axis in order)

        def turned() -> tuple[Any, int]:
            memory, address = make(memory_shape, kind)
            return memory.transpose(axes), address
        return turned

    def give(self, array: Array) -> Any:
        """Turn a result of `empty` into what the caller receives; nothing may write into it afterwards."""
        return self.hand_over(array.owner)

    def from_numpy(self, values: np.ndarray, dtype: str) -> Any:
        """Convert a small NumPy array (0-d, too) to this library and to `dtype`: always a copy."""
        return self.hand_over(np.array(values, _numpy_dtype(dtype), order="C"))

    def adopt(self, values: Any, dtype: str) -> Any:
        """Turn a fresh NumPy array into what the caller receives, without a copy where that can be; on a device, an array of the library's own."""
        return self.hand_over(values.astype(_numpy_dtype(dtype), copy=False))

    def fill(self, memory: Any, values: Any) -> None:
        """Set all elements of `out`."""
        memory[...] = values

    @staticmethod
    def way(size: int) -> Callable[[tuple[int, ...], np.dtype], tuple[np.ndarray, int]]:
        """How memory of so many bytes is made.

        What is written past the caches is written in whole lines; malloc's memory of that size begins 16 bytes into one.  Indices go there
        from half of the size on.
        """
        return aligned if past_cache(2 * size) else allocated

    def hand_over(self, memory: Any) -> Any:
        """Turn memory of a maker into what the caller receives."""
        return memory


class Torch(Library):
    """Results are CPU tensors outside of autograd."""

    def empty(self, shape: tuple[int, ...], dtype: str, order: tuple[int, ...] | None = None) -> Array:
        """As NumPy\'s."""
        from .arrays import borrow  # which stands on this module
        return borrow(self.maker(shape, dtype, order)()[0], "result")

    def maker(self, shape: tuple[int, ...], dtype: str, order: tuple[int, ...] | None = None) -> Callable[[], tuple[Any, int]]:
        """As NumPy\'s."""
        torch = sys.modules["torch"]
        from .arrays import borrow
        kind, strides, plain, named = getattr(torch, dtype), dense(shape, order), torch.Tensor, torch.device("cpu")

        def make() -> tuple[Any, int]:
            # The device is named since torch.set_default_device may have moved the default.  empty_permuted takes 0.4 us more.
            memory = torch.empty_strided(shape, strides, dtype=kind, device=named)
            if type(memory) is not plain:
                borrow(memory, "result")  # refuses tensors without memory (FakeTensorMode)
            return memory, memory.data_ptr()
        return make

    def from_numpy(self, values: np.ndarray, dtype: str) -> Any:
        """As NumPy\'s."""
        torch = sys.modules["torch"]
        return torch.from_numpy(np.array(values, order="C")).to(getattr(torch, dtype))

    def adopt(self, values: Any, dtype: str) -> Any:
        """As NumPy\'s."""
        torch = sys.modules["torch"]
        return (torch.from_numpy(values) if isinstance(values, np.ndarray) else values).to(getattr(torch, dtype))

    def fill(self, memory: Any, values: Any) -> None:
        """As NumPy\'s."""
        memory.copy_(sys.modules["torch"].from_numpy(values) if isinstance(values, np.ndarray) else values)


@dataclass(frozen=True)  # compared by the device, as calls are remembered by their library
class Jax(Library):
    """Results are NumPy memory that JAX adopts, without a copy in C order and with one in any other.

    Without jax_enable_x64 JAX has no 64-bit types: float64 becomes float32, as everywhere in JAX, and 64-bit integers
    become 32-bit ones once every value is seen to fit (else ValueError).  Results are committed to `device`; with None
    they stay uncommitted, as jax.numpy's own.
    """

    device: Any = None

    @staticmethod
    def way(size: int) -> Callable[[tuple[int, ...], np.dtype], tuple[np.ndarray, int]]:
        """JAX copies what does not begin at a multiple of 64 bytes; np.empty promises 16."""
        return aligned

    def hand_over(self, memory: np.ndarray) -> Any:
        """Let JAX adopt the memory."""
        jax = sys.modules["jax"]
        if memory.dtype in (np.int64, np.uint64) and not jax.config.jax_enable_x64:
            memory = _narrowed(memory)
        # Not jnp.asarray, which copies, nor jnp.from_dlpack, which commits and refuses bfloat16 (jax 0.10).
        return jax.device_put(memory, self.device)


@dataclass(frozen=True)
class Standard(Library):
    """Any other library with DLPack, through the array API namespace that its arrays name."""

    namespace: Any

    def hand_over(self, memory: np.ndarray) -> Any:
        """Let the library import the memory."""
        convert = getattr(self.namespace, "from_dlpack", None) or self.namespace.asarray
        return convert(memory)


NUMPY, TORCH = Library(), Torch()


def allocated(shape: tuple[int, ...], dtype: np.dtype) -> tuple[np.ndarray, int]:
    """Uninitialised NumPy memory, and its address."""
    memory = np.empty(shape, dtype)
    return memory, address_of(memory)


def aligned(shape: tuple[int, ...], dtype: np.dtype) -> tuple[np.ndarray, int]:
    """Uninitialised NumPy memory that begins at a line of memory, and its address."""
    size = dtype.itemsize * prod(shape)
    memory = np.empty(size + LINE_BYTES - 1, np.uint8)
    start = -address_of(memory) % LINE_BYTES
    return memory[start:start + size].view(dtype).reshape(shape), address_of(memory) + start


def from_numpy_array(x: np.ndarray, where: str, library: Library = NUMPY) -> Array:
    """See a NumPy array; copied where it is misaligned or has strides of no whole number of elements."""
    address, (dtype, strides, itemsize) = address_of(x), _described(x.dtype, x.strides)
    if dtype is None:
        name_of(x.dtype, where)  # raises
    if strides is None or address % itemsize:
        return from_numpy_array(np.array(x, order="K"), where, library)
    return _tuple(Array, (address, x.shape, strides, dtype, library, x))  # Array(...) takes 0.15 us more


_tuple = tuple.__new__


@lru_cache(1024)  # 0.15 us against 0.7 us
def _described(dtype: np.dtype, strides: tuple[int, ...]) -> tuple[str | None, tuple[int, ...] | None, int]:
    """A dtype's name (None: it is not supported), strides in elements (None: one is no multiple), the bytes of an element."""
    size = dtype.itemsize
    whole = size and not any(stride % size for stride in strides)
    return _supported(dtype), tuple(stride // size for stride in strides) if whole else None, size or 1


def name_of(dtype: Any, where: str) -> str:
    """The name of any library's dtype, or a TypeError."""
    known = _supported(dtype)
    if known:
        return known
    name = _name(dtype)
    if name not in DTYPES:
        raise TypeError(f"{where} has dtype {name}; supported are {', '.join(DTYPES)}")
    raise TypeError(f"{where} has foreign byte order ({dtype.byteorder}); pass x.astype('{name}')")


def _name(dtype: Any) -> str:
    return getattr(dtype, "name", None) or str(dtype).removeprefix("torch.")


def _supported(dtype: Any) -> str | None:
    if dtype not in NAMES and _name(dtype) in DTYPES and getattr(dtype, "isnative", True):
        NAMES[dtype] = _name(dtype)
    return NAMES.get(dtype)


def _address_by_protocol(x: np.ndarray) -> int:
    return x.__array_interface__["data"][0]


def _address_by_layout(x: np.ndarray) -> int:
    # After the object header comes `char *data`: NumPy's ABI, on which all compiled code relies.
    return _word_at(id(x) + _HEADER).value


_word_at, _HEADER, _PROBE = ctypes.c_size_t.from_address, object.__basicsize__, np.zeros((3, 5))[::-1, 1:]
# 0.15 us against 0.95 us by the protocol; taken only where the two agree.
address_of = _address_by_layout if _address_by_layout(_PROBE) == _address_by_protocol(_PROBE) else _address_by_protocol


def dense(shape: tuple[int, ...], order: tuple[int, ...] | None = None) -> tuple[int, ...]:
    """The strides, in elements, of memory without gaps in an axis order."""
    strides, step = [0] * len(shape), 1
    for axis in reversed(range(len(shape)) if order is None else order):
        strides[axis] = step
        step *= max(shape[axis], 1)
    return tuple(strides)


@lru_cache(256)
def _inverse(order: tuple[int, ...]) -> tuple[int, ...]:
    return tuple(sorted(range(len(order)), key=order.__getitem__))


def _numpy_dtype(name: str) -> np.dtype:
    if name == "bfloat16":
        from ml_dtypes import bfloat16  # in sys.modules already: the caller's array is of this dtype
        return np.dtype(bfloat16)
    return np.dtype(name)


def _narrowed(memory: np.ndarray) -> np.ndarray:
    narrow = np.dtype(f"{memory.dtype.kind}4")
    limits = np.iinfo(narrow)
    if memory.size and (memory.min() < limits.min or memory.max() > limits.max):
        raise ValueError(f"a {memory.dtype} result does not fit {narrow}, and JAX needs jax_enable_x64 for 64 bits")
    return memory.astype(narrow)
