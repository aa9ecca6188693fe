"""A CUDA driver without a GPU: builds mock_libcuda.c, puts it in the place of the driver, and looks into it."""
from __future__ import annotations

import atexit
import ctypes
import functools
import itertools
import os
import shlex
import shutil
import subprocess
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np

from numbapool.cuda import driver

SOURCE = Path(__file__).with_name("mock_libcuda.c")
VARIABLE = "NUMBAPOOL_LIBCUDA"
WARNINGS = ("-Wall", "-Wextra", "-Wconversion", "-Werror")
_numbers = itertools.count()


class Launched(NamedTuple):
    """One launch of a kernel: what the driver was told."""

    name: str
    grid: tuple[int, int, int]
    block: int
    stream: int
    parameters: np.ndarray  # int64
    device: int
    captured: bool = False  # it went into a graph, and the hook has not seen it


class _Launch(ctypes.Structure):
    _fields_ = [("name", ctypes.c_char_p), ("grid", ctypes.c_uint * 3), ("block", ctypes.c_uint), ("stream", ctypes.c_void_p),
                ("device", ctypes.c_int), ("captured", ctypes.c_int), ("bytes", ctypes.c_size_t), ("parameters", ctypes.c_void_p)]


_HOOK = ctypes.CFUNCTYPE(None, ctypes.c_char_p, *[ctypes.c_uint] * 4, ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int, ctypes.c_void_p)
_int, _long, _size, _text, _handle, _address = (ctypes.c_int, ctypes.c_long, ctypes.c_size_t, ctypes.c_char_p, ctypes.c_void_p,
                                                ctypes.c_uint64)
_FUNCTIONS = {
    "mock_fail": (_int, _text, _int, _long), "mock_calls": (_long, _text), "mock_set_version": (None, _int), "mock_set_init": (None, _int),
    "mock_set_poison": (None, _int), "mock_set_hook": (None, _HOOK), "mock_depth": (_int,), "mock_mode": (_int,), "mock_live": (_long,),
    "mock_bad_frees": (_long,), "mock_set_devices": (_int, _int), "mock_set_properties": (_int, *[_int] * 4), "mock_overruns": (_long,),
    "mock_allocate": (_address, _size, _int), "mock_release": (_int, _address, _int), "mock_settle": (None, _int),
    "mock_stream": (_handle, _int, _int), "mock_capture": (_int, _handle, _int), "mock_set_current": (None, _int),
    "mock_retained": (_long, _int), "mock_launched": (_size,), "mock_launch": (_int, _size, ctypes.POINTER(_Launch)),
    "mock_forget_launches": (None,), "mock_extents": (_size, _handle, _size), "mock_image": (_handle, _handle, ctypes.POINTER(_size)),
}


def compiler() -> list[str]:
    """The C compiler as a command: $CC or cc."""
    return shlex.split(os.environ.get("CC") or "cc")


def available() -> bool:
    """Whether there is a C compiler."""
    return shutil.which(compiler()[0]) is not None


@functools.cache
def build() -> Path:
    """The mock, compiled once in a process into a folder that goes with it."""
    folder = tempfile.mkdtemp(prefix="numbapool-mock-")
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    library = Path(folder, "libcuda.so.1")
    command = [*compiler(), "-std=gnu11", "-O2", *WARNINGS, "-shared", "-fPIC", "-pthread", str(SOURCE), "-o", str(library)]
    subprocess.run(command, check=True)
    return library


