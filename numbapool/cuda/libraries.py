"""The libraries whose arrays lie on CUDA devices: their memory, their streams, and the few operations on whole arrays that are left to them."""
from __future__ import annotations

import functools
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..libraries import Array, Library, Torch, _described, _inverse, dense, name_of


class Device(Library):
    """A library with arrays on CUDA device number `index`."""

    index: int

    def stream(self) -> int:
        """The handle of the caller's current stream."""
        raise NotImplementedError

    def total(self, memory: Any, axes: Sequence[int], shape: tuple[int, ...], dtype: str) -> Any:
        """The sum of an array over some axes, added up in float64."""
        raise NotImplementedError

    def to_numpy(self, memory: Any) -> np.ndarray:
        """A copy on the host: waits for the device; bfloat16 becomes float32."""
        raise NotImplementedError

    def converted(self, array: Array, dtype: str) -> Array:
        """A copy of an array with another dtype."""
        raise NotImplementedError


@dataclass(frozen=True, eq=False)
class TorchDevice(Device, Torch):
    """torch's tensors on one of its devices."""

    index: int

    def maker(self, shape: tuple[int, ...], dtype: str, order: tuple[int, ...] | None = None) -> Callable[[], tuple[Any, int]]:
        """As the base's."""
        torch = sys.modules["torch"]
        kind, strides, device = getattr(torch, dtype), dense(shape, order), torch.device("cuda", self.index)

        def make() -> tuple[Any, int]:
            memory = torch.empty_strided(shape, strides, dtype=kind, device=device)
            return memory, memory.data_ptr()
        return make

    def from_numpy(self, values: np.ndarray, dtype: str) -> Any:
        """As the base's."""
        torch = sys.modules["torch"]
        return super().from_numpy(values, dtype).to(torch.device("cuda", self.index))

    def stream(self) -> int:
        """As the base's."""
        return sys.modules["torch"].cuda.current_stream(self.index).cuda_stream

    def total(self, memory: Any, axes: Sequence[int], shape: tuple[int, ...], dtype: str) -> Any:
        """As the base's."""
        torch = sys.modules["torch"]
        summed = memory.sum(dim=tuple(axes), dtype=torch.float64) if axes else memory
        return summed.reshape(shape).to(getattr(torch, dtype))

    def to_numpy(self, memory: Any) -> np.ndarray:
        """As the base's."""
        host = memory.detach().cpu()
        return (host.float() if name_of(host.dtype, "array") == "bfloat16" else host).numpy()

    def converted(self, array: Array, dtype: str) -> Array:
        """As the base's."""
        from ..arrays import borrow
        return borrow(array.owner.detach().to(getattr(sys.modules["torch"], dtype)), "array")


@dataclass(frozen=True, eq=False)
class CupyDevice(Device):
    """CuPy's arrays on one device."""

    index: int

    def maker(self, shape: tuple[int, ...], dtype: str, order: tuple[int, ...] | None = None) -> Callable[[], tuple[Any, int]]:
        """As the base's."""
        cupy = sys.modules["cupy"]
        memory_shape, kind = shape if order is None else tuple(shape[a] for a in order), _dtype(dtype)

        def make() -> tuple[Any, int]:
            with cupy.cuda.Device(self.index):
                memory = cupy.empty(memory_shape, kind)
            return (memory if order is None else memory.transpose(_inverse(order))), memory.data.ptr
        return make

    def from_numpy(self, values: np.ndarray, dtype: str) -> Any:
        """As the base's."""
        cupy = sys.modules["cupy"]
        with cupy.cuda.Device(self.index):
            return cupy.asarray(np.array(values, _dtype(dtype), order="C"))

    def stream(self) -> int:
        """As the base's."""
        return sys.modules["cupy"].cuda.get_current_stream(self.index).ptr

    def total(self, memory: Any, axes: Sequence[int], shape: tuple[int, ...], dtype: str) -> Any:
        """As the base's."""
        return (memory.sum(axis=tuple(axes), dtype=np.float64) if axes else memory).reshape(shape).astype(_dtype(dtype))

    def to_numpy(self, memory: Any) -> np.ndarray:
        """As the base's."""
        host = memory.get()
        return host.astype(np.float32) if host.dtype.name == "bfloat16" else host

    def adopt(self, values: Any, dtype: str) -> Any:
        """As the base's."""
        return values if values.dtype == _dtype(dtype) else values.astype(_dtype(dtype))

    def converted(self, array: Array, dtype: str) -> Array:
        """As the base's."""
        return from_cupy(array.owner.astype(_dtype(dtype)), "array")


def _dtype(name: str) -> np.dtype:
    if name == "bfloat16":
        from ml_dtypes import bfloat16
        return np.dtype(bfloat16)
    return np.dtype(name)


# one a device: prepared calls are found by it, and objects that are compared by identity cost nothing there
torch_device, cupy_device = functools.cache(TorchDevice), functools.cache(CupyDevice)


def from_cupy(x: Any, where: str) -> Array:
    """See a CuPy array; copied where it is misaligned or its strides are no whole number of elements."""
    dtype, strides, size = _described(x.dtype, x.strides)
    if dtype is None:
        name_of(x.dtype, where)  # raises
    if strides is None or x.data.ptr % size:
        return from_cupy(x.copy(), where)
    return tuple.__new__(Array, (x.data.ptr, x.shape, strides, dtype, cupy_device(x.device.id), x))


def from_interface(x: Any, where: str) -> Array:
    """See another library's array through CuPy, whose arrays results then are: nothing else can allocate."""
    try:
        import cupy
    except ImportError as error:
        raise BufferError(f"{where} is a {type(x).__name__} on a CUDA device, for which results are CuPy's: "
                          "pip install cupy-cuda13x, or cupy-cuda12x, or pass a torch tensor") from error
    try:
        # DLPack first, which has CuPy's stream wait for what the other library's has yet to do
        return from_cupy(cupy.from_dlpack(x) if hasattr(x, "__dlpack__") else cupy.asarray(x), where)
    except Exception as error:
        raise BufferError(f"{where} cannot be borrowed by CuPy: {error}") from error

