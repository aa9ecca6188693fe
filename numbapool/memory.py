"""Raw memory for the loops: addresses become typed pointers, scratch lives on the stack.

A kernel takes addresses, not arrays: one signature for every stride, every read-only or borrowed buffer and every
target, no wrap-around selects for negative indices (they stop LLVM from vectorising), and the same text compiles to a
C function.  Pointers index with 64 bits, so more than 2^31 elements need nothing special.

With NUMBA_DISABLE_JIT=1 the same names are plain Python over ctypes and NumPy.
"""
from __future__ import annotations

import contextlib
import ctypes
import functools
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from llvmlite import ir
from numba import config, types
from numba.core import cgutils
from numba.extending import intrinsic

CELLS = 2000  # cells of a row that a sweep works on: 8 KB of float32, and not a multiple of 4 KB, at which memory looks alike to the processor
LINE_BYTES = 64  # memory is read and written in lines of so many
VECTOR = 16  # cells that a loop takes at once, an AVX-512 register of float32: blocks of one length, the last over the one before, leave no rest
CACHE_SHARE = 12 << 20  # bytes of the last cache a processor, where there is most of it
ASK_FROM = 1 << 18  # elements of an input that loops ask for before they read: one that does not fit a processor's second cache
ASK_LEAST, ASK_MOST = 2048, 32768  # how many elements before: two rows where these lie between, so that none of a row of windows is left out
LANES = 128  # windows that are computed side by side: scratch of a lane fits the first-level cache with room to spare


@functools.cache
def cache_size() -> int:
    """Bytes of the last cache before memory, of which a processor has CACHE_SHARE at most; 32 MB where the system does not tell.

    A virtual machine is told of its host's whole cache, which many share: with two processors of an Emerald Rapids, told of 300 MB, writing 32 MB
    past the caches and reading them again took 0.85 of the time of writing through them, where they lay in the caches before, and 0.7 where not.
    """
    found = []
    for file in Path("/sys/devices/system/cpu/cpu0/cache").glob("index*/size"):
        with contextlib.suppress(OSError, ValueError):
            found.append(int(file.read_text().strip().removesuffix("K")) << 10)
    return min(max(found, default=32 << 20), CACHE_SHARE * (os.cpu_count() or 1))


def past_cache(size: int) -> bool:
    """Whether a result of so many bytes is written past the caches: from three quarters of the last one on, as glibc's memcpy decides."""
    return size >= cache_size() * 3 // 4


def tile_of(itemsize: int) -> int:
    """How many elements a side the tiles have that `turn_tile` turns: what registers hold."""
    return VECTOR if itemsize <= 4 else VECTOR // 2


PLAIN_KERNELS: dict[int, Callable[..., None]] = {}  # in plain Python: what stands for a kernel's address


class PlainMemory:
    """A typed pointer for plain Python: `p[i]` reads a NumPy scalar, `p[i] = v` writes one."""

    def __init__(self, address: int, dtype: Any) -> None:
        self.address, self.dtype = int(address), np.dtype(dtype)
        self.cells = ctypes.cast(ctypes.c_void_p(self.address), ctypes.POINTER(np.ctypeslib.as_ctypes_type(self.dtype)))

    def __getitem__(self, i: int) -> Any:
        return self.dtype.type(self.cells[int(i)])

    def __setitem__(self, i: int, value: Any) -> None:
        self.cells[int(i)] = value.item() if isinstance(value, np.generic) else value


def _plain_pointer(dtype: Any) -> Callable[[int], PlainMemory]:
    return lambda address: PlainMemory(address, dtype)


def _plain_stack(dtype: Any, size: int) -> Callable[[], np.ndarray]:
    return lambda: np.zeros(size, dtype)


def _plain_shift(p: PlainMemory | np.ndarray, i: int) -> PlainMemory | np.ndarray:
    if isinstance(p, np.ndarray):
        return p[int(i):]
    return PlainMemory(p.address + int(i) * p.dtype.itemsize, p.dtype)


