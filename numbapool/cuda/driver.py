"""The CUDA driver, as far as pooling needs it, called through ctypes: no toolkit, no CUDA runtime and no bindings to install.

Streams and device memory come from whoever owns the arrays; work happens in a device's primary context, as torch's and
CuPy's does, so that their handles and addresses are valid here.

Threads: all of it may be called by any number of threads at once, but a `Launch` belongs to one thread at a time.  A context
is current for one thread.  Caches only grow, and a lock is taken where the driver or a device is first used, never to launch.

Graphs: a captured launch keeps its arguments, so a `Table` has to outlive every graph that reads it.
"""
from __future__ import annotations

import contextlib
import ctypes
import os
import threading
import weakref
from collections.abc import Iterator
from contextlib import AbstractContextManager
from types import SimpleNamespace
from typing import Any

import numpy as np

LIBRARY = "nvcuda.dll" if os.name == "nt" else "libcuda.so.1"
OLDEST = 11000  # CUDA 11.0
FORKED = "CUDA was initialised before this process was forked; use the spawn start method"

_OUT_OF_MEMORY, _CAPTURE_IMPLICIT = 2, 906  # results of cuda.h
_MULTIPROCESSORS, _MAJOR, _MINOR = 16, 75, 76  # attributes of a device
_POINTER, _SIZE, _END = 1, 2, 0  # keys of a launch's extra words
_NON_BLOCKING, _RELAXED = 1, 2  # a stream's flag, a thread's capture mode

_int, _uint, _size, _text, _handle, _address = (ctypes.c_int, ctypes.c_uint, ctypes.c_size_t, ctypes.c_char_p, ctypes.c_void_p,
                                                ctypes.c_uint64)
_out = ctypes.POINTER
_ALWAYS = {  # what drivers of every age have
    "cuDriverGetVersion": (_out(_int),),
    "cuGetErrorName": (_int, _out(_text)),
    "cuGetErrorString": (_int, _out(_text)),
}
_FUNCTIONS = {
    "cuInit": (_uint,),
    "cuDeviceGetCount": (_out(_int),),
    "cuDeviceGet": (_out(_int), _int),
    "cuDeviceGetName": (_text, _int, _int),
    "cuDeviceGetAttribute": (_out(_int), _int, _int),
    "cuDevicePrimaryCtxRetain": (_out(_handle), _int),
    "cuCtxGetCurrent": (_out(_handle),),
    "cuCtxPushCurrent_v2": (_handle,),
    "cuCtxPopCurrent_v2": (_out(_handle),),
    "cuModuleLoadData": (_out(_handle), _text),
    "cuModuleGetFunction": (_out(_handle), _handle, _text),
    "cuLaunchKernel": (_handle, *[_uint] * 7, *[_handle] * 3),
    "cuMemAlloc_v2": (_out(_address), _size),
    "cuMemFree_v2": (_address,),
    "cuMemcpyHtoDAsync_v2": (_address, _handle, _size, _handle),
    "cuMemsetD8Async": (_address, ctypes.c_ubyte, _size, _handle),
    "cuStreamCreate": (_out(_handle), _uint),
    "cuStreamSynchronize": (_handle,),
    "cuStreamIsCapturing": (_handle, _out(_int)),
    "cuThreadExchangeStreamCaptureMode": (_out(_int),),
}


class CudaError(RuntimeError):
    """CUDA cannot do something; `code` is the driver's result, 0 where it gave none."""

    def __init__(self, message: str, code: int = 0) -> None:
        super().__init__(message)
        self.code = code


class OutOfMemory(CudaError, MemoryError):
    """A device's memory is full."""


# ---------------------------------------------------------------- the one driver of a process

_driver: Driver | None = None
_lock = threading.Lock()
_started = _forked = False


def driver() -> Driver:
    """The driver, loaded at the first call; one that could not be loaded is tried again at the next."""
    global _driver, _started
    found = _driver
    if found is None:
        with _lock:
            if _forked:
                raise CudaError(FORKED)
            if _driver is None:
                _started = True
                try:
                    _driver = Driver()
                finally:
                    _started = _driver is not None
            found = _driver
    return found


