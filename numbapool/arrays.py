"""The front door: any array in, every check of its memory, the same library's array out.

Kernels know no array type: they get an address, and shape and strides in elements, which `borrow` reads out of NumPy,
torch, JAX and whatever speaks `__array_interface__` or DLPack.  Importing this imports NumPy alone; the other libraries
are looked up in `sys.modules`, for whoever holds a torch tensor has imported torch.
"""
from __future__ import annotations

import functools
import sys
from collections.abc import Callable, Sequence
from numbers import Real
from typing import Any

import numpy as np

from .libraries import DTYPES, NAMES, NUMPY, TORCH, Array, Jax, Standard, Torch, from_numpy_array, name_of

_ON_HOST = (1, 3)  # kDLCPU and kDLCUDAHost (pinned memory) of dlpack.h
_ON_CUDA = (2, 13)  # kDLCUDA and kDLCUDAManaged
_NO_KERNELS = "numbapool has kernels for CPUs and CUDA devices; copy it there"


def borrow(x: Any, where: str, expected: str = "an array") -> Array:
    """Read where the memory of an array lies, without a copy where its strides can be followed.

    Copied are NumPy memory that is misaligned or has strides of no whole number of elements, and torch tensors with the
    negative bit (`z.conj().imag`).  Subclasses of ndarray count as ndarray.  Results are NumPy arrays for objects with
    `__array_interface__`, and for DLPack objects without `__array_namespace__`.

    Parameters
    ----------
    x : array of NumPy, torch or JAX, or with `__array_interface__` or `__dlpack__`, on the CPU; of torch or CuPy, or with
        `__cuda_array_interface__` or `__dlpack__`, on a CUDA device
    where : str
        Begins every message: "soft_pool2d: x".
    expected : str
        What the message asks for when `x` is no array.

    Raises
    ------
    TypeError
        No array, an unsupported dtype or byte order, a masked array, a JAX tracer.
    BufferError
        Another device, a sparse or virtual layout, a tensor that autograd tracks, a refused export.
    """
    if type(x) is np.ndarray:
        return from_numpy_array(x, where, NUMPY)
    # The default () stands for a library that is not loaded, or only half.
    if isinstance(x, getattr(sys.modules.get("torch"), "Tensor", ())):
        return _from_torch(x, where)
    if isinstance(x, np.ma.MaskedArray):
        raise TypeError(f"{where} is a MaskedArray, whose mask would be lost; pass x.filled(value)")
    if isinstance(x, np.ndarray):
        return from_numpy_array(x, where)
    if isinstance(x, getattr(sys.modules.get("jax"), "Array", ())):
        return _from_jax(x, where)
    if isinstance(x, getattr(sys.modules.get("cupy"), "ndarray", ())):
        return _devices().from_cupy(x, where)
    return _from_protocol(x, where, expected)


@functools.cache
def _devices() -> Any:
    """cuda/libraries.py, which nobody needs who has no CUDA device."""
    from .cuda import libraries
    return libraries


def _from_torch(x: Any, where: str) -> Array:
    torch = sys.modules["torch"]
    dtype = NAMES.get(x.dtype) or name_of(x.dtype, where)
    # A subclass with a dispatch of its own (FakeTensor, DTensor) need not have memory; Parameter inherits Tensor's.
    virtual = type(x).__torch_dispatch__ is not torch.Tensor.__torch_dispatch__
    if not (x.is_cpu or x.is_cuda) or x.layout is not torch.strided or x.is_nested or virtual:
        raise BufferError(f"{where} {_torch_obstacle(x, torch)}")
    if x.requires_grad and torch.is_grad_enabled() and not x.is_inference():
        raise BufferError(f"{where} requires grad, but autograd does not see what numbapool computes; "
                          "pass x.detach() or call within torch.no_grad()")
    if x.is_neg():
        x = x.resolve_neg()  # the memory holds the negated values; NumPy's own import overlooks that
    try:
        address, shape = x.data_ptr(), tuple(x.shape)
    except RuntimeError as error:  # within torch.func.vmap, grad, ...
        raise BufferError(f"{where} has no memory of its own: {error}") from error
    if not address and 0 not in shape:  # torch._efficientzerotensor, or a storage that was resized to nothing
        raise BufferError(f"{where} has no memory: its address is null")
    if not x.is_cpu:
        return tuple.__new__(Array, (address, shape, x.stride(), dtype, _devices().torch_device(x.get_device()), x))
    return tuple.__new__(Array, (address, shape, x.stride(), dtype, TORCH, x))


