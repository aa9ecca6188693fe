"""A GPU of plain Numba: the thread bodies of loops/cuda, compiled for the CPU with bounds-checked memory, behind the mock driver.

`with Emulator() as gpu:` public functions run on `gpu.array(x)`, arrays of a small stand-in for CuPy in the mock's memory.  All of the library's
own path is taken, from the front door through plans, tables, argument packing and launches; only the machine code is another one.
"""
from __future__ import annotations

import contextlib
import functools
import sys
import types
from typing import Any

import mock_cuda
import numba
import numpy as np
from llvmlite import binding as llvm
from numba.core import types as nb_types
from numba.core.compiler_machinery import register_pass
from numba.extending import intrinsic

from numbapool import inlined, memory, numeric
from numbapool.cuda import plan
from numbapool.cuda.stamp import Kernel
from numbapool.loops.cuda import layout as at
from numbapool.stamp import INLINED, OPTIONS

EXTENTS = np.zeros(2 + 2 * 16384 + 1, np.int64)  # faults, pieces of memory, where each begins and ends; last, where the last fault was
_jit = numba.njit(**INLINED, **OPTIONS)


def _made(text: types.FunctionType, **names: Any) -> Any:
    """A jitted copy of a function in which some names are bound."""
    return _jit(types.FunctionType(text.__code__, {**globals(), **names, "__builtins__": __builtins__}, text.__name__))


def _valid(address, size):
    table = words(AT)
    for k in range(table[1]):
        if table[2 + 2 * k] <= address and address + size <= table[3 + 2 * k] and address % size == 0:
            return True
    table[0] += 1
    table[LAST] = address
    return False


valid = _made(_valid, words=memory.pointer("int64"), AT=EXTENTS.ctypes.data, LAST=EXTENTS.size - 1)


def _read(address, i):
    place = address + np.int64(i) * BYTES
    return cells(place)[0] if valid(place, BYTES) else zero


def _write(address, i, value):
    place = address + np.int64(i) * BYTES
    if valid(place, BYTES):
        cells(place)[0] = value


def _read_vector(address, i, v):
    place = address + np.int64(i) * BYTES
    if valid(place, PIECE):  # vectors begin at a multiple of their size
        for j in range(COUNT):
            v[j] = cells(place)[j] if valid(place + j * BYTES, BYTES) else zero


def _write_vector(address, i, v):
    place = address + np.int64(i) * BYTES
    if valid(place, PIECE):
        for j in range(COUNT):
            if valid(place + j * BYTES, BYTES):
                cells(place)[j] = v[j]