def forget() -> None:
    """Load the driver anew at the next call, for tests with another library; tables go on using the one that made them."""
    global _driver, _started, _forked
    with _lock:
        _driver, _started, _forked = None, False, False


def _refuse(*args: object) -> int:
    raise CudaError(FORKED)


def _after_fork() -> None:
    """Refuse every call of an inherited driver, also through objects that hold on to it: what it does in a child is undefined."""
    global _driver, _forked, _lock
    _lock = threading.Lock()  # another thread of the parent may have held it
    if _driver is not None:
        vars(_driver.api).update(dict.fromkeys(vars(_driver.api), _refuse))
    _driver, _forked = None, _started


if hasattr(os, "register_at_fork"):  # not on Windows
    os.register_at_fork(after_in_child=_after_fork)


def _bound(library: ctypes.CDLL, functions: dict[str, tuple]) -> Iterator[tuple[str, Any]]:
    for name, kinds in functions.items():
        try:
            function = getattr(library, name)
        except AttributeError:
            raise CudaError(f"{library._name} is no CUDA driver: it has no function {name}") from None
        function.argtypes, function.restype = kinds, _int
        yield name, function


def _dotted(version: int) -> str:
    return f"{version // 1000}.{version % 1000 // 10}"


class Driver:
    """The driver's functions, with their results checked.

    api : the functions as they are; version : the newest CUDA that the driver supports, 13000 for 13.0.
    """

    def __init__(self) -> None:
        name = os.environ.get("NUMBAPOOL_LIBCUDA") or LIBRARY
        try:
            library = ctypes.CDLL(name)
        except OSError as error:
            raise CudaError(f"no CUDA driver: {name} cannot be loaded ({error})") from None
        self.api, version = SimpleNamespace(**dict(_bound(library, _ALWAYS))), _int()
        self._do("cuDriverGetVersion", version)
        self.version = version.value
        if self.version < OLDEST:
            raise CudaError(f"the CUDA driver is too old: it supports CUDA {_dotted(self.version)}, and {_dotted(OLDEST)} is needed")
        vars(self.api).update(_bound(library, _FUNCTIONS))
        self._do("cuInit", 0)
        self._lock = threading.Lock()
        self._contexts: dict[int, _Context] = {}
        self._copying: dict[int, int] = {}
        self._attributes: dict[tuple[int, int], int] = {}

    def _do(self, name: str, *args: object) -> None:
        code = getattr(self.api, name)(*args)
        if code:
            raise self.error(name, code)

    def error(self, function: str, code: int, more: str = "") -> CudaError:
        """The exception for a function's result."""
        name, text = self._words("cuGetErrorName", code), self._words("cuGetErrorString", code)
        what = f"{name} ({code}): {text}" if name else f"unknown error {code}"
        return (OutOfMemory if code == _OUT_OF_MEMORY else CudaError)(f"{function.removesuffix('_v2')}: {what}{more}", code)

    def _words(self, function: str, code: int) -> str:
        text = _text()
        getattr(self.api, function)(code, text)  # leaves NULL for a code that this driver does not know
        return (text.value or b"").decode(errors="replace")

    # ------------------------------------------------------------ devices

    def devices(self) -> int:
        """How many devices there are."""
        count = _int()
        self._do("cuDeviceGetCount", count)
        return count.value

    def _device(self, device: int) -> int:
        number = _int()
        self._do("cuDeviceGet", number, device)
        return number.value

    def name(self, device: int) -> str:
        """What a device is called."""
        text = ctypes.create_string_buffer(256)
        self._do("cuDeviceGetName", text, len(text), self._device(device))
        return text.value.decode(errors="replace")

    def capability(self, device: int) -> tuple[int, int]:
        """The compute capability of a device."""
        return self._attribute(device, _MAJOR), self._attribute(device, _MINOR)

    def processors(self, device: int) -> int:
        """How many multiprocessors a device has."""
        return self._attribute(device, _MULTIPROCESSORS)

    def _attribute(self, device: int, attribute: int) -> int:
        key, number = (device, attribute), _int()
        if key not in self._attributes:
            self._do("cuDeviceGetAttribute", number, attribute, self._device(device))
            self._attributes[key] = number.value
        return self._attributes[key]

    def on(self, device: int) -> AbstractContextManager[None]:
        """Work on a device until the end of a `with`, which this is only called for: nothing changes where it is the current one."""
        current = _handle()
        code = self.api.cuCtxGetCurrent(current)
        if code:
            raise self.error("cuCtxGetCurrent", code)
        context = self._contexts.get(device) or self._retain(device)
        return _STAY if current.value == context.handle else context

    def _retain(self, device: int) -> _Context:
        """A device's primary context, which is never released: it would take the memory of everyone else in it along."""
        with self._lock:
            if device not in self._contexts:
                handle = _handle()
                self._do("cuDevicePrimaryCtxRetain", handle, self._device(device))
                self._contexts[device] = _Context(self, handle.value)
            return self._contexts[device]

    # ------------------------------------------------------------ kernels

    def load(self, image: bytes, name: str, device: int) -> int:
        """Load a cubin, fatbin or PTX for good, and find a kernel in it."""
        module, function = _handle(), _handle()
        with self.on(device), self._unseen():
            code = self.api.cuModuleLoadData(module, image)  # copies it; the NUL that ends PTX is behind every bytes object
            if code:
                major, minor = self.capability(device)
                raise self.error("cuModuleLoadData", code, f"; the driver supports CUDA {_dotted(self.version)}, device {device} "
                                 f"({self.name(device)}) has compute capability {major}.{minor}")
            self._do("cuModuleGetFunction", function, module, name.encode())
        return function.value  # type: ignore[return-value]

    def launch(self, function: int, grid: tuple[int, int, int], block: int, parameters_address: int, parameters_bytes: int,
               stream: int) -> None:
        """Start a kernel as `Launch.go`, on arguments that lie anywhere in host memory: slower, as nothing is prepared."""
        extra = _extra(parameters_address, parameters_bytes)
        self._do("cuLaunchKernel", function, *grid, block, 1, 1, 0, stream, None, extra)

    def synchronize(self, stream: int) -> None:
        """Wait for all that was started on a stream of the current device."""
        self._do("cuStreamSynchronize", stream)

    def capturing(self, stream: int) -> bool:
        """Whether what is started on a stream of the current device goes into a graph, or would break one.

        The legacy stream (0) is never captured, but waits for other streams, and that breaks their capture.
        """
        status = _int()
        code = self.api.cuStreamIsCapturing(stream, status)
        if code and code != _CAPTURE_IMPLICIT:
            raise self.error("cuStreamIsCapturing", code)
        return bool(code or status.value)

    @contextlib.contextmanager
    def _unseen(self) -> Iterator[None]:
        """Do what belongs into no graph.  Else it would break every capture that is under way, also another thread's."""
        mode = _int(_RELAXED)
        self._do("cuThreadExchangeStreamCaptureMode", mode)
        try:
            yield
        finally:
            self._do("cuThreadExchangeStreamCaptureMode", mode)

    # ------------------------------------------------------------ memory

    def copy(self, address: int, data: np.ndarray, stream: int) -> None:
        """Copy host memory to device memory, when the stream gets there; the host memory is read before this returns."""
        if self.capturing(stream):
            raise CudaError("windows that are drawn anew cannot be captured into a graph")
        self._do("cuMemcpyHtoDAsync_v2", address, data.ctypes.data, data.nbytes, stream)

    def memset(self, address: int, size: int, stream: int) -> None:
        """Fill memory with zeros, `size` bytes, on a stream of the current device."""
        if size:
            self._do("cuMemsetD8Async", address, 0, size, stream)

    def table(self, data: np.ndarray, device: int, stream: int = 0) -> Table:
        """Copy an array, in C order, into memory of a device, where any stream may read it as soon as this returns.

        Refused while `stream`, the one that will read it, is captured: a graph does not keep a table alive.
        """
        data, address = np.ascontiguousarray(data), _address()
        with self.on(device):
            if self.capturing(stream):
                raise CudaError("a table cannot be made while the stream is captured into a graph; make the same call before the capture")
            with self._unseen():
                self._do("cuMemAlloc_v2", address, max(data.nbytes, 1))  # of nothing it fails
                table = Table(self, device, address.value, data.nbytes)
                # Not cuMemcpyHtoD: it waits for all that the caller has queued, and yet returns before the copy has arrived,
                # which streams that ignore the legacy one would not wait for.
                copying = self._copying.get(device) or self._copier(device)
                self._do("cuMemcpyHtoDAsync_v2", table.address, data.ctypes.data, data.nbytes, copying)
                self._do("cuStreamSynchronize", copying)
        return table

    def _copier(self, device: int) -> int:
        """A stream for copies to the current device, kept for good."""
        with self._lock:
            if device not in self._copying:
                stream = _handle()
                self._do("cuStreamCreate", stream, _NON_BLOCKING)
                self._copying[device] = stream.value  # type: ignore[assignment]
            return self._copying[device]


