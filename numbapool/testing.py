"""Checks for users of numbapool and for its own suite: hypothesis strategies that draw valid calls, and the laws that poolings keep.

A strategy is a function that returns a hypothesis strategy; a law is a plain function that raises AssertionError with what it
found.  This module needs hypothesis, which numbapool itself does not; nothing else imports it.  A public function is named by
its pooling, its number of axes and its prefix: ("soft", 2, "adaptive_") is adaptive_soft_pool2d.
"""
from __future__ import annotations

import functools
import inspect
import math
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np
from hypothesis import assume
from hypothesis import strategies as st

import numbapool

from .operation import Operation
from .parameters import REQUIRED, Parameter
from .publish import operations, window_names

Function = Callable[..., Any]
TOLERANCE = {  # (relative to the result, absolute for inputs of size 1) rounding errors of sums of up to some hundred terms
    "float64": (1e-12, 1e-13),
    "float32": (4e-6, 2e-6),
    "float16": (1e-3, 1e-3),
    "bfloat16": (8e-3, 8e-3),
}
LARGE = {"float64": 2.0**1000, "float32": 2.0**110, "float16": 2.0**15, "bfloat16": 2.0**110}  # some hundred of them still have a sum
LONGEST = {1: 24, 2: 11, 3: 6}


# ---------------------------------------------------------------- strategies

