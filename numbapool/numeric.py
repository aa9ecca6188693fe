"""The arithmetic that formulas use: exp, log and powers that vectorise, half <-> float, dtype by dtype.

`math.exp` in a float32 loop is a scalar library call, 12-20 ns an element; the range-reduced polynomials below vectorise
(a third of one).  Their coefficients are those of the Taylor series, cut where the next term is below a quarter ulp on the
reduced interval; exp32 and log32 have fitted ones, which minimise the largest relative error (3e-9, 6e-9) and save terms and a division.

A formula file imports the names of this module (`real`, `exp`, ...).  They are the float64 ones, so the file runs as
plain Python; `stamp` binds those of the kernel's dtype in their place.
"""
from __future__ import annotations

import math
from typing import Any

import numpy as np
from numba import float64

from . import memory
from .memory import CELLS, LANES, half_to_float, shift

HALVES = ("float16", "bfloat16")
FLOATS = (*HALVES, "float32", "float64")
INTEGERS = ("int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64", "bool")
DTYPES = FLOATS + INTEGERS

real = np.float64
lowest, highest = -math.inf, math.inf


def larger(a, b):
    """The larger of two numbers; NaN when one of them is NaN."""
    return b if (b > a or b != b) else a


def positive(x):
    """max(x, 0); NaN stays."""
    return x if (x > real(0) or x != x) else real(0)


def power(a, p):
    """a^p for a >= 0."""
    return exp(p * log(a))


def root(a, p):
    """a^(1/p) for a >= 0."""
    return exp(log(a) / p)


def exp32(x):
    """e^x in float32: 2^n e^r with |r| <= ln(2)/2; relative error 1e-7; below 1.2e-38 it is 0, from 88.4 on infinite; NaN stays."""
    t = LOW32 if x < LOW32 else x
    t = HIGH32 if t > HIGH32 else t
    k = t * LOG2E32 + ROUND32  # the last bits of k are n
    n = k - ROUND32
    r = t - n * LN2_HIGH32 - n * LN2_LOW32
    p = r * E6 + E5
    p = p * r + E4
    p = p * r + E3
    p = p * r + E2
    p = p * r * r + r + ONE32
    return p * from_bits32((to_bits32(k) << np.int32(23)) + ONE_BITS32)


def exp64(x):
    """e^x in float64, as `exp32` with twelve terms; relative error 3e-16."""
    t = -709.1 if x < -709.1 else x
    t = 710.0 if t > 710.0 else t
    k = t * 1.4426950408889634 + 6755399441055744.0
    n = k - 6755399441055744.0
    r = t - n * 0.6931471803691238 - n * 1.9082149292705877e-10
    p = r * (1 / 6227020800) + 1 / 479001600
    p = p * r + 1 / 39916800
    p = p * r + 1 / 3628800
    p = p * r + 1 / 362880
    p = p * r + 1 / 40320
    p = p * r + 1 / 5040
    p = p * r + 1 / 720
    p = p * r + 1 / 120
    p = p * r + 1 / 24
    p = p * r + 1 / 6
    p = p * r + 0.5
    p = p * r * r + r + 1.0
    return p * from_bits64((to_bits64(k) << np.int64(52)) + np.int64(0x3FF0000000000000))


def log32(x):
    """ln(x) in float32: e ln 2 + ln(1 + f), 1 + f in [sqrt(1/2), sqrt(2)), by a polynomial: no division; relative error 1e-7."""
    small = x < TINY32
    b = np.int32(to_bits32(x * TWO23 if small else x) - SQRT_BITS32)
    k = np.float32(np.int32(b >> np.int32(23))) - (POWER23 if small else ZERO32)
    f = from_bits32(np.int32((b & np.int32(0x7FFFFF)) + SQRT_BITS32)) - ONE32
    p = f * A7 + A6
    p = p * f + A5
    p = p * f + A4
    p = p * f + A3
    p = p * f + A2
    p = p * f + A1
    p = p * f + A0
    z = f * f
    y = k * LN2_HIGH32 + (k * LN2_LOW32 + (p * f * z - HALF32 * z) + f)
    y = y if x > ZERO32 else (-INFINITY32 if x == ZERO32 else NAN32)
    return y if x < INFINITY32 else x


def log64(x):
    """ln(x) in float64: e ln 2 + 2 artanh((m - 1) / (m + 1)), m in [sqrt(1/2), sqrt(2)); eleven terms."""
    small = x < 2.2250738585072014e-308
    b = to_bits64(x * 4503599627370496.0 if small else x)
    e = (b >> np.int64(52)) - np.int64(1023) - (np.int64(52) if small else np.int64(0))
    m = from_bits64((b & np.int64(0xFFFFFFFFFFFFF)) | np.int64(0x3FF0000000000000))
    big = m > 1.4142135623730951
    m = m * 0.5 if big else m
    e = e + np.int64(1) if big else e
    s = (m - 1.0) / (m + 1.0)
    z = s * s
    p = z * (1 / 23) + 1 / 21
    p = p * z + 1 / 19
    p = p * z + 1 / 17
    p = p * z + 1 / 15
    p = p * z + 1 / 13
    p = p * z + 1 / 11
    p = p * z + 1 / 9
    p = p * z + 1 / 7
    p = p * z + 1 / 5
    p = p * z + 1 / 3
    p = p * z * s + s
    k = np.float64(e)
    y = k * 0.6931471803691238 + (p + p + k * 1.9082149292705877e-10)
    y = y if x > 0.0 else (-math.inf if x == 0.0 else math.nan)
    return y if x < math.inf else x


