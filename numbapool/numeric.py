"""The arithmetic that formulas use: exp, log and powers that vectorise, half <-> float, dtype by dtype.

`math.exp` in a float32 loop is a scalar library call, 12-20 ns an element; the range-reduced polynomials below vectorise
(a third of one).  Their coefficients are those of the Taylor series, cut where the next term is below a quarter ulp on the
reduced interval; those of float32 are fitted ones, which minimise the largest relative error (exp 3e-9, log 3e-8) and save terms and a division.

A formula file imports the names of this module (`real`, `exp`, ...).  They are the float64 ones, so the file runs as
plain Python; `stamp` binds those of the kernel's dtype in their place.
"""
from __future__ import annotations

import math
from typing import Any

import numpy as np
from numba import float64

from . import memory
from .memory import CELLS, LANES, VECTOR, half_to_float, muladd, read, shift, write

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


def between(x, low, high):
    """x where it lies between; NaN becomes `high`."""
    t = x if x < high else high
    return t if t > low else low


def near_exp32(v, s):
    """e^(v s) in float32, where the caller sees to -86.5 < v s < 88: 2^n 2^f, |f| <= 1/2, of v (s log2 e); relative error 1e-7.

    One rounding of the product where the processor fuses; s log2 e is the same for all elements, so that its rounding cancels in weights.
    """
    c = s * LOG2E32
    k = muladd(v, c, ROUND32)  # its last bits are n
    return from_bits32(to_bits32(two_to32(muladd(v, c, ROUND32 - k))) + (to_bits32(k) << np.int32(23)))


def two_to32(f):
    """2^f in float32 for |f| <= 1/2."""
    p = muladd(f, P6, P5)
    p = muladd(p, f, P4)
    p = muladd(p, f, P3)
    p = muladd(p, f, P2)
    p = muladd(p, f, P1)
    return muladd(p, f, ONE32)


def near_exp64(v, s):
    """As `near_exp32` in float64, where -707 < v s < 709, with a polynomial of degree 11 (8e-18)."""
    c = s * 1.4426950408889634
    k = muladd(v, c, 6755399441055744.0)
    f = muladd(v, c, 6755399441055744.0 - k)
    p = muladd(f, 4.4549605981865186e-10, 7.072585949269223e-09)
    p = muladd(p, f, 1.0178062445845774e-07)
    p = muladd(p, f, 1.321544258792169e-06)
    p = muladd(p, f, 1.525273382983612e-05)
    p = muladd(p, f, 0.0001540353044173605)
    p = muladd(p, f, 0.0013333558146416936)
    p = muladd(p, f, 0.009618129107606888)
    p = muladd(p, f, 0.0555041086648216)
    p = muladd(p, f, 0.24022650695910097)
    p = muladd(p, f, 0.6931471805599453)
    p = muladd(p, f, 1.0)
    return from_bits64(to_bits64(p) + (to_bits64(k) << np.int64(52)))


def near_exp_less_one32(v):
    """e^v and e^v - 1 in float32, -86.5 < v < 88, from 2^f - 1: both of a relative error of 2e-7, however small v is."""
    k = muladd(v, LOG2E32, ROUND32)
    f = muladd(v, LOG2E32, ROUND32 - k)
    p = muladd(f, P6, P5)
    p = muladd(p, f, P4)
    p = muladd(p, f, P3)
    p = muladd(p, f, P2)
    p = muladd(p, f, P1) * f
    s = from_bits32((to_bits32(k) << np.int32(23)) + ONE_BITS32)
    return muladd(p, s, s), muladd(p, s, s - ONE32)