def _torch_obstacle(x: Any, torch: Any) -> str:
    if not (x.is_cpu or x.is_cuda):
        return f"is on device {x.device}; {_NO_KERNELS}"
    if x.is_nested:
        return "is a nested tensor; pass its tensors one by one"
    if x.layout is not torch.strided:
        return f"has layout {x.layout}; pass x.to_dense()"
    return f"is a {type(x).__name__}, which has no plain memory"


def _from_jax(x: Any, where: str) -> Array:
    if isinstance(x, sys.modules["jax"].core.Tracer):
        raise TypeError(f"{where} is a JAX tracer ({type(x).__name__}), and numbapool computes on values; "
                        "call it outside jit, grad and vmap, or through jax.pure_callback")
    name_of(x.dtype, where)  # before np.asarray, which fails on random keys in its own words
    if x.is_deleted():
        raise BufferError(f"{where} was deleted, or donated to another computation")
    devices = x.devices()
    if all(device.platform in ("gpu", "cuda") for device in devices):
        return _devices().from_interface(x, where)
    if any(device.platform != "cpu" for device in devices):
        raise BufferError(f"{where} is on device {x.device}; pass it through DLPack to torch or CuPy, or copy it to the CPU")
    memory = _imported(np.asarray, x, where, "__array__")  # arrays that lie on several hosts fail here
    device = next(iter(devices)) if x.committed and len(devices) == 1 else None
    return from_numpy_array(memory, where, Jax(device))


def _from_protocol(x: Any, where: str, expected: str) -> Array:
    scalar_or_class = isinstance(x, (np.generic, type))  # these have the attributes, but are no arrays
    if not scalar_or_class and hasattr(x, "__array_interface__"):
        return from_numpy_array(_imported(np.asarray, x, where, "__array_interface__"), where)
    if not scalar_or_class and hasattr(x, "__dlpack__") and hasattr(x, "__dlpack_device__"):
        return _from_dlpack(x, where)
    if not scalar_or_class and hasattr(x, "__cuda_array_interface__"):
        return _devices().from_interface(x, where)
    raise TypeError(f"{where} must be {expected}, got {type(x).__name__}")


def _from_dlpack(x: Any, where: str) -> Array:
    kind, number = map(int, x.__dlpack_device__())
    if kind in _ON_CUDA:
        return _devices().from_interface(x, where)
    if kind not in _ON_HOST:
        raise BufferError(f"{where} is on DLPack device ({kind}, {number}); {_NO_KERNELS}")
    memory = _imported(np.from_dlpack, x, where, "DLPack (where NumPy takes no bfloat16)")
    namespace = x.__array_namespace__() if hasattr(x, "__array_namespace__") else None
    return from_numpy_array(memory, where, NUMPY if namespace is None else Standard(namespace))


def _imported(convert: Callable[[Any], np.ndarray], x: Any, where: str, protocol: str) -> np.ndarray:
    try:
        return convert(x)
    except Exception as error:  # foreign code runs here and may raise anything
        raise BufferError(f"{where} cannot be borrowed through {protocol}: {error}") from error


def writable(out: Any, shape: tuple[int, ...], dtype: str, where: str, inputs: Sequence[Array]) -> Array:
    """Check an `out=` argument and borrow it.

    Both overlap checks are cheap and refuse more than they must: axes that interleave (strides (2, 3) with shape
    (2, 2)), and an input whose byte range `out` enters although they share no element (x[::2] and x[1::2]).

    Raises
    ------
    TypeError
        Neither a NumPy array nor a torch tensor, or not of `dtype`.
    ValueError
        Not of `shape`, read-only, not to be borrowed without a copy, or overlapping itself or an input.
    BufferError
        As `borrow`; and a tensor that requires grad, under torch.no_grad() too.
    """
    array = offered(out, where)
    check_kind(array, shape, dtype, where)
    check_place(array, where, inputs)
    return array


