"""The counter-based generator: Philox4x32-10, keyed by the seed, counted by the output's position.

A draw is a pure function of (seed, position), so it does not depend on threads, memory order or device, and the backward
pass can draw it again.  Source: Salmon et al., "Parallel random numbers: as easy as 1, 2, 3", SC 2011, section 4.3.
"""
from __future__ import annotations

import operator
import secrets

import numpy as np

_LOW = np.uint64(0xFFFFFFFF)
_SHIFT = np.uint64(32)
_MULTIPLIER_0, _MULTIPLIER_1 = np.uint64(0xD2511F53), np.uint64(0xCD9E8D57)
_WEYL_0, _WEYL_1 = np.uint64(0x9E3779B9), np.uint64(0xBB67AE85)


def philox(seed, position):
    """The first 32-bit word of Philox4x32-10 for a 64-bit key and a 64-bit counter (scalars or NumPy arrays of uint64)."""
    k0, k1 = seed & _LOW, seed >> _SHIFT
    c0, c1 = position & _LOW, position >> _SHIFT
    c2, c3 = c0 & np.uint64(0), c0 & np.uint64(0)
    for _ in range(10):
        p0, p1 = c0 * _MULTIPLIER_0, c2 * _MULTIPLIER_1
        c0, c1, c2, c3 = (p1 >> _SHIFT) ^ c1 ^ k0, p1 & _LOW, (p0 >> _SHIFT) ^ c3 ^ k1, p0 & _LOW
        k0, k1 = (k0 + _WEYL_0) & _LOW, (k1 + _WEYL_1) & _LOW
    return c0


def uniform(seed, position):
    """A uniform number in [0, 1) with 24 bits, so that float32 and float64 kernels draw the same one."""
    return np.float64(philox(np.uint64(seed), np.uint64(position)) >> np.uint64(8)) * 5.9604644775390625e-08


def uniforms(seed: int, shape: tuple[int, ...], stream: int = 0) -> np.ndarray:
    """An array of draws, in the row-major order of their positions; a stream is a sequence of its own."""
    count = int(np.prod(shape))
    position = np.arange(count, dtype=np.uint64) + (np.uint64(stream) << np.uint64(48))
    return uniform(np.uint64(seed), position).reshape(shape)


def key(seed: int | None, where: str) -> int:
    """The 64-bit key of a seed: an int of any sign, or None for fresh entropy."""
    if seed is None:
        return secrets.randbits(63)
    try:
        if isinstance(seed, bool):
            raise TypeError
        return operator.index(seed) & 0x7FFFFFFFFFFFFFFF
    except TypeError:
        raise TypeError(f"{where}: seed must be an int or None, got {type(seed).__name__}") from None