class _Context:
    """A device's primary context: current between enter and exit, for threads at once, as the driver has a stack for each."""

    __slots__ = ("driver", "handle")

    def __init__(self, driver: Driver, handle: int | None) -> None:
        self.driver, self.handle = driver, handle

    def __enter__(self) -> None:
        self.driver._do("cuCtxPushCurrent_v2", self.handle)

    def __exit__(self, *_: object) -> None:
        self.driver._do("cuCtxPopCurrent_v2", _handle())


_STAY = contextlib.nullcontext()


_SixWords = ctypes.c_int64 * 6


def _extra(address: int, size: int) -> ctypes.Array:
    """What tells cuLaunchKernel where a kernel's packed arguments are, with their size as the last word."""
    extra = _SixWords(_POINTER, address, _SIZE, 0, _END, size)
    extra[3] = ctypes.addressof(extra) + 40
    return extra


class Launch:
    """A kernel's arguments, filled in and used again for any number of launches, each of which copies them.

    words : `count` int64, one for each argument, whose kernel declares 8-byte scalars only; `words.view(np.float64)` holds doubles.
    """

    __slots__ = ("_api", "_driver", "_extra", "_where", "words")

    def __init__(self, driver: Driver, count: int) -> None:
        self.words = np.zeros(count, np.int64)
        self._extra = _extra(self.words.ctypes.data, self.words.nbytes)
        self._driver, self._api, self._where = driver, driver.api, ctypes.addressof(self._extra)

    def go(self, function: int, gx: int, gy: int, gz: int, block: int, stream: int) -> None:
        """Start a kernel of the current device on a stream of it.  Sizes are cut to 32 bits unseen: check them before."""
        code = self._api.cuLaunchKernel(function, gx, gy, gz, block, 1, 1, 0, stream, None, self._where)
        if code:
            raise self._driver.error("cuLaunchKernel", code)


class Table:
    """Memory of a device with a copy of a host array, freed when this object is collected."""

    __slots__ = ("__weakref__", "address", "device", "size")

    def __init__(self, driver: Driver, device: int, address: int, size: int) -> None:
        self.device, self.address, self.size = device, address, size
        # The end of a process frees it anyway, and the driver may be gone by then.
        weakref.finalize(self, _free, driver, device, address).atexit = False


def _free(driver: Driver, device: int, address: int) -> None:
    """Free memory once the kernels that were started have read it: cuMemFree waits for them.

    The garbage collector calls it, at any time and in any thread, hence no exceptions; it takes no lock, as the device's
    context is there.  In a forked child `on` refuses.
    """
    with contextlib.suppress(CudaError), driver.on(device), driver._unseen():
        driver.api.cuMemFree_v2(address)