def offered(out: Any, where: str) -> Array:
    """The first part of `writable`: borrow it."""
    tensor = isinstance(out, getattr(sys.modules.get("torch"), "Tensor", ()))
    if not tensor and not isinstance(out, np.ndarray | getattr(sys.modules.get("cupy"), "ndarray", np.ndarray)):
        raise TypeError(f"{where} must be a NumPy or CuPy array or a torch tensor, got {type(out).__name__}")
    if tensor and out.requires_grad:
        raise BufferError(f"{where} requires grad, but autograd does not see what numbapool writes; pass out.detach()")
    array = borrow(out, where)
    if array.owner is not out:
        raise ValueError(f"{where} must be aligned, have strides of whole elements and no negative bit")
    return array


def check_kind(array: Array, shape: tuple[int, ...], dtype: str, where: str) -> None:
    """The second part of `writable`: what is the same for all arrays of a layout."""
    if array.dtype != dtype:
        raise TypeError(f"{where} must have dtype {dtype}, got {array.dtype}")
    if array.shape != tuple(shape):
        raise ValueError(f"{where} must have shape {tuple(shape)}, got {array.shape}")


def check_place(array: Array, where: str, inputs: Sequence[Array]) -> None:
    """The last part of `writable`: what depends on its memory."""
    if array.library is NUMPY and not array.owner.flags.writeable:
        raise ValueError(f"{where} is read-only")
    if _repeats(array.shape, array.strides):
        raise ValueError(f"{where} must not overlap itself, got shape {array.shape} with strides {array.strides}")
    low, high = extent(array)
    if any(low < end and start < high for start, end in map(extent, inputs)):
        raise ValueError(f"{where} overlaps the memory of an input")
    if isinstance(array.library, Torch):  # lets autograd notice that what it saved of `out` is gone
        sys.modules["torch"].autograd.graph.increment_version(array.owner)


@functools.lru_cache(1024)
def _repeats(shape: tuple[int, ...], strides: tuple[int, ...]) -> bool:
    """Whether elements may share memory: an axis does not step over all that the axes of smaller strides reach."""
    reach = 0
    for stride, size in sorted((abs(stride), size) for stride, size in zip(strides, shape, strict=True) if size > 1):
        if stride <= reach:
            return 0 not in shape
        reach += stride * (size - 1)
    return False


def values(x: Any, where: str) -> np.ndarray:
    """Read a numeric parameter: a number, or an array of any library.

    Returns
    -------
    np.ndarray
        0-d float64 of a Python number, float32 of float16 and bfloat16, else a read-only view of the caller's memory.

    Raises
    ------
    TypeError
        bool, complex, strings, sequences.
    """
    if isinstance(x, np.generic):
        x = np.asarray(x)
    elif isinstance(x, Real) and not isinstance(x, bool):
        try:
            return np.asarray(float(x))
        except OverflowError:
            raise ValueError(f"{where} must be finite, got {x}") from None
    array = borrow(x, where, "a number or an array")
    if array.dtype == "bool":
        raise TypeError(f"{where} must hold numbers, got dtype bool")
    if array.library.index is not None:
        return array.library.to_numpy(array.owner)  # waits for the device
    return numbers(array)


def beside(x: Any, other: Array, dtype: str, where: str) -> Array | None:
    """Borrow an array parameter that is of the same library and on the same device as another array, with its elements as a dtype; else None."""
    if isinstance(x, np.ndarray | np.generic | Real):
        return None
    array = borrow(x, where, "a number or an array")
    if array.library is not other.library:
        return None
    if array.dtype == "bool":
        raise TypeError(f"{where} must hold numbers, got dtype bool")
    return array if array.dtype == dtype else array.library.converted(array, dtype)


def shape_of(x: Any, where: str) -> tuple[int, ...]:
    """The shape of a numeric parameter: () of a number."""
    if isinstance(x, Real):
        return ()
    return x.shape if isinstance(x, np.ndarray) else borrow(x, where, "a number or an array").shape