def _jit_pointer(dtype: Any) -> Any:
    item = getattr(types, np.dtype(dtype).name)

    @intrinsic
    def pointer(typingctx, address):  # noqa: ANN001, ANN202
        def codegen(context, builder, signature, args):  # noqa: ANN001, ANN202
            return builder.inttoptr(args[0], context.get_value_type(signature.return_type))
        return types.CPointer(item)(address), codegen
    return pointer


def _jit_stack(dtype: Any, size: int) -> Any:
    item = getattr(types, np.dtype(dtype).name)

    @intrinsic
    def stack(typingctx):  # noqa: ANN001, ANN202
        def codegen(context, builder, signature, args):  # noqa: ANN001, ANN202
            memory = cgutils.alloca_once(builder, context.get_data_type(item), size=size)
            memory.align = LINE_BYTES  # a vector that lies in two lines takes two accesses
            return memory
        return types.CPointer(item)(), codegen
    return stack


@intrinsic
def _jit_shift(typingctx, p, i):  # noqa: ANN001, ANN202
    def codegen(context, builder, signature, args):  # noqa: ANN001, ANN202
        return builder.gep(args[0], [args[1]])
    return p(p, i), codegen


@intrinsic
def _jit_narrow_add(typingctx, a, b):  # noqa: ANN001, ANN202
    def codegen(context, builder, signature, args):  # noqa: ANN001, ANN202
        return builder.add(*args)
    return a(a, a), codegen


@intrinsic
def _jit_either(typingctx, condition, a, b):  # noqa: ANN001, ANN202
    def codegen(context, builder, signature, args):  # noqa: ANN001, ANN202
        return builder.select(*args)
    return a(types.boolean, a, a), codegen


def _jit_recast(source: str, target: str) -> Any:
    @intrinsic
    def recast(typingctx, value):  # noqa: ANN001, ANN202
        def codegen(context, builder, signature, args):  # noqa: ANN001, ANN202
            return builder.bitcast(args[0], context.get_value_type(signature.return_type))
        return getattr(types, target)(getattr(types, source)), codegen
    return recast


def _results(builder):  # noqa: ANN001, ANN202
    """The LLVM alias scope of results."""
    module = builder.module
    return module.add_metadata([module.add_metadata(["results", module.add_metadata(["numbapool"])])])


@intrinsic
def _jit_read(typingctx, p, i):  # noqa: ANN001, ANN202
    def codegen(context, builder, signature, args):  # noqa: ANN001, ANN202
        value = builder.load(builder.gep(args[0], [args[1]]))
        value.set_metadata("noalias", _results(builder))
        return value
    return p.dtype(p, i), codegen


@intrinsic
def _jit_write(typingctx, p, i, value):  # noqa: ANN001, ANN202
    def codegen(context, builder, signature, args):  # noqa: ANN001, ANN202
        done = builder.store(args[2], builder.gep(args[0], [args[1]]))
        done.set_metadata("alias.scope", _results(builder))
        return context.get_dummy_value()
    return types.void(p, i, p.dtype), codegen


@intrinsic
def _jit_muladd(typingctx, a, b, c):  # noqa: ANN001, ANN202
    def codegen(context, builder, signature, args):  # noqa: ANN001, ANN202
        kind = context.get_value_type(signature.return_type)
        return builder.call(builder.module.declare_intrinsic("llvm.fmuladd", [kind], ir.FunctionType(kind, [kind] * 3)), args)
    return a(a, b, c), codegen


@intrinsic
def _jit_place_in_line(typingctx, p):  # noqa: ANN001, ANN202
    size = p.dtype.bitwidth // 8

    def codegen(context, builder, signature, args):  # noqa: ANN001, ANN202
        word = ir.IntType(64)
        return builder.udiv(builder.and_(builder.ptrtoint(args[0], word), word(LINE_BYTES - 1)), word(size))
    return types.int64(p), codegen


