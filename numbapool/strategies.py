"""Hypothesis strategies that draw shapes, windows, arrays, their layouts, and complete valid calls of every pooling.

Everything here is public as numbapool.testing.  Needs hypothesis, which numbapool itself does not.  A public function is named
by its pooling, its number of axes and its prefix: ("soft", 2, "adaptive_") is adaptive_soft_pool2d.
"""
from __future__ import annotations

import functools
import inspect
import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from hypothesis import assume
from hypothesis import strategies as st

import numbapool

from .arrays import borrow
from .operation import Operation
from .parameters import IGNORE_NAN, REQUIRED, Parameter
from .publish import operations

Function = Callable[..., Any]
LARGE = {"float64": 2.0**1000, "float32": 2.0**110, "float16": 2.0**15, "bfloat16": 2.0**110}  # some hundred of them still have a sum
LONGEST = {1: 24, 2: 11, 3: 6}


# ---------------------------------------------------------------- shapes and windows

@st.composite
def shapes(draw: Any, ndim: int) -> tuple[int, ...]:
    """Shapes (N, C, *spatial) of up to some hundred elements; some have more channels, or a longer row, than the loops have lanes.

    >>> from numbapool.testing import shapes
    >>> len(shapes(2).example())
    4
    """
    sizes = st.integers(1, LONGEST[ndim])
    spatial = tuple(draw(sizes | st.sampled_from([129, 131]) if ndim == 1 else sizes) for _ in range(ndim))
    channels = [c for c in (1, 2, 3, 5, 17, 130) if c == 1 or c * math.prod(spatial) <= 400]
    return draw(st.integers(1, 2)), draw(st.sampled_from(channels)), *spatial


@st.composite
def windows(draw: Any, ndim: int, spatial: Sequence[int] | None = None) -> dict[str, Any]:
    """Valid arguments of a sliding window: kernel_size, stride, padding, and maybe dilation and ceil_mode.

    Strides lie below and above the kernel, kernels may exceed the input, padding goes up to dilation * (kernel_size - 1) on either
    side, and every window has an element.

    Parameters
    ----------
    ndim : 1, 2 or 3
    spatial : the input's spatial size; None draws windows that every input of at least 9 elements an axis takes

    >>> from numbapool.testing import windows
    >>> "kernel_size" in windows(2, (5, 7)).example()
    True
    """
    def numbers(low: int, high: int) -> Any:
        one = st.integers(low, high)
        return draw(one | st.tuples(*[one] * ndim) | st.lists(one, min_size=ndim, max_size=ndim))

    sizes = (9,) * ndim if spatial is None else tuple(spatial)
    window: dict[str, Any] = {"kernel_size": numbers(1, 3 if spatial is None else 7)}
    window |= {"stride": numbers(1, 5) if draw(st.booleans()) else None}
    window |= {"dilation": numbers(1, 3)} if draw(st.booleans()) else {}
    window |= {"ceil_mode": draw(st.booleans())} if draw(st.booleans()) else {}
    chosen = window["kernel_size"], window["stride"] or window["kernel_size"], window.get("dilation", 1)
    kernel, stride, dilation = (_each(value, ndim) for value in chosen)
    over = [s - 1 if window.get("ceil_mode") else 0 for s in stride]
    most = [d * (k - 1) for d, k in zip(dilation, kernel, strict=True)]
    missing = [max(m + 1 - n - o, 0) for m, n, o in zip(most, sizes, over, strict=True)]
    padding = window["padding"] = draw(_paddings(most, missing))
    assume(all(map(_reachable, sizes, kernel, stride, dilation, _pairs(padding, sizes, kernel, stride, dilation), over)))
    return window


def _each(value: Any, ndim: int) -> list[Any]:
    return list(value) if isinstance(value, list | tuple) else [value] * ndim