def exp(x):
    """e^x for plain Python use of a formula file."""
    return np.exp(np.float64(x))


def log(x):
    """ln(x) for plain Python use of a formula file."""
    return np.log(np.float64(x))


def load_plain(p, i):
    """An element that is stored as it is computed with."""
    return p[i]


def store_plain(p, i, value):
    """Store what is computed with as it is."""
    p[i] = value


def load_half(p, i):
    """float16 in memory, float32 in arithmetic."""
    return half_to_float(p[i])


def store_half(p, i, value):
    """Round to float16."""
    p[i] = float_to_half(value)


def load_bfloat(p, i):
    """bfloat16 in memory is the upper half of a float32."""
    return from_bits32(np.int32(np.uint32(p[i]) << np.uint32(16)))


def store_bfloat(p, i, value):
    """Round to bfloat16, to nearest even; a NaN stays one."""
    b = np.uint32(to_bits32(value))
    rounded = np.uint16((np.uint64(b) + np.uint64(0x7FFF) + np.uint64((b >> np.uint32(16)) & np.uint32(1))) >> np.uint64(16))
    p[i] = rounded if value == value else np.uint16(0x7FC0)


_f = np.float32
_CONSTANTS = dict(
    LOW32=_f(-88.0), HIGH32=_f(89.0), ROUND32=_f(12582912), ONE_BITS32=np.int32(0x3F800000),
    LOG2E32=_f(1.44269504), LN2_HIGH32=_f(0.693359375), LN2_LOW32=_f(-2.12194440e-4),
    ZERO32=_f(0), HALF32=_f(0.5), ONE32=_f(1), INFINITY32=_f(math.inf), NAN32=_f(math.nan), TINY32=_f(1.17549435e-38),
    TWO23=_f(8388608), POWER23=_f(23), SQRT_BITS32=np.int32(0x3F3504F3),
    E6=_f(0.0013814613078767962), E5=_f(0.008368709838888058), E4=_f(0.04166838736538231),
    E3=_f(0.16666520689692121),
    E2=_f(0.4999999345168751),
    A0=_f(0.333333317076635), A1=_f(-0.2500082103394051), A2=_f(0.20001226880209935), A3=_f(-0.16623357359696234), A4=_f(0.14201757917129315),
    A5=_f(-0.1316018216228546), A6=_f(0.12761577534703744), A7=_f(-0.0763449775456444))


def real_name(dtype: str) -> str:
    """The dtype that arithmetic on `dtype` is done in: float32 for the halves, uint8 for bool, else itself."""
    return "float32" if dtype in HALVES else "uint8" if dtype == "bool" else dtype


def storage_name(dtype: str) -> str:
    """The dtype of the memory cells: uint16 for the halves, uint8 for bool, else itself."""
    return "uint16" if dtype in HALVES else real_name(dtype)


def namespace(dtype: str) -> dict[str, Any]:
    """The names that loops and formulas see when they are stamped for `dtype`; functions are still plain Python."""
    work = real_name(dtype)
    access = {"float16": (load_half, store_half), "bfloat16": (load_bfloat, store_bfloat)}
    load, store = access.get(dtype, (load_plain, store_plain))
    wide = work == "float64"
    least, most = (-np.inf, np.inf) if work.startswith("float") else (np.iinfo(work).min, np.iinfo(work).max)
    lowest, highest = np.dtype(work).type(least), np.dtype(work).type(most)
    kind = storage_name(dtype)
    return dict(
        _CONSTANTS, np=np, math=math, float64=float64, LANES=LANES, shift=shift, real=np.dtype(work).type,
        HALF=dtype in HALVES, half_to_float=half_to_float, float_to_half=memory.float_to_half,
        from_bits32=memory.recast("int32", "float32"), to_bits32=memory.recast("float32", "int32"),
        from_bits64=memory.recast("int64", "float64"), to_bits64=memory.recast("float64", "int64"),
        exp=exp64 if wide else exp32, log=log64 if wide else log32,
        larger=larger, positive=positive, power=power, root=root, load=load, store=store,
        elements=memory.pointer(storage_name(dtype)), reals=memory.pointer(work), integers=memory.pointer("int64"),
        doubles=memory.pointer("float64"), lanes=memory.stack(work, LANES), wide_lanes=memory.stack(work, 4 * LANES),
        index_lanes=memory.stack("int64", LANES), octets=memory.pointer("uint8"), lowest=lowest, highest=highest, CELLS=CELLS,
        row1=memory.stack(work, CELLS), row4=memory.stack(work, 4 * CELLS), raw1=memory.stack(kind, CELLS))
