"""WHERE the windows are: one table an axis.  This is the only place with window arithmetic; kernels just read tables."""
from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

LIMIT = 1 << 31  # kernel_size, stride, padding and dilation are below it, so no product of two overflows 64 bits


@dataclass(frozen=True, eq=False)
class Axis:
    """The windows along one axis; compared and hashed by identity, so that plans can be cached by their axes.

    first : (outputs,) or (planes, outputs) int64, the first input index inside the array
    count : (outputs,) int64, the number of elements inside the array, at least 1
    step : int, distance of two elements of a window (dilation)
    share : (outputs,) int64, this axis' factor of the divisor
    grid : (origin, stride, kernel) where window o is the part inside the array of the taps origin + o * stride + i * step, i < kernel
    """

    first: np.ndarray
    count: np.ndarray
    step: int
    share: np.ndarray
    grid: tuple[int, int, int] | None = None

    def shared(self, factor: int) -> Axis:
        """The same windows with one divisor."""
        return replace(self, share=np.full_like(self.share, factor))


def _axis(first: np.ndarray, count: np.ndarray, step: int = 1, share: np.ndarray | None = None,
          grid: tuple[int, int, int] | None = None) -> Axis:
    table = [np.ascontiguousarray(t, np.int64) for t in (first, count, count if share is None else share)]
    return Axis(table[0], table[1], step, table[2], grid)


MISSING = _axis(np.zeros(1), np.ones(1), grid=(0, 1, 1))  # an axis that the input does not have: one window of one element


def fake_axis(outputs: int) -> Axis:
    """Outputs without windows: for loops that follow indices."""
    ones = np.ones(outputs, np.int64)
    return Axis(np.zeros(outputs, np.int64), ones, 1, ones)


def padding_of(size: int, kernel: int, stride: int, dilation: int, padding: int | tuple[int, int] | str) -> tuple[int, int]:
    """(before, after) of a padding; "same" makes ceil(size / stride) outputs, its surplus after ("same_lower": before)."""
    if isinstance(padding, str):
        if padding == "valid":
            return 0, 0
        total = max((-(-size // stride) - 1) * stride + dilation * (kernel - 1) + 1 - size, 0)
        small = total // 2
        return (small, total - small) if padding == "same" else (total - small, small)
    return (padding, padding) if isinstance(padding, int) else padding


def remembered(make: Callable[..., Any]) -> Callable[..., Any]:
    """`make`, called as (extent, *arguments) with the longest axis as extent, and results kept: many for short axes, few for
    long ones, whose tables take megabytes (1024 audio clips of different length would fill the memory), none for huge ones."""
    short, long = functools.lru_cache(1024, typed=True)(make), functools.lru_cache(4, typed=True)(make)
    return lambda extent, *args: (short if extent <= 4096 else long if extent <= 1 << 22 else make)(*args)


def outputs_of(size: int, kernel: int, stride: int, before: int, after: int, dilation: int, ceil_mode: bool) -> int:
    """How many windows there are at a regular distance; torch's SymInts do, too."""
    outputs = (size + before + after - dilation * (kernel - 1) - 1 + (stride - 1 if ceil_mode else 0)) // stride + 1
    return outputs - 1 if ceil_mode and (outputs - 1) * stride >= size + before else outputs


def sliding(size: int, kernel: int, stride: int, before: int, after: int, dilation: int, ceil_mode: bool, share: str) -> Axis:
    """Windows at a regular distance, as torch.nn.MaxPool1d's; all arguments are checked ints below LIMIT.

    share : "padded" counts the taps inside the padded input, "inside" those inside the input, "one" none.

    Raises ValueError (without the operation's name) where there is no output or a window without any element.
    """
    outputs = outputs_of(size, kernel, stride, before, after, dilation, ceil_mode)
    if outputs < 1:
        raise ValueError(f"a window of {dilation * (kernel - 1) + 1} does not fit into {size} elements padded by ({before}, {after})")
    if outputs > 1 << 40:
        raise ValueError(f"{outputs} outputs along one axis are too many")
    origin = np.arange(outputs, dtype=np.int64) * stride - before
    skipped = np.maximum(-(origin // dilation), 0)
    inside = np.minimum(-((origin - size) // dilation), kernel) - skipped
    if inside.min() < 1:
        raise ValueError(f"window {int(inside.argmin())} has no element inside the {size} elements of its axis")
    padded = np.minimum(-((origin - size - after) // dilation), kernel)
    return _axis(origin + skipped * dilation, inside, dilation,
                 {"padded": padded, "inside": inside, "one": np.ones_like(inside)}[share], (-before, stride, kernel))


def adaptive(size: int, outputs: int, share: str = "inside") -> Axis:
    """`outputs` near-equal spans that cover the axis, as torch.nn.AdaptiveAvgPool1d's."""
    o = np.arange(outputs, dtype=np.int64)
    first = o * size // outputs
    count = -(-(o + 1) * size // outputs) - first
    grid = (0, size // outputs, size // outputs) if size % outputs == 0 else None
    return _axis(first, count, 1, np.ones_like(count) if share == "one" else count, grid)


def spans(sequence: np.ndarray, size: int, overlapping: bool) -> Axis:
    """TensorFlow's fractional windows: from one boundary to the next, or (overlapping) up to and with the next one."""
    first = sequence[:-1]
    last = np.minimum(sequence[1:], size - 1) if overlapping else sequence[1:] - 1
    return _axis(first, last - first + 1)


def at(first: np.ndarray, kernel: int) -> Axis:
    """Windows of `kernel` elements that begin at the given indices; one table, or one a plane."""
    return _axis(first, np.full(first.shape[-1], kernel))


def fractional(size: int, kernel: int, outputs: int, u: np.ndarray) -> Axis:
    """torch's fractional windows of one axis; u : (planes,) uniforms in [0, 1), in the kernel's arithmetic.

    Source: torch's FractionalMaxPooling.h; Graham, "Fractional max-pooling", arXiv:1412.6071, section 2.
    """
    if u.size == 0:  # no planes: any windows will do
        return at(np.zeros(outputs, np.int64), kernel)
    first = np.full((u.size, outputs), size - kernel, np.int64)
    if outputs > 1:
        alpha = u.dtype.type(size - kernel) / u.dtype.type(outputs - 1)
        i = np.arange(outputs - 1, dtype=u.dtype)
        first[:, :-1] = ((i + u[:, None]) * alpha).astype(np.int64) - (u * alpha).astype(np.int64)[:, None]
    return at(first, kernel)