def numbers(array: Array) -> np.ndarray:
    """The elements in NumPy's arithmetic: float32 copies of half types, else a read-only view."""
    stored = view(array)
    if array.dtype == "bfloat16":  # the upper half of a float32
        return np.left_shift(stored, 16, dtype=np.uint32).view(np.float32)
    return stored.astype(np.float32) if array.dtype == "float16" else stored


def as_float(array: Array) -> Array:
    """Return floating arrays unchanged, integers and bool as a dense copy in NumPy memory with the same axis order.

    The copy is float32, or float64 (exact up to 2**53) for 64-bit integers; the library stays the caller's.
    """
    return array if DTYPES[array.dtype].kind == "float" else _copied(array, float_name(array.dtype))


def float_name(dtype: str) -> str:
    """Return the dtype of the floats that integers of a dtype become."""
    return "float64" if DTYPES[dtype].itemsize == 8 else "float32"


def as_whole(array: Array) -> Array:
    """Return floating arrays and int64 unchanged, other integers and bool as a dense int64 copy, as `as_float` copies."""
    return array if array.dtype == "int64" or DTYPES[array.dtype].kind == "float" else _copied(array, "int64")


def _copied(array: Array, dtype: str) -> Array:
    """The elements as another dtype."""
    if array.library.index is not None:
        return array.library.converted(array, dtype)
    copy = NUMPY.empty(array.shape, dtype, memory_order(array))
    copy.owner[...] = view(array)
    return copy._replace(library=array.library)


def as_int64(array: Array) -> Array:
    """Return int32 (the indices of JAX without 64-bit types) as an int64 copy in NumPy memory, all else unchanged."""
    if array.dtype != "int32":
        return array
    if array.library.index is not None:
        return array.library.converted(array, "int64")
    return from_numpy_array(view(array).astype(np.int64), "indices")


def layout(array: Array) -> Array:
    """Return what calls of other memory share: no address, no owner."""
    return array._replace(address=0, owner=None)


def extent(array: Array) -> tuple[int, int]:
    """Return the lowest byte address of the elements and one past the highest; equal for an empty array."""
    low, high = _reach(array.shape, array.strides)
    itemsize = DTYPES[array.dtype].itemsize
    return array.address + low * itemsize, array.address + high * itemsize


@functools.lru_cache(1024)
def _reach(shape: tuple[int, ...], strides: tuple[int, ...]) -> tuple[int, int]:
    """The lowest element's distance from the first one, and one past the highest's."""
    if 0 in shape:
        return 0, 0
    ends = [stride * (size - 1) for stride, size in zip(strides, shape, strict=True)]
    return sum(end for end in ends if end < 0), sum(end for end in ends if end > 0) + 1


def memory_order(array: Array) -> tuple[int, ...]:
    """Return the axes from the slowest to the fastest in memory, as `Library.empty` takes them."""
    return _memory_order(array.shape, array.strides)


@functools.lru_cache(1024)
def _memory_order(shape: tuple[int, ...], strides: tuple[int, ...]) -> tuple[int, ...]:
    order = [axis for axis, stride in enumerate(strides) if stride and shape[axis] > 1]
    order.sort(key=lambda axis: -abs(strides[axis]))
    # The stride of a single or a repeated element tells nothing of the order: there C order decides.
    for axis in range(len(shape)):
        if axis not in order:
            order.insert(order.index(axis - 1) + 1 if axis else 0, axis)
    return tuple(order)


class _Memory:
    """Shows an Array to np.asarray and keeps its owner alive."""

    def __init__(self, array: Array, writable: bool) -> None:
        self.owner = array.owner
        dtype = np.dtype("uint16" if array.dtype == "bfloat16" else array.dtype)
        strides = tuple(stride * dtype.itemsize for stride in array.strides)
        self.__array_interface__ = {"version": 3, "data": (array.address, not writable), "typestr": dtype.str,
                                    "shape": array.shape, "strides": strides}


def view(array: Array, writable: bool = False) -> np.ndarray:
    """Return the elements as a NumPy view, read-only unless said otherwise; bfloat16 as uint16."""
    if type(array.owner) is np.ndarray and array.dtype != "bfloat16" and not writable:  # 0.5 us against 4 us
        memory = array.owner.view()
        memory.flags.writeable = False
        return memory
    return np.asarray(_Memory(array, writable))