class Mock:
    """`with Mock() as mock:` the driver is the mock.  Each is a library of its own, so nothing is left of an earlier one.

    Leaving it raises what a hook has raised, and AssertionError where memory was freed wrongly or written beyond its ends.
    """

    def __init__(self, version: int | None = None, init: int | None = None, devices: int | None = None, poison: bool = True) -> None:
        self.path = shutil.copy(build(), build().with_name(f"libcuda-{os.getpid()}-{next(_numbers)}.so"))
        self.library, self.trouble, self.before = ctypes.CDLL(str(self.path)), [], None
        for name, (result, *kinds) in _FUNCTIONS.items():
            function = getattr(self.library, name)
            function.restype, function.argtypes = result, kinds
        self._hook = _HOOK()
        if version is not None:
            self.library.mock_set_version(version)
        if init is not None:
            self.library.mock_set_init(init)
        if devices is not None:
            self._well(self.library.mock_set_devices(devices))
        self.library.mock_set_poison(poison)

    def __enter__(self) -> Mock:
        self.before = os.environ.get(VARIABLE)
        os.environ[VARIABLE] = str(self.path)
        driver.forget()
        return self

    def __exit__(self, kind: type | None, *_: object) -> None:
        os.environ.pop(VARIABLE)
        if self.before is not None:
            os.environ[VARIABLE] = self.before
        driver.forget()
        self.hook(None)
        if kind is None:
            for error in self.trouble:
                raise error
            assert not self.library.mock_bad_frees(), "memory was freed twice, or in another device's context"
            assert not self.library.mock_overruns(), "memory was written beyond its ends"

    @staticmethod
    def _well(failed: int) -> None:
        if failed:
            raise ValueError("the mock knows no such thing")

    # ------------------------------------------------------------ settings

    def fail(self, name: str, code: int, after: int = 0) -> None:
        """Let one call of a driver's function, such as "cuMemAlloc_v2", return a code, after so many calls that do not."""
        self._well(self.library.mock_fail(name.encode(), code, after))

    def properties(self, device: int, capability: tuple[int, int] = (9, 0), processors: int = 132) -> None:
        """Change what a device tells of itself."""
        self._well(self.library.mock_set_properties(device, *capability, processors))

    def hook(self, run: Callable[[Launched], object] | None) -> None:
        """Call a function in every launch, in the launching thread: it does on the CPU what the kernel would do."""
        def call(name: bytes, gx: int, gy: int, gz: int, block: int, parameters: int, size: int, device: int, stream: int | None) -> None:
            try:
                words = np.frombuffer(ctypes.string_at(parameters, size), np.int64)
                run(Launched(name.decode(), (gx, gy, gz), block, stream or 0, words, device))
            except BaseException as error:
                self.trouble.append(error)
        new = _HOOK(call) if run else _HOOK()
        self.library.mock_set_hook(new)
        self._hook = new  # the one before may go now

    def capture(self, stream: int, state: int = 1) -> int:
        """Begin (1), break (2) or end (0) the capture of a stream into a graph; returns the state before."""
        before = self.library.mock_capture(stream, state)
        self._well(before < 0)
        return before

    def current(self, device: int | None) -> None:
        """Make a device current for this thread, as torch.cuda.set_device does."""
        self.library.mock_set_current(-1 if device is None else device)

    # ------------------------------------------------------------ memory and streams of the arrays' library

    def allocate(self, size: int, device: int = 0) -> int:
        """Address of new device memory; all its bytes are 0xFF."""
        address = self.library.mock_allocate(size, device)
        self._well(not address)
        return address

    def release(self, address: int, device: int = 0) -> None:
        """Free what `allocate` gave."""
        self._well(self.library.mock_release(address, device))

    def view(self, address: int, shape: int | tuple[int, ...], dtype: object = np.float32) -> np.ndarray:
        """Device memory as an array, valid until it is freed; what is still queued has not happened to it."""
        shape, dtype = np.empty(shape, np.uint8).shape, np.dtype(dtype)
        count = int(np.prod(shape)) * dtype.itemsize
        return np.frombuffer((ctypes.c_char * count).from_address(address), dtype).reshape(shape)

    def stream(self, device: int = 0, blocking: bool = False) -> int:
        """A new stream: non-blocking as torch's, or blocking as CuPy's and `cudaStreamCreate`'s."""
        return self.library.mock_stream(device, blocking)

    def settle(self, device: int = 0) -> None:
        """Run what is queued on a device, as if a lot of time had passed."""
        self.library.mock_settle(device)

    # ------------------------------------------------------------ what has happened

    def launches(self) -> list[Launched]:
        """All launches so far, or since `clear`."""
        found, made = [], _Launch()
        for n in range(self.library.mock_launched()):
            self.library.mock_launch(n, made)
            words = np.frombuffer(ctypes.string_at(made.parameters, made.bytes), np.int64)
            found.append(Launched(made.name.decode(), tuple(made.grid), made.block, made.stream or 0, words, made.device, bool(made.captured)))
        return found

    def clear(self) -> None:
        """Forget the launches."""
        self.library.mock_forget_launches()

    def calls(self, name: str) -> int:
        """How often a driver's function was called."""
        count = self.library.mock_calls(name.encode())
        self._well(count < 0)
        return count

    def live(self) -> int:
        """How many pieces of device memory there are, tables and `allocate`'s."""
        return self.library.mock_live()

    def extents(self) -> np.ndarray:
        """Where the pieces of device memory begin and end, (pieces, 2) int64."""
        found = np.zeros((self.live() + 16, 2), np.int64)
        return found[:self.library.mock_extents(found.ctypes.data, len(found))]

    def depth(self) -> int:
        """How many contexts are on this thread's stack."""
        return self.library.mock_depth()

    def retained(self, device: int) -> int:
        """How often a device's primary context was retained."""
        return self.library.mock_retained(device)

    def image(self, function: int) -> bytes:
        """The image that a function was loaded from."""
        size = ctypes.c_size_t()
        address = self.library.mock_image(function, size)
        return ctypes.string_at(address, size.value)
