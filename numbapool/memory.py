"""Raw memory for the loops: addresses become typed pointers, scratch lives on the stack.

A kernel takes addresses, not arrays: one signature for every stride, every read-only or borrowed buffer and every
target, no wrap-around selects for negative indices (they stop LLVM from vectorising), and the same text compiles to a
C function.  Pointers index with 64 bits, so more than 2^31 elements need nothing special.

With NUMBA_DISABLE_JIT=1 the same names are plain Python over ctypes and NumPy.
"""
from __future__ import annotations

import ctypes
from collections.abc import Callable
from typing import Any

import numpy as np
from llvmlite import ir
from numba import config, types
from numba.core import cgutils
from numba.extending import intrinsic

CELLS = 2048  # cells of a row that a sweep works on: 8 KB of float32
LANES = 128  # windows that are computed side by side: scratch of a lane fits the first-level cache with room to spare


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
            return cgutils.alloca_once(builder, context.get_data_type(item), size=size)
        return types.CPointer(item)(), codegen
    return stack


@intrinsic
def _jit_shift(typingctx, p, i):  # noqa: ANN001, ANN202
    def codegen(context, builder, signature, args):  # noqa: ANN001, ANN202
        return builder.gep(args[0], [args[1]])
    return p(p, i), codegen


def _jit_recast(source: str, target: str) -> Any:
    @intrinsic
    def recast(typingctx, value):  # noqa: ANN001, ANN202
        def codegen(context, builder, signature, args):  # noqa: ANN001, ANN202
            return builder.bitcast(args[0], context.get_value_type(signature.return_type))
        return getattr(types, target)(getattr(types, source)), codegen
    return recast


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
    def recast(source: str, target: str) -> Any:
        """Reinterpret the bits of a `source` as a `target` of the same width."""
        return lambda value: np.dtype(source).type(value).view(target)
    def half_to_float(bits: Any) -> Any:
        """IEEE half (as uint16) to float32, exact."""
        return np.float32(np.uint16(bits).view(np.float16))
    def float_to_half(value: Any) -> Any:
        """float32 to IEEE half (as uint16), rounding to nearest even."""
        return np.float32(value).astype(np.float16).view(np.uint16)
else:
    pointer, stack, shift, recast = _jit_pointer, _jit_stack, _jit_shift, _jit_recast
    half_to_float, float_to_half = _jit_half_to_float, _jit_float_to_half