def reduced64(t):
    """t = n ln(2) + r, |r| <= ln(2)/2, in float64: a number whose last bits are n, r, and (e^r - 1 - r) / r^2 by its series."""
    k = muladd(t, 1.4426950408889634, 6755399441055744.0)
    n = k - 6755399441055744.0
    r = muladd(-n, 1.9082149292705877e-10, muladd(-n, 0.6931471803691238, t))
    p = muladd(r, 1 / 6227020800, 1 / 479001600)
    p = muladd(p, r, 1 / 39916800)
    p = muladd(p, r, 1 / 3628800)
    p = muladd(p, r, 1 / 362880)
    p = muladd(p, r, 1 / 40320)
    p = muladd(p, r, 1 / 5040)
    p = muladd(p, r, 1 / 720)
    p = muladd(p, r, 1 / 120)
    p = muladd(p, r, 1 / 24)
    p = muladd(p, r, 1 / 6)
    p = muladd(p, r, 0.5)
    return k, r, p


def near_exp_less_one64(v):
    """As `near_exp_less_one32` in float64, -707 < v < 709, by the series of e^r - 1, |r| <= ln(2)/2."""
    k, r, p = reduced64(v)
    p = muladd(p * r, r, r)
    s = from_bits64((to_bits64(k) << np.int64(52)) + np.int64(0x3FF0000000000000))
    return muladd(p, s, s), muladd(p, s, s - 1.0)


def exp32(x):
    """e^x in float32: 2^n e^r with |r| <= ln(2)/2; relative error 1e-7; below 1.2e-38 it is 0, from 88.4 on infinite; NaN stays."""
    t = LOW32 if x < LOW32 else x
    t = HIGH32 if t > HIGH32 else t
    k = muladd(t, LOG2E32, ROUND32)  # its last bits are n
    n = k - ROUND32
    r = muladd(-n, LN2_LOW32, muladd(-n, LN2_HIGH32, t))
    p = muladd(r, E6, E5)
    p = muladd(p, r, E4)
    p = muladd(p, r, E3)
    p = muladd(p, r, E2)
    return muladd(muladd(p, r, ONE32), r, ONE32) * from_bits32((to_bits32(k) << np.int32(23)) + ONE_BITS32)


def exp64(x):
    """e^x in float64, as `exp32` with twelve terms; relative error 3e-16."""
    t = -709.1 if x < -709.1 else x
    t = 710.0 if t > 710.0 else t
    k, r, p = reduced64(t)
    return muladd(muladd(p, r, 1.0), r, 1.0) * from_bits64((to_bits64(k) << np.int64(52)) + np.int64(0x3FF0000000000000))


def log_parts32(x):
    """log2(x) of x >= 0 in two parts, whole and |l| <= 1/2, the latter by a polynomial: no division; -inf, inf or NaN is the first part."""
    small = x < TINY32
    b = np.int32(to_bits32(x * TWO23 if small else x) - SQRT_BITS32)
    k = np.float32(np.int32(b >> np.int32(23))) - (POWER23 if small else ZERO32)
    f = from_bits32(np.int32((b & np.int32(0x7FFFFF)) + SQRT_BITS32)) - ONE32
    q = muladd(f, A8, A7)
    q = muladd(q, f, A6)
    q = muladd(q, f, A5)
    q = muladd(q, f, A4)
    q = muladd(q, f, A3)
    q = muladd(q, f, A2)
    q = muladd(q, f, A1)
    q = muladd(q, f, A0)
    k = k if x < INFINITY32 else x
    return -INFINITY32 if x == ZERO32 else k, q * f


def log32(x):
    """ln(x) in float32; relative error 2e-7."""
    k, f = log_parts32(x)
    y = muladd(k, LN2_HIGH32, muladd(k, LN2_LOW32, f * LN2_32))
    y = y if k - k == ZERO32 else k
    return y if x >= ZERO32 else NAN32


def scaled32(r, t, c):
    """2^t in float32 of t = n + r, |r| <= 1/2, where the last bits of c are n; 0 below 2^-126, infinite from 2^127.5 on."""
    y = two_to32(r) * from_bits32((to_bits32(c) << np.int32(23)) + ONE_BITS32)
    y = ZERO32 if t < LOW_BITS32 else y
    return INFINITY32 if t > HIGH_BITS32 else y