@st.composite
def _paddings(draw: Any, most: list[int], missing: list[int]) -> Any:
    """A padding of at most `most` a side that makes good what is `missing` on each axis, in any notation."""
    low = [-(-m // 2) for m in missing]
    before = [draw(st.integers(m - min(m, h), h)) for m, h in zip(missing, most, strict=True)]
    pairs = tuple((b, draw(st.integers(min(max(m - b, 0), h), h))) for b, m, h in zip(before, missing, most, strict=True))
    each = tuple(draw(st.integers(a, b)) for a, b in zip(low, most, strict=True))
    kinds = [st.just(pairs), st.just(each), st.sampled_from(["same", "same_lower"])]
    kinds += [st.integers(max(low), min(most))] if max(low) <= min(most) else []
    return draw(st.one_of(*kinds, *[st.just("valid")] * (not any(missing))))


def _pairs(padding: Any, *axes: Sequence[int]) -> list[tuple[int, int]]:
    """(before, after) of each axis."""
    if not isinstance(padding, str):
        return [p if isinstance(p, tuple) else (p, p) for p in _each(padding, len(axes[0]))]
    totals = [max((-(-n // s) - 1) * s + d * (k - 1) + 1 - n, 0) * (padding != "valid") for n, k, s, d in zip(*axes, strict=True)]
    return [(t // 2, t - t // 2) if padding == "same" else (t - t // 2, t // 2) for t in totals]


def _reachable(size: int, kernel: int, stride: int, dilation: int, padding: tuple[int, int], over: int) -> bool:
    """Whether there is a window, and each has an element of the input."""
    starts = range(-padding[0], min(size + padding[1] + over - dilation * (kernel - 1), size), stride)
    return bool(starts) and all(any(0 <= s + dilation * t < size for t in range(kernel)) for s in starts)


# ---------------------------------------------------------------- arrays

def dtype_of(name: str) -> np.dtype:
    """NumPy's dtype of a name; bfloat16 is ml_dtypes'."""
    return np.dtype(__import__("ml_dtypes").bfloat16 if name == "bfloat16" else name)


def real_of(kind: np.dtype) -> str:
    """The floating dtype that an input of a dtype is computed in: its own, or for integers the next one."""
    return kind.name if kind.name in LARGE else "float64" if kind.itemsize > 4 else "float32"


@st.composite
def arrays(draw: Any, shape: Sequence[int], dtype: str = "float32", values: str = "finite") -> np.ndarray:
    """NumPy arrays; but for "distinct" ones of at most eight different values, so that ties abound.

    Parameters
    ----------
    shape : of the array
    dtype : "float16", "bfloat16" (needs ml_dtypes), "float32", "float64", or an integer dtype
    values : "exact": multiples of 1/8 up to 8, whose sums are exact; "positive": those above 0; "distinct": at least 1/200 from each other
        and from 0; "finite": also huge, tiny and subnormal ones and both zeros; "nan": also NaN; "any": also infinities

    >>> from numbapool.testing import arrays
    >>> arrays((2, 3, 5), "float16").example().dtype
    dtype('float16')
    """
    kind = dtype_of(dtype)
    random = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    if values == "distinct":
        steps = random.permutation(math.prod(shape)) - math.prod(shape) // 2
        return ((steps + random.uniform(0.4, 0.6, steps.size)) / 64).reshape(shape).astype(kind)
    palette = np.array(draw(st.lists(_elements(kind, values), min_size=1, max_size=8)), None if kind.kind in "iub" else float)
    return palette.astype(kind)[random.integers(len(palette), size=tuple(shape))]


def _elements(kind: np.dtype, values: str) -> st.SearchStrategy[Any]:
    if kind.kind == "b":
        return st.booleans()
    if kind.kind in "iu":
        return st.integers(max(int(np.iinfo(kind).min), -100), min(int(np.iinfo(kind).max), 100))
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

    An axis gets a zero stride only where the array is constant along it.  What lies in gaps is NaN.

    >>> import numpy as np
    >>> from numbapool.testing import layouts
    >>> layouts(np.arange(6).reshape(2, 3)).example().tolist()
    [[0, 1, 2], [3, 4, 5]]
    """
    steps = [draw(st.sampled_from([1, 1, -1, 2, -3])) for _ in range(array.ndim)]
    view = lay_out(array, draw(st.permutations(range(array.ndim))), steps, draw(st.sampled_from([0, 0, 0, 1])))
    for axis in range(array.ndim):
        wide = np.broadcast_to(view[(slice(None),) * axis + (slice(1),)], view.shape) if view.size else view
        view = wide if wide.tobytes() == view.tobytes() and draw(st.booleans()) else view
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
    """The prefixes of a pooling's functions, of "", "adaptive_" and "global_"."""
    return tuple(dict.fromkeys(o.form.prefix for o in operations(name)))


def function(name: str, ndim: int, prefix: str = "", backward: bool = False) -> Function:
    """A public function."""
    return getattr(numbapool, operation(name, ndim, prefix).where + "_backward" * backward)


@st.composite
def calls(draw: Any, name: str, ndim: int, prefix: str = "", dtype: str = "float32", values: str = "finite",
          shape: Sequence[int] | None = None) -> tuple[tuple, dict[str, Any]]:
    """Complete calls (args, kwargs) of a pooling's function, drawn from what its file declares; x is args[0], what is random has a seed.

    Parameters
    ----------
    name, ndim, prefix : the function
    dtype, values : x's, as for `arrays`
    shape : x's; None draws it

    >>> import numbapool
    >>> from numbapool.testing import calls
    >>> args, kwargs = calls("soft", 2, "adaptive_").example()
    >>> numbapool.adaptive_soft_pool2d(*args, **kwargs).ndim
    4
    """
    op = operation(name, ndim, prefix)
    x = draw(arrays(draw(shapes(ndim)) if shape is None else tuple(shape), dtype, values))
    window = WINDOWS[op.form.name](draw, op, x)
    own: dict[str, Any] = {}
    either = getattr(op.formula, "one_of", ())  # of which exactly one is given
    chosen = draw(st.sampled_from(either)) if either else None
    for p in op.parameters.values():
        optional = p.name not in either and p.kind in KINDS and p.direction != "backward" and (p is not IGNORE_NAN or values in ("nan", "any"))
        if p.name == chosen or p.default is REQUIRED or p.kind == "seed" or (optional and draw(st.booleans())):
            own[p.name] = KINDS[p.kind](draw, p, op, x, window)
    if own.get("samples") is not None:
        own["seed"] = None  # one or the other
    leading = tuple(own.pop(p.name) for p in op.parameters.values() if p.leading)
    return (x, *leading), {**window, **own}


def _arguments(op: Operation, window: dict[str, Any]) -> tuple:
    """The window's arguments, in order, with their defaults."""
    declared = inspect.signature(getattr(numbapool, op.where)).parameters
    return tuple(window.get(n, declared[n].default) for n in op.window)


def _outputs(op: Operation, x: np.ndarray, window: dict[str, Any]) -> tuple[int, ...]:
    own = {p.name: p.default for p in op.parameters.values() if p.default is not REQUIRED and p.direction != "backward"}
    return op.begin([borrow(x, op.where)], _arguments(op, window), own, False, op.where).out_dims[5 - op.ndim:]


def _array(draw: Any, p: Parameter, op: Operation, x: np.ndarray, window: dict[str, Any]) -> Any:
    """An array parameter in one of its shapes, its values above its bound."""
    out = _outputs(op, x, window)
    shapes = {"number": (), "channel": x.shape[1:2], "position": out, "channel_position": (x.shape[1], *out)}
    shape = shapes[draw(st.sampled_from(p.shapes))]
    bounded = p.above > -math.inf
    value = draw(arrays(shape, "float64", "positive" if bounded else "exact")) / 4 + (p.above + 0.25 if bounded else 0)
    return value if shape else float(value)


def _indices(draw: Any, p: Parameter, op: Operation, x: np.ndarray, window: dict[str, Any]) -> np.ndarray:
    """Different positions in the output's planes."""
    plane = math.prod(op.form.size(x.shape[2:], x.shape[:2], False, _arguments(op, window), op.where))
    random = np.random.default_rng(draw(st.integers(0, 99)))
    return np.array([random.permutation(plane)[:math.prod(x.shape[2:])] for _ in range(x.shape[0] * x.shape[1])]).reshape(x.shape)


def _uniforms(draw: Any, shape: tuple[int, ...]) -> np.ndarray:
    """Multiples of 1/32 in [0, 1), whose products with small numbers are exact."""
    return np.random.default_rng(draw(st.integers(0, 99))).integers(32, size=shape) / 32


def _weights(draw: Any, p: Parameter, op: Operation, x: np.ndarray, window: dict[str, Any]) -> np.ndarray:
    """Weights by rank, for all channels or for each."""
    return draw(arrays((*x.shape[1:2] * draw(st.booleans()), draw(st.integers(1, 9))), "float64", "positive"))


def _kernel(draw: Any, p: Parameter, op: Operation, x: np.ndarray, window: dict[str, Any]) -> np.ndarray:
    """An array of the kernel's shape."""
    return draw(arrays(_each(window["kernel_size"], op.ndim), "float64", "exact")) / 16


KINDS: dict[str, Function] = {  # of parameters: (draw, parameter, operation, x, window) -> value
    "flag": lambda draw, *_: draw(st.booleans()),
    "divisor": lambda draw, *_: draw(st.sampled_from([None, 1, 2, 5, -3])),
    "whole": lambda draw, *_: draw(st.integers(1, 9)),
    "number": lambda draw, p, *_: draw(st.integers(1, 32)) / 32 * p.most if p.most < math.inf else draw(st.integers(-32, 32)) / 8,
    "positive": lambda draw, *_: draw(st.integers(2, 32)) / 8,
    "option": lambda draw, p, *_: draw(st.sampled_from(sorted(p.choices))),
    "seed": lambda draw, *_: draw(st.integers(0, 2**31)),
    "logit": lambda draw, p, op, x, window: draw(arrays(x.shape, real_of(x.dtype), "exact")),
    "samples": lambda draw, p, op, x, window: _uniforms(draw, (*x.shape[:2], *_outputs(op, x, window))),
    "array": _array, "weights": _weights, "kernel": _kernel,
    "filters": lambda draw, p, op, x, window: draw(arrays((x.shape[1], *(3,) * op.ndim), "float64", "exact")) / 8, "indices": _indices,
}


def _adaptive(draw: Any, op: Operation, x: np.ndarray) -> dict[str, Any]:
    each = st.tuples(*(st.none() | st.integers(1, n + 2) for n in x.shape[2:]))
    return {"output_size": draw(st.integers(1, max(x.shape[2:]) + 2) | each)}


def _sampled(draw: Any, op: Operation, x: np.ndarray) -> dict[str, Any]:
    """S3's windows: in inference, by given positions, or drawn from strips of a grid."""
    kernel = tuple(draw(st.integers(1, min(n, 4))) for n in x.shape[2:])
    how = draw(st.sampled_from(["inference", "indices", "seed"]))
    if how == "indices":
        rows = [draw(st.lists(st.integers(0, n - k), min_size=1, max_size=4)) for n, k in zip(x.shape[2:], kernel, strict=True)]
        return {"kernel_size": kernel, "indices": [np.array(r) for r in rows]}
    more = {"seed": draw(st.integers(0, 99))} if how == "seed" else {"training": False}
    return {"kernel_size": kernel, "grid_size": draw(st.sampled_from([None, tuple(2 * k for k in kernel)])), **more}


def _fractional(draw: Any, op: Operation, x: np.ndarray) -> dict[str, Any]:
    """Graham's windows: torch's with samples or a seed, TensorFlow's with sequences or a seed."""
    if "kernel_size" in op.window and draw(st.booleans()):
        kernel = tuple(draw(st.integers(1, min(n, 4))) for n in x.shape[2:])
        size = tuple(draw(st.integers(1, n - k + 1)) for n, k in zip(x.shape[2:], kernel, strict=True))
        drawn = {"samples": _uniforms(draw, (*x.shape[:2], op.ndim))} if draw(st.booleans()) else {"seed": draw(st.integers(0, 99))}
        return {"kernel_size": kernel, "output_size": size, **drawn}
    if draw(st.booleans()):
        cuts = [sorted(draw(st.sets(st.integers(0, n), max_size=6)) | {0, n}) for n in x.shape[2:]]
        return {"overlapping": draw(st.booleans()), "sequences": [np.array(c) for c in cuts]}
    ratio = draw(st.tuples(*(st.integers(8, 8 * min(n, 4)) for n in x.shape[2:])))
    return {"pooling_ratio": tuple(r / 8 for r in ratio), "seed": draw(st.integers(0, 99)),
            "pseudo_random": draw(st.booleans()), "overlapping": draw(st.booleans())}


def _unpooled(draw: Any, op: Operation, x: np.ndarray) -> dict[str, Any]:
    """Windows whose plane has room for every element."""
    kernel = draw(st.integers(1, 3))
    return {"kernel_size": kernel, "stride": draw(st.sampled_from([None, 1, 2, 3])), "padding": draw(st.integers(0, (kernel - 1) // 2))}


def _blurred(draw: Any, op: Operation, x: np.ndarray) -> dict[str, Any]:
    """A filter of any size, its stride and its border."""
    return {"filter_size": draw(st.integers(1, 6)), "stride": draw(st.integers(1, 3)),
            "pad_mode": draw(st.sampled_from(["reflect", "replicate", "constant"]))}


def _max_blurred(draw: Any, op: Operation, x: np.ndarray) -> dict[str, Any]:
    """The same after maxima."""
    return {"kernel_size": tuple(draw(st.integers(1, min(n, 3))) for n in x.shape[2:]), **_blurred(draw, op, x)}


def _halved(draw: Any, op: Operation, x: np.ndarray) -> dict[str, Any]:
    """Windows of two elements an axis."""
    assume(min(x.shape[2:]) > 1)
    return {}


WINDOWS: dict[str, Function] = {  # by the name of the form: (draw, operation, x) -> arguments
    "sliding": lambda draw, op, x: draw(windows(op.ndim, x.shape[2:])), "adaptive": _adaptive, "global": lambda draw, op, x: {},
    "sampled": _sampled, "fractional": _fractional, "unpooled": _unpooled, "blurred": _blurred,
    "max_blurred": _max_blurred, "halved": _halved,
}
