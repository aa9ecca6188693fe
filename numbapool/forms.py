"""The kinds of windows of the public functions: their arguments, how these are checked, and the axes they make.

A form has a name, the prefix of its functions' names, the text of its arguments, and `axes`, which turns checked arguments
into windows.  The window arithmetic itself is windows.py's.  Fractional and S3 windows are forms, too: pools/fractional.py, pools/s3.py.
"""
from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from . import windows
from .parameters import ADAPTIVE, GLOBAL, REQUIRED, SLIDING, flag, whole
from .windows import MISSING, Axis

Axes = tuple[Axis, Axis, Axis]


def listed(value: Any) -> bool:
    """Whether a value holds one number an axis, and is not one number."""
    return isinstance(value, Sequence | np.ndarray) and not isinstance(value, str | bytes) and getattr(value, "ndim", 1) > 0


def per_axis(value: Any, ndim: int, where: str, least: int = 1) -> tuple[int, ...]:
    """One int an axis from an int or a sequence of ints, each at least `least` and below 2**31."""
    if listed(value):
        numbers = tuple(whole(v, where) for v in value)
    else:
        numbers = (whole(value, where),) * ndim
    if len(numbers) != ndim:
        raise ValueError(f"{where} must be an int or {ndim} ints, got {value!r}")
    if any(n < least for n in numbers):
        raise ValueError(f"{where} must {'be positive' if least == 1 else 'not be negative'}, got {value!r}")
    if any(n >= windows.LIMIT for n in numbers):
        raise ValueError(f"{where} must be below 2**31, got {value!r}")
    return numbers


def paddings(value: Any, ndim: int, where: str) -> tuple[int | tuple[int, int] | str, ...]:
    """One padding an axis: an int, a (before, after) pair, or "valid", "same", "same_lower"."""
    if isinstance(value, str):
        if value not in ("valid", "same", "same_lower"):
            raise ValueError(f"{where} must be an int, ints, pairs, 'valid', 'same' or 'same_lower', got {value!r}")
        return (value,) * ndim
    if listed(value) and len(value) == ndim and all(map(listed, value)):
        return tuple(per_axis(v, 2, where, 0) for v in value)
    return per_axis(value, ndim, where, 0)


def three(axes: Sequence[Axis], override: int | None = None) -> Axes:
    """The three axes of a call, those that the input lacks first; `override` replaces the divisor of every window."""
    full = (MISSING,) * (3 - len(axes)) + tuple(axes)
    if override is not None:
        full = (full[0].shared(override), full[1].shared(1), full[2].shared(1))
    return full  # type: ignore[return-value]


def rule_of(share: str | int) -> tuple[str, int | None]:
    """A divisor rule of windows.py, and the number that overrides it."""
    return ("one", share) if isinstance(share, int) else (share, None)


class Sliding:
    """Windows of one size at a regular distance."""

    name, prefix = SLIDING, ""

    def arguments(self, defaults: dict[str, Any]) -> tuple[list[tuple[str, str, Any]], list[tuple[str, str, Any]]]:
        """The positional and the keyword-only arguments: name, type hint, default."""
        kernel, stride, padding = (defaults.get(k, d) for k, d in (("kernel_size", REQUIRED), ("stride", None), ("padding", 0)))
        return ([("kernel_size", "int | Sequence[int]", kernel), ("stride", "int | Sequence[int] | None", stride),
                 ("padding", "int | Sequence[int] | Sequence[Sequence[int]] | str", padding)],
                [("dilation", "int | Sequence[int]", 1), ("ceil_mode", "bool", False)])

    def axes(self, where: str, spatial: tuple[int, ...], args: tuple, share: str | int) -> Axes:
        """The windows of checked arguments over an input of the given size."""
        kernel, stride, padding, dilation, ceil_mode = args
        ndim = len(spatial)
        kernel = per_axis(kernel, ndim, f"{where}: kernel_size")
        stride = kernel if stride is None else per_axis(stride, ndim, f"{where}: stride")
        dilation = per_axis(dilation, ndim, f"{where}: dilation")
        padding = paddings(padding, ndim, f"{where}: padding")
        ceil_mode = flag(ceil_mode, f"{where}: ceil_mode")
        axes, (rule, override) = [], rule_of(share)
        for i, (size, k, s, d, p) in enumerate(zip(spatial, kernel, stride, dilation, padding, strict=True)):
            before, after = windows.padding_of(size, k, s, d, p)
            if max(before, after) > d * (k - 1):
                raise ValueError(f"{where}: padding must be at most dilation * (kernel_size - 1) = {d * (k - 1)}, got {max(before, after)}")
            try:
                axes.append(windows.sliding(size, k, s, before, after, d, ceil_mode, rule))
            except ValueError as error:
                raise ValueError(f"{where}: kernel_size, stride, padding and dilation do not suit spatial axis {i}: {error}") from None
        return three(axes, override)


class Adaptive:
    """Windows that divide the input into a given number of near-equal spans."""

    name, prefix = ADAPTIVE, "adaptive_"

    def arguments(self, defaults: dict[str, Any]) -> tuple[list[tuple[str, str, Any]], list[tuple[str, str, Any]]]:
        """The positional and the keyword-only arguments: name, type hint, default."""
        return [("output_size", "int | Sequence[int | None]", REQUIRED)], []

    def axes(self, where: str, spatial: tuple[int, ...], args: tuple, share: str | int) -> Axes:
        """The windows of checked arguments over an input of the given size; None keeps an axis as it is."""
        (size,) = args
        if listed(size) and len(size) == len(spatial):
            size = [s if given is None else given for s, given in zip(spatial, size, strict=True)]
        elif size is None:
            size = spatial
        if 0 in spatial:
            raise ValueError(f"{where}: x must not be empty along a spatial axis, got size {spatial}")
        outputs = per_axis(size, len(spatial), f"{where}: output_size")
        return three([windows.adaptive(s, o, share) for s, o in zip(spatial, outputs, strict=True)])


class Global(Adaptive):
    """One window that covers the whole input."""

    name, prefix = GLOBAL, "global_"

    def arguments(self, defaults: dict[str, Any]) -> tuple[list[tuple[str, str, Any]], list[tuple[str, str, Any]]]:
        """There are none."""
        return [], []

    def axes(self, where: str, spatial: tuple[int, ...], args: tuple, share: str | int) -> Axes:
        """One window an axis."""
        return super().axes(where, spatial, (1,), share)


FORMS = {f.name: f for f in (Sliding(), Adaptive(), Global())}


def _extent(arg: Any) -> float:
    """The largest number in an argument; infinite where equal arguments may differ: in a tuple, True is found as 1 and 2.0 as 2."""
    if type(arg) is tuple:
        return max((a if type(a) is int else _extent(a) if type(a) is tuple else math.inf for a in arg), default=0)
    return arg if type(arg) is int else 0 if type(arg) in (bool, str, type(None)) else math.inf


_remembered = windows.remembered(lambda form, where, spatial, share, *args: form.axes(where, spatial, args, share))


def axes_of(form: Any, where: str, spatial: tuple[int, ...], args: tuple, share: str | int) -> Axes:
    """form.axes, remembered where the arguments allow it."""
    extent = max(map(_extent, (spatial, *args)))
    if extent == math.inf:  # perhaps not hashable
        return form.axes(where, spatial, args, share)
    return _remembered(extent, form, where, spatial, share, *args)