def power32(a, p):
    """a^p in float32 for a >= 0: the whole part of log2(a) is multiplied apart, so that a large exponent costs no digits; relative error 3e-7."""
    k, f = log_parts32(a)
    f = p * f
    t = muladd(p, k, f)
    c = t + ROUND32
    return scaled32(muladd(p, k, ROUND32 - c) + f, t, c)


def root32(a, p):
    """a^(1/p) in float32 for a >= 0: what the whole part of log2(a) leaves over is divided; relative error 2e-7."""
    k, f = log_parts32(a)
    q = ONE32 / p
    t = (k + f) * q
    c = t + ROUND32
    return scaled32((muladd(p, ROUND32 - c, k) + f) * q, t, c)


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
    p = muladd(z, 1 / 23, 1 / 21)
    p = muladd(p, z, 1 / 19)
    p = muladd(p, z, 1 / 17)
    p = muladd(p, z, 1 / 15)
    p = muladd(p, z, 1 / 13)
    p = muladd(p, z, 1 / 11)
    p = muladd(p, z, 1 / 9)
    p = muladd(p, z, 1 / 7)
    p = muladd(p, z, 1 / 5)
    p = muladd(p, z, 1 / 3)
    p = muladd(p * z, s, s)
    k = np.float64(e)
    y = muladd(k, 0.6931471803691238, muladd(k, 1.9082149292705877e-10, p + p))
    y = y if x > 0.0 else (-math.inf if x == 0.0 else math.nan)
    return y if x < math.inf else x


def near_exp(v, s):
    """e^(v s) for plain Python use of a formula file."""
    return np.exp(np.float64(v) * s)


def near_exp_less_one(v):
    """e^v and e^v - 1 for plain Python use of a formula file."""
    return np.exp(np.float64(v)), np.expm1(np.float64(v))


def exp(x):
    """e^x for plain Python use of a formula file."""
    return np.exp(np.float64(x))


def log(x):
    """ln(x) for plain Python use of a formula file."""
    return np.log(np.float64(x))


def exponentials(values: np.ndarray) -> np.ndarray:
    """e^x of a few float64 numbers, as C's library makes it: NumPy's own may differ in the last bit."""
    flat = [math.inf if v > 709.782712893384 else math.exp(v) for v in np.ravel(values).tolist()]
    return np.array(flat, np.float64).reshape(np.shape(values))


def load_plain(p, i):
    """An element that is stored as it is computed with."""
    return read(p, i)


def packed_plain(value):
    """What is stored as it is computed with."""
    return value


def load_half(p, i):
    """float16 in memory, float32 in arithmetic."""
    return half_to_float(read(p, i))


def load_bfloat(p, i):
    """bfloat16 in memory is the upper half of a float32."""
    return from_bits32(np.int32(np.uint32(read(p, i)) << np.uint32(16)))


def packed_bfloat(value):
    """The bits of a bfloat16, rounded to nearest even; a NaN stays one."""
    b = np.uint32(to_bits32(value))
    rounded = np.uint32(np.uint32(b + np.uint32(0x7FFF)) + np.uint32((b >> np.uint32(16)) & np.uint32(1)))
    return np.uint16(rounded >> np.uint32(16)) if value == value else np.uint16(0x7FC0)


def store(p, i, value):
    """Set an element of a result."""
    write(p, i, packed(value))