@functools.cache
def access(text: Any, kind: str, count: int = 1) -> Any:
    """One of the four above, of a dtype."""
    size = np.dtype(kind).itemsize
    return _made(text, cells=memory.pointer(kind), BYTES=size, zero=np.dtype(kind).type(0), COUNT=count, PIECE=size * min(count, max(16 // size, 1)),
                 valid=valid)


class Plain:
    """The primitives of cuda/intrinsics.py in plain Numba."""

    @staticmethod
    def names(dtype: str, lanes: int, wide: bool) -> dict[str, Any]:
        """As Cuda.names."""
        storage, real, place = numeric.storage_name(dtype), numeric.real_name(dtype), "int64" if wide else "int32"
        kind = np.dtype(place).type

        madd, quotient = _made(_madd, kind=kind), _made(_quotient, kind=kind)
        return dict(
            madd=madd, quotient=quotient, read=access(_read, storage), read_again=access(_read, storage), write=access(_write, storage),
            read_vector=access(_read_vector, storage, lanes), write_vector=access(_write_vector, storage, lanes), read_int=access(_read, "int32"),
            read_real=access(_read, real), take_reals=access(_read_vector, real, lanes), give_reals=access(_write_vector, real, lanes),
            read_place=access(_read, place), write_place=access(_write, place), read_long=access(_read, "int64"), write_long=access(_write, "int64"),
            read_double=access(_read, "float64"), write_double=access(_write, "float64"),
            lanes_of=lambda kind, size: memory.stack(kind, max(size, 1)), half_to_float=memory.half_to_float,
            float_to_half=memory.float_to_half, muladd=memory.muladd)

    @staticmethod
    def jit(function: Any) -> Any:
        """A function that kernels call."""
        return _jit(function)


def _madd(a, b, c):
    return kind(np.int64(a) * np.int64(b) + np.int64(c))


def _quotient(a, b):
    return kind(np.int64(a) // np.int64(b))


@intrinsic
def operands(typingctx, address):
    """The records of the operands, whose addresses lie there: tuples by value, as on a device, would be a hundred arguments of each function."""
    def codegen(context, builder, signature, args):
        return builder.inttoptr(args[0], context.get_value_type(signature.return_type))
    return nb_types.CPointer(nb_types.CPointer(nb_types.int64))(address), codegen


def _run(head, table, width, height, size):
    f, o = words(head), operands(table)
    for y in range(height):
        for x in range(width):
            for t in range(size):
                thread(f, o, x, y, height, size, t)


@register_pass(mutates_CFG=True, analysis_only=False)
class _Lowering(inlined._LoweringKernel):
    """A kernel's lowering with few passes: it runs once or twice."""

    _name = "numbapool_lowering_of_emulated_kernels"

    @staticmethod
    def optimise(library: Any) -> None:
        """Inline, and little else."""
        module = inlined.linked(library)
        options = llvm.create_pipeline_tuning_options(1)
        options.loop_vectorization = options.slp_vectorization = options.loop_unrolling = False
        builder = llvm.create_pass_builder(library._codegen._tm, options)
        builder.getModulePassManager().run(module, builder)


class _Quick(inlined.Inlined):
    lowering = _Lowering


@functools.cache
def runner(kernel: Kernel) -> Any:
    """A kernel as a function of its parameters, its grid and its block."""
    names = {"thread": kernel.jitted(Plain)["thread"], "words": memory.pointer("int64"), "operands": operands, "__builtins__": __builtins__}
    function = types.FunctionType(_run.__code__, names, f"run_{kernel.name[-20:]}")
    return numba.njit(**OPTIONS, pipeline_class=_Quick, no_cfunc_wrapper=True)(function)


# ---------------------------------------------------------------- arrays

class Array:
    """CuPy's ndarray, as far as the library uses it: `memory` sees the mock's memory."""

    def __init__(self, gpu: Emulator, memory: np.ndarray, owner: Any = None) -> None:
        self.gpu, self.memory, self.owner = gpu, memory, owner
        self.shape, self.strides, self.dtype = memory.shape, memory.strides, memory.dtype
        self.data, self.device = types.SimpleNamespace(ptr=memory.__array_interface__["data"][0]), types.SimpleNamespace(id=0)

    def get(self) -> np.ndarray:
        """A copy on the host."""
        self.gpu.mock.settle()
        return self.memory.copy()

    def transpose(self, axes: tuple[int, ...]) -> Array:
        """The same memory with its axes in another order."""
        return Array(self.gpu, self.memory.transpose(axes), self)

    def __getitem__(self, key: Any) -> Array:
        return Array(self.gpu, self.memory[key], self)

    def __setitem__(self, key: Any, value: Any) -> None:
        self.gpu.mock.settle()
        self.memory[key] = getattr(value, "memory", value)

    def astype(self, dtype: Any) -> Array:
        """A copy with another dtype."""
        return self.gpu.array(self.memory.astype(dtype))

    def copy(self) -> Array:
        """A dense copy."""
        return self.gpu.array(self.memory)

    def sum(self, axis: tuple[int, ...], dtype: Any) -> Array:
        """The sum over axes."""
        return self.gpu.array(np.asarray(self.memory.sum(axis=axis, dtype=dtype)))

    def reshape(self, shape: tuple[int, ...]) -> Array:
        """A copy of another shape."""
        return self.gpu.array(self.memory.reshape(shape))


class Emulator:
    """The mock driver, with kernels that run, and a module `cupy`."""

    def __init__(self, wide: bool = False) -> None:
        self.mock, self.wide, self.kernels = mock_cuda.Mock(), wide, {}
        self.current = 0

    def __enter__(self) -> Emulator:
        self.stack = contextlib.ExitStack()
        self.stack.enter_context(self.mock)
        self.replace(plan, "_functions", {})
        self.replace(plan, "REACH", 1 if self.wide else plan.REACH)
        self.replace(Kernel, "image", lambda kernel, capability: self.kernels.setdefault(kernel.name, kernel).name.encode())
        cupy = types.ModuleType("cupy")
        cupy.ndarray, cupy.empty, cupy.asarray = Array, self.empty, self.array
        cupy.cuda = types.SimpleNamespace(Device=lambda index: contextlib.nullcontext(),
                                          get_current_stream=lambda index=None: types.SimpleNamespace(ptr=self.current))
        before = sys.modules.get("cupy")
        sys.modules["cupy"] = cupy
        self.stack.callback(lambda: sys.modules.pop("cupy") if before is None else sys.modules.__setitem__("cupy", before))
        self.mock.hook(self.launched)
        return self

    def __exit__(self, *error: Any) -> None:
        from numbapool.cuda.composed import LAUNCHES
        from numbapool.prepared import CALLS
        for kept in (CALLS, LAUNCHES):  # calls that were prepared for this driver
            kept.young, kept.old, kept.size = {}, {}, 0
        self.stack.__exit__(*error)

    def replace(self, where: Any, name: str, value: Any) -> None:
        """Until the end."""
        before = getattr(where, name)
        setattr(where, name, value)
        self.stack.callback(setattr, where, name, before)

    def launched(self, launch: mock_cuda.Launched) -> None:
        """Run a kernel."""
        extents = self.mock.extents()
        EXTENTS[:2] = 0, len(extents)
        EXTENTS[2:2 + extents.size] = extents.ravel()
        words = launch.parameters.astype(np.int64)
        table = words.ctypes.data + 8 * np.arange(at.HEAD, at.WORDS, at.RECORD)
        assert launch.grid[2] == 1
        runner(self.kernels[launch.name])(words.ctypes.data, table.ctypes.data, *launch.grid[:2], launch.block)
        assert not EXTENTS[0], f"{launch.name} reads or writes {EXTENTS[0]} times beyond its arrays or misaligned, last at {EXTENTS[-1]:#x}"

    def empty(self, shape: tuple[int, ...], dtype: Any) -> Array:
        """New memory, all of whose bytes are 0xFF."""
        dtype = np.dtype(dtype)
        size = int(np.prod(shape, dtype=np.int64)) * dtype.itemsize
        address = self.mock.allocate(size)
        holder = _Memory(self.mock, address)
        memory = np.frombuffer(self.mock.view(address, max(size, 1), np.uint8), np.uint8)[:size].view(dtype).reshape(shape)
        return Array(self, memory, holder)

    def array(self, values: np.ndarray) -> Array:
        """A copy of an array on the device, in the same memory order."""
        values = np.asarray(values)
        axes = sorted(range(values.ndim), key=lambda a: -abs(values.strides[a]))
        made = self.empty(tuple(values.shape[a] for a in axes), values.dtype).transpose(tuple(np.argsort(axes)))
        made.memory[...] = values
        return made


class _Memory:
    def __init__(self, mock: mock_cuda.Mock, address: int) -> None:
        self.mock, self.address = mock, address

    def __del__(self) -> None:
        self.mock.release(self.address)