@intrinsic
def _jit_put_line(typingctx, p, cells):  # noqa: ANN001, ANN202
    def codegen(context, builder, signature, args):  # noqa: ANN001, ANN202
        line = ir.VectorType(ir.IntType(32), LINE_BYTES // 4)
        to, source = (builder.bitcast(v, line.as_pointer()) for v in args)
        done = builder.store(builder.load(source, align=2), to, align=LINE_BYTES)
        done.set_metadata("nontemporal", builder.module.add_metadata([ir.IntType(32)(1)]))
        done.set_metadata("alias.scope", _results(builder))
        return context.get_dummy_value()
    return types.void(p, cells), codegen


@intrinsic
def _jit_prefetch(typingctx, p):  # noqa: ANN001, ANN202
    def codegen(context, builder, signature, args):  # noqa: ANN001, ANN202
        octet, number = ir.IntType(8).as_pointer(), ir.IntType(32)
        kind = ir.FunctionType(ir.VoidType(), [octet, number, number, number])
        call = builder.module.declare_intrinsic("llvm.prefetch", [octet], kind)
        builder.call(call, [builder.bitcast(args[0], octet), number(0), number(3), number(1)])
        return context.get_dummy_value()
    return types.void(p), codegen


@intrinsic
def _jit_turn_tile(typingctx, to, to_pitch, source, source_pitch):  # noqa: ANN001, ANN202
    size = to.dtype.bitwidth // 8
    n = tile_of(size)

    def codegen(context, builder, signature, args):  # noqa: ANN001, ANN202
        item = context.get_data_type(to.dtype)
        unit = min(n, 16 // size)  # 16 bytes: registers are put together of such parts as they are loaded, which shuffles nothing

        def at(p, pitch, row, column, count):  # noqa: ANN001, ANN202
            cell = builder.gep(p, [builder.add(builder.mul(pitch, pitch.type(row)), pitch.type(column))])
            return builder.bitcast(cell, ir.VectorType(item, count).as_pointer())

        def mixed(a, b, order):  # noqa: ANN001, ANN202
            return builder.shuffle_vector(a, b, ir.Constant(ir.VectorType(ir.IntType(32), len(order)), order))
        for first in range(0, n, unit):  # columns of the source, rows of the result
            rows = []
            for i in range(unit):
                parts, count = [builder.load(at(args[2], args[3], j + i, first, unit), align=size) for j in range(0, n, unit)], unit
                while len(parts) > 1:
                    count *= 2
                    parts = [mixed(a, b, list(range(count))) for a, b in zip(parts[::2], parts[1::2], strict=True)]
                rows += parts
            half, stages = unit // 2, unit.bit_length() - 1
            low = [j - j % unit + j % unit // 2 + n * (j & 1) for j in range(n)]
            for _ in range(stages):  # a perfect shuffle each: what processors have an instruction for
                rows = [mixed(rows[i // 2], rows[i // 2 + half], [j + i % 2 * half for j in low]) for i in range(unit)]
            for i, row in enumerate(rows):
                builder.store(row, at(args[0], args[1], first + i, 0, n), align=size)
        return context.get_dummy_value()
    return types.void(to, types.int64, source, types.int64), codegen


@intrinsic
def _jit_call_kernel(typingctx, address, plan, data, slot, lo, hi):  # noqa: ANN001, ANN202
    def codegen(context, builder, signature, args):  # noqa: ANN001, ANN202
        word, void = ir.IntType(64), ir.IntType(8).as_pointer()
        kind = ir.FunctionType(ir.IntType(32), [void.as_pointer()] * 2 + [word] * 5)  # int32 f(void **ret, void **exc, arguments...)
        out = [cgutils.alloca_once(builder, void) for _ in range(2)]
        builder.call(builder.inttoptr(args[0], kind.as_pointer()), out + list(args[1:]))
        return context.get_dummy_value()
    return types.void(*[types.int64] * 6), codegen


@intrinsic
def _jit_settle(typingctx):  # noqa: ANN001, ANN202
    def codegen(context, builder, signature, args):  # noqa: ANN001, ANN202
        builder.fence("seq_cst")
        return context.get_dummy_value()
    return types.void(), codegen


@intrinsic
def _jit_half_to_float(typingctx, bits):  # noqa: ANN001, ANN202
    def codegen(context, builder, signature, args):  # noqa: ANN001, ANN202
        return builder.fpext(builder.bitcast(args[0], ir.HalfType()), ir.FloatType())
    return types.float32(types.uint16), codegen


@intrinsic
def _jit_float_to_half(typingctx, value):  # noqa: ANN001, ANN202
    def codegen(context, builder, signature, args):  # noqa: ANN001, ANN202
        return builder.bitcast(builder.fptrunc(args[0], ir.HalfType()), ir.IntType(16))
    return types.uint16(types.float32), codegen


if config.DISABLE_JIT:
    pointer, stack, shift = _plain_pointer, _plain_stack, _plain_shift
    def read(p: Any, i: int) -> Any:
        """An element of what results do not lie in."""
        return p[i]
    def write(p: Any, i: int, value: Any) -> None:
        """Set an element of a result."""
        p[i] = value
    def narrow_add(a: Any, b: Any) -> Any:
        """The sum of two integers, as wide as the first: Numba's own is of 64 bits, at half the speed in vectors."""
        return type(a)(a + b)
    def either(condition: Any, a: Any, b: Any) -> Any:
        """`a if condition else b` without a branch, into which LLVM would move the loads of both, to load under masks."""
        return a if condition else b
    def recast(source: str, target: str) -> Any:
        """Reinterpret the bits of a `source` as a `target` of the same width."""
        return lambda value: np.dtype(source).type(value).view(target)
    def muladd(a: Any, b: Any, c: Any) -> Any:
        """a b + c, rounded once where the processor can."""
        return a * b + c
    def place_in_line(p: Any) -> int:
        """How many elements a pointer is past the beginning of a line of memory."""
        return p.address % LINE_BYTES // p.dtype.itemsize
    def put_line(p: Any, cells: Any) -> None:
        """Copy a line of memory past the caches."""
        for i in range(LINE_BYTES // p.dtype.itemsize):
            p[i] = cells[i]
    def prefetch(p: Any) -> None:
        """Ask for a line of memory that will be read."""
    def turn_tile(to: Any, to_pitch: int, source: Any, source_pitch: int) -> None:
        """Write a square tile of memory with its rows as columns."""
        n = tile_of(to.dtype.itemsize)
        rows = [[source[i * source_pitch + j] for j in range(n)] for i in range(n)]
        for i in range(n):
            for j in range(n):
                to[i * to_pitch + j] = rows[j][i]
    def call_kernel(address: int, plan: int, data: int, slot: int, lo: int, hi: int) -> None:
        """Call a compiled kernel by its address."""
        PLAIN_KERNELS[int(address)](plan, data, slot, lo, hi)
    def settle() -> None:
        """Let what went past the caches arrive before other threads are told."""
    def half_to_float(bits: Any) -> Any:
        """IEEE half (as uint16) to float32, exact."""
        return np.float32(np.uint16(bits).view(np.float16))
    def float_to_half(value: Any) -> Any:
        """float32 to IEEE half (as uint16), rounding to nearest even."""
        return np.float32(value).astype(np.float16).view(np.uint16)
else:
    pointer, stack, shift, recast, narrow_add, either = _jit_pointer, _jit_stack, _jit_shift, _jit_recast, _jit_narrow_add, _jit_either
    place_in_line, put_line, prefetch, settle = _jit_place_in_line, _jit_put_line, _jit_prefetch, _jit_settle
    turn_tile, call_kernel = _jit_turn_tile, _jit_call_kernel
    half_to_float, float_to_half, read, write, muladd = _jit_half_to_float, _jit_float_to_half, _jit_read, _jit_write, _jit_muladd