_f = np.float32
_CONSTANTS = dict(
    LOW32=_f(-88.0), HIGH32=_f(89.0), ROUND32=_f(12582912), ONE_BITS32=np.int32(0x3F800000),
    LOG2E32=_f(1.44269504), LN2_HIGH32=_f(0.693359375), LN2_LOW32=_f(-2.12194440e-4),
    ZERO32=_f(0), HALF32=_f(0.5), ONE32=_f(1), INFINITY32=_f(math.inf), NAN32=_f(math.nan), TINY32=_f(1.17549435e-38),
    TWO23=_f(8388608), POWER23=_f(23), SQRT_BITS32=np.int32(0x3F3504F3),
    E6=_f(0.0013814613078767962), E5=_f(0.008368709838888058), E4=_f(0.04166838736538231),
    E3=_f(0.16666520689692121),
    E2=_f(0.4999999345168751),
    P1=_f(0.6931471824645996), P2=_f(0.24022647738456726), P3=_f(0.055503323674201965), P4=_f(0.00961843691766262),
    P5=_f(0.0013398875016719103), P6=_f(0.00015353361959569156),
    A0=_f(1.4426950216293335), A1=_f(-0.7213472127914429), A2=_f(0.4809102714061737), A3=_f(-0.3607162535190582), A4=_f(0.2879391014575958),
    A5=_f(-0.23867568373680115), A6=_f(0.21521225571632385), A7=_f(-0.20893383026123047), A8=_f(0.12926432490348816),
    LOW_BITS32=_f(-126), HIGH_BITS32=_f(127.5), LN2_32=_f(0.6931471805599453))


def real_name(dtype: str) -> str:
    """The dtype that arithmetic on `dtype` is done in: float32 for the halves, uint8 for bool, else itself."""
    return "float32" if dtype in HALVES else "uint8" if dtype == "bool" else dtype


def storage_name(dtype: str) -> str:
    """The dtype of the memory cells: uint16 for the halves, uint8 for bool, else itself."""
    return "uint16" if dtype in HALVES else real_name(dtype)


def namespace(dtype: str) -> dict[str, Any]:
    """The names that loops and formulas see when they are stamped for `dtype`; functions are still plain Python."""
    work = real_name(dtype)
    access = {"float16": (load_half, memory.float_to_half), "bfloat16": (load_bfloat, packed_bfloat)}
    load, packed = access.get(dtype, (load_plain, packed_plain))
    wide = work == "float64"
    least, most = (-np.inf, np.inf) if work.startswith("float") else (np.iinfo(work).min, np.iinfo(work).max)
    lowest, highest = np.dtype(work).type(least), np.dtype(work).type(most)
    kind = storage_name(dtype)
    return dict(
        _CONSTANTS, np=np, math=math, float64=float64, LANES=LANES, VECTOR=VECTOR, SUM_BYTES=np.dtype(work).itemsize,
        LINE=memory.LINE_BYTES // np.dtype(kind).itemsize, shift=shift, narrow_add=memory.narrow_add, either=memory.either,
        place_in_line=memory.place_in_line, put_line=memory.put_line, prefetch=memory.prefetch, settle=memory.settle, muladd=muladd,
        real=np.dtype(work).type, HALF=dtype in HALVES, half_to_float=half_to_float, float_to_half=memory.float_to_half,
        read=memory.read, write=memory.write,
        from_bits32=memory.recast("int32", "float32"), to_bits32=memory.recast("float32", "int32"),
        from_bits64=memory.recast("int64", "float64"), to_bits64=memory.recast("float64", "int64"),
        exp=exp64 if wide else exp32, near_exp=near_exp64 if wide else near_exp32,
        near_exp_less_one=near_exp_less_one64 if wide else near_exp_less_one32, between=between, log=log64 if wide else log32,
        two_to32=two_to32, reduced64=reduced64,
        log_parts32=log_parts32, scaled32=scaled32, larger=larger, positive=positive, power=power if wide else power32,
        root=root if wide else root32, load=load, store=store, packed=packed,
        elements=memory.pointer(storage_name(dtype)), reals=memory.pointer(work), integers=memory.pointer("int64"),
        doubles=memory.pointer("float64"), lanes=memory.stack(work, LANES), wide_lanes=memory.stack(work, 4 * LANES),
        index_lanes=memory.stack("int64", LANES), octets=memory.pointer("uint8"), lowest=lowest, highest=highest, CELLS=CELLS,
        row1=memory.stack(work, CELLS), row4=memory.stack(work, 4 * CELLS), row5=memory.stack(work, 5 * CELLS + VECTOR),
        raw1=memory.stack(kind, CELLS), TILE=memory.tile_of(np.dtype(work).itemsize), turn_tile=memory.turn_tile)