@st.composite
def shapes(draw: Any, ndim: int) -> tuple[int, ...]:
    """Shapes (N, C, *spatial) of up to about a thousand elements, rows and channels beyond the loops' 128 lanes among them.

    >>> from numbapool.testing import shapes
    >>> len(shapes(2).example())
    4
    """
    sizes = st.integers(1, LONGEST[ndim])
    rows = sizes | st.sampled_from([129, 131]) if ndim == 1 else sizes
    spatial = tuple(draw(rows) for _ in range(ndim))
    room = max(1, 1000 // math.prod(spatial))
    channels = draw(st.sampled_from([c for c in (1, 2, 3, 5, 17, 130) if c <= room]))
    return draw(st.integers(1, 2)), channels, *spatial


@st.composite
def windows(draw: Any, ndim: int, spatial: Sequence[int] | None = None) -> dict[str, Any]:
    """Valid arguments of a sliding window: kernel_size, stride, padding, dilation, ceil_mode; those with a default may be missing.

    Strides lie below and above the kernel, kernels may exceed the input, padding is asymmetric up to dilation * (kernel_size - 1),
    and every window has an element.

    Parameters
    ----------
    ndim : 1, 2 or 3
    spatial : the input's spatial size; None draws windows that every input of at least 9 elements an axis takes

    >>> from numbapool.testing import windows
    >>> sorted(windows(2, (5, 7)).example())[-1] in ("kernel_size", "padding", "stride")
    True
    """
    least = 3 if spatial is None else 7
    spatial = (9,) * ndim if spatial is None else tuple(spatial)
    numbers = functools.partial(_numbers, draw, ndim)
    window: dict[str, Any] = {"kernel_size": numbers(1, least)}
    if draw(st.booleans()):
        window["stride"] = numbers(1, 5)
    if draw(st.booleans()):
        window["dilation"] = numbers(1, 3)
    if draw(st.booleans()):
        window["ceil_mode"] = draw(st.booleans())
    kernel, stride, dilation = (_spread(v, ndim) for v in (window["kernel_size"], window.get("stride", window["kernel_size"]), window.get("dilation", 1)))
    over = [s - 1 if window.get("ceil_mode") else 0 for s in stride]
    high = [d * (k - 1) for d, k in zip(dilation, kernel, strict=True)]
    missing = [max(h + 1 - n - o, 0) for h, n, o in zip(high, spatial, over, strict=True)]
    if padding := draw(_paddings(high, missing)):
        window["padding"] = padding
    assume(all(map(_reachable, spatial, kernel, stride, dilation, _pairs(padding, spatial, kernel, stride, dilation), over)))
    return window


def _numbers(draw: Any, ndim: int, low: int, high: int) -> Any:
    """A number for all axes, or a tuple or list with one an axis."""
    one = st.integers(low, high)
    return draw(one | st.tuples(*[one] * ndim) | st.lists(one, min_size=ndim, max_size=ndim))


def _spread(value: Any, ndim: int) -> list[Any]:
    return list(value) if isinstance(value, list | tuple) else [value] * ndim


@st.composite
def _paddings(draw: Any, high: list[int], missing: list[int]) -> Any:
    """A padding of up to `high` a side that makes good what is `missing`, in any of its notations; 0 may be meant by leaving it out."""
    low = [-(-m // 2) for m in missing]
    pairs = st.tuples(*(st.integers(max(m - h, 0), h).flatmap(lambda b, m=m, h=h: st.tuples(st.just(b), st.integers(max(m - b, 0), h)))
                        for m, h in zip(missing, high, strict=True)))
    each = st.tuples(*(st.integers(a, b) for a, b in zip(low, high, strict=True)))
    kinds = [pairs, each, st.sampled_from(["same", "same_lower"])]
    if max(low) <= min(high):
        kinds.append(st.integers(max(low), min(high)))
    if not any(missing):
        kinds.append(st.just("valid"))
    return draw(st.one_of(*kinds))


def _pairs(padding: Any, *axes: Sequence[int]) -> list[tuple[int, int]]:
    """(before, after) of each axis."""
    if isinstance(padding, str):
        totals = [max((-(-n // s) - 1) * s + d * (k - 1) + 1 - n, 0) * (padding != "valid") for n, k, s, d in zip(*axes, strict=True)]
        return [(t // 2, t - t // 2) if padding == "same" else (t - t // 2, t // 2) for t in totals]
    return [p if isinstance(p, tuple) else (p, p) for p in _spread(padding, len(axes[0]))]


def _reachable(size: int, kernel: int, stride: int, dilation: int, padding: tuple[int, int], over: int) -> bool:
    """Whether there is a window, and each has an element of the input."""
    last = size + padding[1] + over - dilation * (kernel - 1)
    starts = [s for s in range(-padding[0], last, stride) if not over or s < size]
    return bool(starts) and all(any(0 <= s + dilation * t < size for t in range(kernel)) for s in starts)


def dtype_of(name: str) -> np.dtype:
    """NumPy's dtype of a name; bfloat16 is ml_dtypes'."""
    return np.dtype(__import__("ml_dtypes").bfloat16 if name == "bfloat16" else name)


@st.composite
def arrays(draw: Any, shape: Sequence[int], dtype: str = "float32", values: str = "finite") -> np.ndarray:
    """NumPy arrays of few different values, so that ties abound.

    Parameters
    ----------
    shape : of the array
    dtype : "float16", "bfloat16" (needs ml_dtypes), "float32", "float64", or an integer dtype
    values : "exact": multiples of 1/8 up to 8, whose sums are exact; "positive": those above 0; "distinct": no two within 1e-3 of each other
        or of 0; "finite": with huge, tiny and subnormal ones and both zeros; "nan": also NaN; "any": also infinities

    >>> from numbapool.testing import arrays
    >>> arrays((2, 3, 5), "float16").example().dtype
    dtype('float16')
    """
    kind = dtype_of(dtype)
    random = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    if values == "distinct":
        steps = random.permutation(math.prod(shape)) - math.prod(shape) // 2
        return ((steps + random.uniform(0.3, 0.7, steps.size)) / 64).reshape(shape).astype(kind)
    palette = draw(st.lists(_elements(kind, values), min_size=1, max_size=8))
    return np.array(palette).astype(kind)[random.integers(len(palette), size=tuple(shape))]


def _elements(kind: np.dtype, values: str) -> st.SearchStrategy[Any]:
    if kind.kind in "iub":
        return st.booleans() if kind == bool else st.integers(*(int(n) for n in (np.iinfo(kind).min, np.iinfo(kind).max)))
    plain = st.integers(1 if values == "positive" else -64, 64).map(lambda n: n / 8)
    if values in ("exact", "positive"):
        return plain
    large, least = LARGE[kind.name], float(np.nextafter(kind.type(0), kind.type(1)))
    rare = [s * v for s in (1, -1) for v in (0.0, large, large / 2, 1 / large, least)]
    rare += [math.nan] * 4 * (values != "finite") + [math.inf, -math.inf] * 2 * (values == "any")
    return plain | st.sampled_from(rare)


@st.composite
def layouts(draw: Any, array: np.ndarray) -> np.ndarray:
    """The same values under other memory: any order of the axes, negative strides, gaps, misaligned, zero strides, read-only.

    An axis gets a zero stride only where the array is constant along it.  What lies in the gaps is NaN (or -1).

    >>> import numpy as np
    >>> from numbapool.testing import layouts
    >>> np.array_equal(layouts(np.arange(6).reshape(2, 3)).example(), [[0, 1, 2], [3, 4, 5]])
    True
    """
    order = draw(st.permutations(range(array.ndim)))
    steps = [draw(st.sampled_from([1, 1, -1, 2, -3])) for _ in range(array.ndim)]
    view = lay_out(array, order, steps, draw(st.sampled_from([0, 0, 0, 1])))
    for axis in range(array.ndim):
        first = view[(slice(None),) * axis + (slice(1),)]
        if first.size and first.tobytes() * 1 and np.broadcast_to(first, view.shape).tobytes() == view.tobytes() and draw(st.booleans()):
            view = np.broadcast_to(first, view.shape)
    view.flags.writeable = view.flags.writeable and draw(st.booleans())
    return view


def lay_out(array: np.ndarray, order: Sequence[int], steps: Sequence[int], offset: int = 0) -> np.ndarray:
    """A copy whose axes lie in `order` (slowest first), `steps` elements apart, `offset` bytes past alignment."""
    cells = [array.shape[axis] * abs(steps[axis]) for axis in order]
    memory = np.full(math.prod(cells) * array.itemsize + offset, 0xFF, np.uint8)[offset:].view(array.dtype).reshape(cells)
    view = memory[tuple(slice(None, None, steps[axis]) for axis in order)].transpose(np.argsort(order))
    view[...] = array
    return view


# ---------------------------------------------------------------- calls

@functools.cache
def operation(name: str, ndim: int, prefix: str = "") -> Operation:
    """What stands behind a public function."""
    return next(o for o in operations(name) if o.ndim == ndim and o.form.prefix == prefix)


@functools.cache
def prefixes(name: str) -> tuple[str, ...]:
    """The prefixes of a pooling's functions: "", "adaptive_", "global_"."""
    return tuple(dict.fromkeys(o.form.prefix for o in operations(name)))


def function(name: str, ndim: int, prefix: str = "", backward: bool = False) -> Function:
    """A public function."""
    return getattr(numbapool, operation(name, ndim, prefix).where + "_backward" * backward)
