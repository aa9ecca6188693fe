"""Checks for users of numbapool and for its own suite: strategies that draw valid calls, and the laws that poolings keep.

The strategies `shapes`, `windows`, `arrays`, `layouts` and `calls` are for hypothesis' @given.  A law is a plain function that
raises AssertionError with what it found; it takes functions and data, or the name of a public function and a call of it:

>>> from hypothesis import given
>>> from numbapool import testing
>>> @given(testing.calls("soft", 2, dtype="float64", values="exact"))
... def check(call):
...     testing.channels_last_is_a_transpose("soft", 2, *call)
>>> check()
"""
from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Iterable, Sequence
from itertools import permutations
from typing import Any

import numpy as np

from .operation import Operation
from .strategies import arrays, calls, dtype_of, function, lay_out, layouts, operation, prefixes, real_of, shapes, windows

__all__ = [
    "TOLERANCE", "a_batch_of_one", "adjoint", "arrays", "between", "calls", "channels_last_is_a_transpose", "close", "constants_stay",
    "derivative", "dtype_of", "function", "global_is_adaptive_to_one", "lay_out", "layouts", "nan_spreads", "one_more_axis", "operation",
    "order_does_not_matter", "prefixes", "results", "same_everywhere", "shapes", "sums_to_g", "upstream", "windows",
]

Function = Callable[..., Any]
Arrays = Sequence[np.ndarray]
TOLERANCE = {  # (relative to the result, absolute for inputs of size 1): the rounding of sums of up to some hundred terms
    "float64": (1e-12, 1e-13),
    "float32": (4e-6, 2e-6),
    "float16": (1e-3, 1e-3),
    "bfloat16": (8e-3, 8e-3),
}
OF_X = ("logit", "samples", "indices")  # the kinds of parameters that have x's axes


def close(got: Any, expected: Any, scale: Any = 1.0, what: str = "result") -> None:
    """Each element within TOLERANCE of got's dtype (integers: equal); `scale` is the size of the numbers that made it."""
    got = np.asarray(got)
    relative, absolute = TOLERANCE.get(got.dtype.name, (0, 0))
    assert got.shape == np.shape(expected), f"{what}: shape {got.shape}, expected {np.shape(expected)}"
    with np.errstate(all="ignore"):
        a, b = got.astype(np.float64), np.asarray(expected).astype(got.dtype).astype(np.float64)
        slack = relative * np.abs(b) + absolute * np.asarray(scale) + (_least(got.dtype) if relative else 0)
        right = (a == b) | (np.isnan(a) & np.isnan(b)) | (np.abs(a - b) <= slack)
    _everywhere(right, f"{what}: {{}} != {{}}", a, b)


def _least(dtype: np.dtype) -> float:
    """What a few roundings of subnormal numbers may come to: four of the smallest."""
    return 4 * float(np.nextafter(dtype.type(0), dtype.type(1)))


def _everywhere(right: Any, message: str, *shown: Any) -> None:
    """Raise, with the first place that is not right and what is there."""
    wrong = np.argwhere(~np.asarray(right))
    if len(wrong):
        first = tuple(int(i) for i in wrong[0])
        there = message.format(*(np.broadcast_to(s, np.shape(right))[first] for s in shown))
        raise AssertionError(f"{there} at {first}, and {len(wrong) - 1} more of {np.size(right)}")


def upstream(y: np.ndarray, dtype: np.dtype | None = None) -> np.ndarray:
    """A gradient for y: small multiples of 1/8 of both signs and no period."""
    steps = np.arange(np.size(y))
    return ((steps * steps % 31 - 13) / 8).reshape(np.shape(y)).astype(dtype or dtype_of(real_of(y.dtype)))


def results(name: str, ndim: int, args: tuple, kwargs: dict[str, Any], prefix: str = "", g: np.ndarray | None = None) -> list[np.ndarray]:
    """y and every gradient of a call, for the upstream gradient g (default: `upstream`)."""
    backward = function(name, ndim, prefix, backward=True)
    y = function(name, ndim, prefix)(*args, **kwargs)
    taken = inspect.signature(backward).parameters
    found = backward(upstream(y) if g is None else g, *args, **{k: v for k, v in kwargs.items() if k in taken})
    return [y, *found] if isinstance(found, tuple) else [y, found]


# ---------------------------------------------------------------- laws of values

def between(lower: np.ndarray, y: np.ndarray, upper: np.ndarray, scale: Any = 1.0) -> None:
    """lower <= y <= upper within y's rounding; as in mean <= soft <= max, and min <= y <= max of every weighted mean."""
    low, value, high = (np.asarray(a).astype(np.float64) for a in (lower, y, upper))
    relative, absolute = TOLERANCE[np.asarray(y).dtype.name]
    slack = relative * np.abs(value) + absolute * np.asarray(scale) + _least(np.asarray(y).dtype)
    _everywhere((low - slack <= value) & (value <= high + slack), "not {} <= {} <= {}", low, value, high)


