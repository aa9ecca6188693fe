"""The counter-based generator: Philox4x32-10, keyed by the seed, counted by the output's plane and its position there.

A draw is a pure function of (seed, plane, position), so it does not depend on threads, memory order or device, and the backward
pass can draw it again.  A block of the generator is four words: those of four neighbours in a plane, so that kernels whose lanes are
positions and kernels whose lanes are planes both use all of them.
Source: Salmon et al., "Parallel random numbers: as easy as 1, 2, 3", SC 2011, section 4.3.
"""
from __future__ import annotations

import operator
import secrets

import numpy as np

_LOW = np.uint64(0xFFFFFFFF)
_SHIFT = np.uint64(32)
_MULTIPLIER_0, _MULTIPLIER_1 = np.uint64(0xD2511F53), np.uint64(0xCD9E8D57)
_WEYL_0, _WEYL_1 = np.uint64(0x9E3779B9), np.uint64(0xBB67AE85)


def philox(seed, block, plane):
    """Philox4x32-10: four words, each the low half of 64 bits, for a 64-bit key and counters (scalars or NumPy arrays of uint64)."""
    c, k0, k1 = (block & _LOW, block >> _SHIFT, plane & _LOW, plane >> _SHIFT), seed & _LOW, seed >> _SHIFT
    c = stirred(c, k0, k1, np.uint64(0))
    c = stirred(c, k0, k1, np.uint64(1))
    c = stirred(c, k0, k1, np.uint64(2))
    c = stirred(c, k0, k1, np.uint64(3))
    c = stirred(c, k0, k1, np.uint64(4))
    c = stirred(c, k0, k1, np.uint64(5))
    c = stirred(c, k0, k1, np.uint64(6))
    c = stirred(c, k0, k1, np.uint64(7))
    c = stirred(c, k0, k1, np.uint64(8))
    return stirred(c, k0, k1, np.uint64(9))


def stirred(c, k0, k1, turn):
    """One of the ten rounds; what stands in the upper halves does not matter."""
    p0, p1 = (c[0] & _LOW) * _MULTIPLIER_0, (c[2] & _LOW) * _MULTIPLIER_1
    k0, k1 = (k0 + turn * _WEYL_0) & _LOW, (k1 + turn * _WEYL_1) & _LOW
    return (p1 >> _SHIFT) ^ c[1] ^ k0, p1, (p0 >> _SHIFT) ^ c[3] ^ k1, p0


def uniforms(seed: int, planes: int, size: int, stream: int = 0) -> np.ndarray:
    """Uniform numbers in [0, 1) with 24 bits, which float32 holds, (planes, size); a stream is a sequence of its own."""
    plane = np.arange(planes, dtype=np.uint64)[:, None] + (np.uint64(stream) << np.uint64(48))
    words = philox(np.uint64(seed), np.arange(-(-size // 4), dtype=np.uint64)[None], plane)
    drawn = np.stack(np.broadcast_arrays(*words), -1).reshape(planes, -1)[:, :size]
    return ((drawn & _LOW) >> np.uint64(8)) * 2.0 ** -24


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