def constants_stay(pool: Function, shape: Sequence[int], value: float, dtype: str = "float64") -> None:
    """Where all elements are equal, y is what they are."""
    y = pool(np.full(shape, value, dtype_of(dtype)))
    close(y, np.full(np.shape(y), value), abs(value), f"pooled {value}")


def order_does_not_matter(pool: Function, x: np.ndarray, order: Sequence[int]) -> None:
    """A global window has the same y when its elements are permuted."""
    shuffled = x.reshape(*x.shape[:2], -1)[..., list(order)].reshape(x.shape)
    close(pool(shuffled), pool(x), np.abs(x.astype(np.float64)).max(initial=0), "y of permuted elements")


def nan_spreads(pool: Function, x: np.ndarray, place: tuple[int, ...], covered: np.ndarray) -> None:
    """NaN at one place makes exactly the covered outputs NaN; the others stay what they are, within rounding."""
    spoilt = x.copy()
    spoilt[place] = math.nan
    before, after = pool(x), pool(spoilt)
    _everywhere(np.isnan(after) == (covered | np.isnan(before)), f"NaN at {place}: {{}} in place of {{}}", after, before)
    kept = ~np.isnan(after)
    close(after[kept], before[kept], np.abs(x[np.isfinite(x)]).max(initial=0), f"NaN at {place}: another output")


def same_everywhere(pool: Function, array: np.ndarray, others: Iterable[np.ndarray] | None = None, exact: bool = True) -> None:
    """Layouts of the same values give bit-identical results; with exact=False, within rounding.

    others : the layouts (see the strategy `layouts`); None: every order of the axes, dense, reversed with gaps, and misaligned
    """
    if others is None:
        orders = list(permutations(range(array.ndim)))
        others = [lay_out(array, o, [s] * array.ndim, offset) for o in orders for s, offset in ((1, 0), (-2, 0), (1, 1))]
    wanted = _listed(pool(array))
    for other in others:
        for got, expected in zip(_listed(pool(other)), wanted, strict=True):
            same = np.asarray(got).tobytes() == np.asarray(expected).tobytes()
            if not exact:
                close(got, expected, np.abs(array.astype(np.float64)).max(initial=0), f"with strides {other.strides}")
            assert same or not exact, f"strides {other.strides} change the result from {expected} to {got}"


def _listed(found: Any) -> list[np.ndarray]:
    return list(found) if isinstance(found, tuple | list) else [found]


# ---------------------------------------------------------------- laws of gradients

def sums_to_g(y: np.ndarray, grad_x: np.ndarray, g: np.ndarray) -> None:
    """Adding c to a plane adds c to its y, so the gradients of a plane sum to the plane's g."""
    axes = tuple(range(2, y.ndim))
    total, wanted = (a.astype(np.float64).sum(axes) for a in (grad_x, g))
    size = np.abs(grad_x.astype(np.float64)).sum(axes)
    relative, absolute = TOLERANCE[grad_x.dtype.name]
    _everywhere(np.abs(total - wanted) <= relative * size + absolute * g[0, 0].size, "gradients sum to {}, g to {}", total, wanted)


def adjoint(forward: Function, backward: Function, x: np.ndarray, g: np.ndarray) -> None:
    """<A x, g> = <x, A^T g>, for a pooling that is linear (given its indices), or, as Euler's law, one with f(a x) = a f(x), a > 0."""
    left, right = forward(x).astype(np.float64) * g, backward(g).astype(np.float64) * x
    relative, absolute = TOLERANCE[x.dtype.name]
    slack = relative * (np.abs(left).sum() + np.abs(right).sum()) + absolute
    assert abs(left.sum() - right.sum()) <= slack, f"<A x, g> = {left.sum()}, <x, A^T g> = {right.sum()}, more than {slack} apart"


def derivative(pool: Function, gradients: Arrays, point: Arrays, directions: Arrays, g: np.ndarray, step: float = 1e-5) -> None:
    """d/dt <pool(*(point + t directions)), g> at t = 0, by central differences in float64, is <gradients, directions>."""
    up, down = (pool(*(p + s * d for p, d in zip(point, directions, strict=True))) for s in (step, -step))
    found = sum(float((a * b).sum()) for a, b in zip(gradients, directions, strict=True))
    wanted = float(((up - down) * g).sum()) / (2 * step)
    slack = 1e-6 * (1 + sum(float(np.abs(a * b).sum()) for a, b in zip(gradients, directions, strict=True)))
    assert abs(found - wanted) <= slack, f"directional derivative {wanted}, by the gradients {found}, more than {slack} apart"


# ---------------------------------------------------------------- a call, said in another way

def _changed(op: Operation, args: tuple, kwargs: dict[str, Any], change: Function) -> tuple[tuple, dict[str, Any]]:
    """The call with x, and all that has x's axes, changed."""
    mine = [n for n, p in op.parameters.items() if p.kind in OF_X]
    leading = [n for n, p in op.parameters.items() if p.leading]
    rest = (change(a) if n in mine else a for n, a in zip(leading, args[1:], strict=True))
    return (change(args[0]), *rest), {n: change(v) if n in mine and v is not None else v for n, v in kwargs.items()}


def _same_results(op: Operation, got: Arrays, expected: Arrays, change: Function) -> None:
    """`got` is `expected`, changed where it has x's axes."""
    learnable = [p for p in op.parameters.values() if p.learnable]
    names = ["y", "grad_x", *(f"grad_{p.name}" for p in learnable)][:len(expected)]  # a parameter that may be None is the last
    kinds = [*OF_X[:2], *(p.kind for p in learnable)][:len(expected)]
    for what, kind, a, b in zip(names, kinds, got, expected, strict=True):
        b = change(b) if kind in OF_X else np.reshape(b, np.shape(a))
        close(a, b, 1 + np.abs(np.nan_to_num(np.asarray(b, np.float64))).max(initial=0), f"{op.where}: {what}")


def _agree(name: str, ndim: int, args: tuple, kwargs: dict[str, Any], prefix: str, change: Function, **more: Any) -> None:
    """The changed call gives the changed results."""
    op = operation(name, ndim, prefix)
    expected = results(name, ndim, args, kwargs, prefix)
    other, own = _changed(op, args, kwargs, change)
    _same_results(op, results(name, ndim, other, {**own, **more}, prefix, change(upstream(expected[0]))), expected, change)


def channels_last_is_a_transpose(name: str, ndim: int, args: tuple, kwargs: dict[str, Any], prefix: str = "") -> None:
    """channels_last=True on (N, ..., C) gives the transposed results, gradients too."""
    _agree(name, ndim, args, kwargs, prefix, lambda a: np.moveaxis(a, 1, -1), channels_last=True)


def a_batch_of_one(name: str, ndim: int, args: tuple, kwargs: dict[str, Any], prefix: str = "") -> None:
    """A call whose batch is 1 gives the same without its first axis."""
    assert len(args[0]) == 1, "the batch must be one"
    _agree(name, ndim, args, kwargs, prefix, lambda a: a[0])


def one_more_axis(name: str, ndim: int, args: tuple, kwargs: dict[str, Any], prefix: str = "") -> None:
    """1d is 2d with an axis of one element, 2d is 3d with one; for sliding, adaptive and global windows."""
    op = operation(name, ndim + 1, prefix)
    expected = results(name, ndim, args, kwargs, prefix)
    other, own = _changed(op, args, kwargs, lambda a: a[:, :, None])
    leading = [n for n, p in op.parameters.items() if p.leading and p.kind not in OF_X]
    other = (other[0], *(_raised(n, v, ndim, op) for n, v in zip(leading, other[1:], strict=True))) if leading else other
    own = {n: _raised(n, v, ndim, op) for n, v in own.items()}
    _same_results(op, results(name, ndim + 1, other, own, prefix, upstream(expected[0])[:, :, None]), expected, lambda a: a[:, :, None])


def _raised(argument: str, value: Any, ndim: int, op: Operation) -> Any:
    """An argument for one more axis in front: of the window, or an array over the outputs."""
    first = {"kernel_size": 1, "stride": 1, "dilation": 1, "padding": 0, "output_size": 1}
    if argument in first and value is not None and not isinstance(value, str):
        each = tuple(value) if isinstance(value, list | tuple) else (value,) * ndim
        return ((0, 0) if isinstance(each[0], tuple) else first[argument], *each)
    p = op.parameters.get(argument)
    if p and p.kind == "kernel":
        return value[None]
    if p and p.kind == "array" and np.ndim(value) >= ndim and not (np.ndim(value) == 1 and "channel" in p.shapes):
        return np.expand_dims(value, np.ndim(value) - ndim)
    return value


def global_is_adaptive_to_one(name: str, ndim: int, args: tuple, kwargs: dict[str, Any]) -> None:
    """The global function is the adaptive one with output_size=1."""
    got, expected = results(name, ndim, args, {**kwargs, "output_size": 1}, "adaptive_"), results(name, ndim, args, kwargs, "global_")
    _same_results(operation(name, ndim, "global_"), got, expected, lambda a: a)
