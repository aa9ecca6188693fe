"""Wrong arguments: every argument of every public function, given wrongly, is refused by name before a kernel runs.

WRONG says what is wrong for an argument by its name, KINDS for a pooling's own parameter by its kind; the sweep puts these in
place of the right ones in a good call of the registry.  What depends on more than one argument is in COMBINED.
"""
from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np
import pytest
from cases import CASES, Example, examples

import numbapool as nbp
from numbapool import publish, threads
from numbapool.publish import Function

NAN, INF = float("nan"), float("inf")
HUGE = (1 << 31, 1 << 62, 1 << 63, 10**30)  # beyond 32 bits, beyond 64, beyond any product of two
BOTH = (ValueError, TypeError)
FUNCTIONS = {f.name: f for pooling in nbp.POOLINGS for f in publish.functions(pooling)}


class Good(NamedTuple):
    """A call that works: its function, arguments by name, the shape of y."""

    function: Function
    arguments: dict[str, Any]
    y: np.ndarray

    @property
    def ndim(self) -> int:
        return self.function.operation.ndim

    @property
    def x(self) -> np.ndarray:
        return self.arguments["x"]

    def spoiled(self, changes: dict[str, Any]) -> dict[str, Any]:
        """The arguments with some in other ones' place, as far as the function has them."""
        known = {a.name for a in self.function.arguments}
        return self.arguments | {k: v for k, v in changes.items() if k in known}


def good(name: str, argument: str | None = None) -> Good:
    """A good call of a function, with this argument given if the registry has such a one."""
    f = FUNCTIONS[name]
    found: list[Example] = [e for e in examples(f.operation.name, f.operation.ndim, few=True) if e.function == f.operation.where]
    bound = [dict(inspect.signature(e.forward).bind(e.x, *e.args, **e.kwargs).arguments) for e in found]
    assert bound, f"no example of {name}"
    arguments = next((b for b in bound if argument in b), bound[0])
    y = getattr(nbp, f.operation.where)(**arguments)
    return Good(f, {"grad": np.ones_like(y)} | arguments if f.backward else arguments, y)


def raised(name: str, arguments: dict[str, Any]) -> Exception | None:
    """What a call raises."""
    try:
        getattr(nbp, name)(**arguments)
    except Exception as error:
        return error
    return None


@pytest.fixture
def launches(monkeypatch):
    """The kernels that run."""
    seen: list[Any] = []
    run = threads.run
    monkeypatch.setattr(threads, "run", lambda *args: (seen.append(args), run(*args))[1])
    return seen


# ---------------------------------------------------------------- what is wrong

NUMBER = [("1.0", TypeError), (b"1", TypeError), (True, TypeError), (np.True_, TypeError), (1j, TypeError), (object(), TypeError),
          (np.ones((1, 2, 3, 4, 5, 6)), BOTH), (np.array("a"), TypeError), (10**400, ValueError), (NAN, ValueError)]
FINITE = [*NUMBER, (INF, ValueError), (-INF, ValueError)]
REAL = [*FINITE, ([1.0], TypeError), (None, TypeError)]
RATIO = [*FINITE, (None, ValueError), (lambda g: [1.5] * (g.ndim + 1), ValueError), (lambda g: ["1.5"] * g.ndim, TypeError)]
FLAG = [(1, TypeError), (0.0, TypeError), ("True", TypeError), (None, TypeError), (np.ones(1, bool), TypeError)]
NO_INT = [("2", TypeError), (b"22", TypeError), (2.0, TypeError), (np.float32(2), TypeError), (np.array(2.0), TypeError), (True, TypeError),
          (np.True_, TypeError), (1j, TypeError), ({1}, TypeError), (object(), TypeError), (lambda g: [2.0] * g.ndim, TypeError),
          (lambda g: [True] * g.ndim, TypeError), (lambda g: [[1]] * g.ndim, BOTH), (lambda g: np.full(g.ndim, 2.0), TypeError)]
LENGTHS = [((), ValueError), (lambda g: [1] * (g.ndim + 1), ValueError), (lambda g: np.ones(g.ndim + 1, int), ValueError)]
INTS = [*NO_INT, *LENGTHS, *((n, ValueError) for n in HUGE), (lambda g: [HUGE[1]] * g.ndim, ValueError), (-HUGE[1], ValueError)]
POSITIVE = [*INTS, (0, ValueError), (-1, ValueError), (lambda g: [1] * (g.ndim - 1) + [0], ValueError), (np.array(0), ValueError)]
NO_ARRAY = [("x", TypeError), ([1.0], TypeError), (object(), TypeError)]


def of_shape(name: str) -> list:
    """An array whose dtype is right and whose shape is not."""
    def like(g: Good) -> np.ndarray:
        return np.asarray(g.arguments[name])
    return [(lambda g: like(g)[..., :-1], ValueError), (lambda g: like(g)[None], ValueError), (lambda g: like(g)[..., None], ValueError),
            (lambda g: np.zeros((), like(g).dtype), ValueError)]


def of_dtype(name: str, *dtypes: Any) -> list:
    """The right array in wrong dtypes, masked, and in foreign byte order."""
    return [*((lambda g, d=d: np.asarray(g.arguments[name]).astype(d), TypeError) for d in dtypes),
            (lambda g: np.ma.masked_array(g.arguments[name]), TypeError),
            (lambda g: np.asarray(g.arguments[name]).astype(np.asarray(g.arguments[name]).dtype.newbyteorder()), TypeError)]


def indices(g: Good, value: int, dtype: Any = np.int64) -> np.ndarray:
    """Indices that are right but for the last."""
    result = np.zeros((g.x if "unpool" in g.function.name else g.y).shape, dtype)
    result.flat[-1] = value
    return result


WRONG: dict[str, list] = {
    "x": [*NO_ARRAY, (None, TypeError), (1.0, TypeError), *of_dtype("x", complex, object, "S3", "M8[s]"), (lambda g: g.x[0, 0, ..., 0], ValueError),
          (lambda g: g.x[None], ValueError), (lambda g: g.x[0, 0, ..., 0].sum(), BOTH), (lambda g: np.zeros(()), ValueError)],
    "grad": [*NO_ARRAY, (None, TypeError), (1.0, TypeError), *of_shape("grad"), *of_dtype("grad", "f4", "f2", int, complex, object)],
    "out": [*NO_ARRAY, (lambda g: g.y.tolist(), TypeError), (lambda g: g.y.astype("f4"), TypeError), (lambda g: np.zeros_like(g.y)[None], ValueError),
            (lambda g: np.zeros_like(g.y)[..., :-1], ValueError), (lambda g: np.broadcast_to(np.zeros_like(g.y), g.y.shape), ValueError),
            (lambda g: np.lib.stride_tricks.as_strided(np.zeros_like(g.y), g.y.shape, (0,) * g.y.ndim), ValueError),
            (lambda g: np.ma.masked_array(g.y), TypeError)],
    "kernel_size": POSITIVE,
    "stride": POSITIVE,
    "dilation": POSITIVE,
    "filter_size": POSITIVE,
    "pad_mode": [("unknown", ValueError), ("", ValueError), (1, ValueError), (None, ValueError), (["reflect"], BOTH)],
    "grid_size": POSITIVE,
    "padding": [*INTS[1:], ("2", BOTH), ("full", BOTH), (-1, ValueError), (None, TypeError), (lambda g: ["same"] * g.ndim, BOTH),
                *((lambda g, p=p: [p] * g.ndim, BOTH) for p in ((0, -1), (0, 0, 0), (0,), (0, HUGE[1]), (0, 1.0), (0, True))),
                (lambda g: [(0, 0)] * (g.ndim + 1), BOTH)],
    "output_size": POSITIVE,
    "output_ratio": [*RATIO, *((r, ValueError) for r in (0.0, 1.0, -0.5, 1e-9, 1e300))],
    "pooling_ratio": [*RATIO, *((r, ValueError) for r in (0.99, -2.0, 1e9, 1e300))],
    "indices": [*NO_ARRAY, (lambda g: indices(g, 0)[..., :-1], ValueError), (lambda g: indices(g, 0)[None], ValueError),
                *((lambda g, d=d: indices(g, 0, d), TypeError) for d in ("f8", "u8", "i2", "?", object)), (lambda g: indices(g, -1), ValueError),
                (lambda g: indices(g, 1 << 40), ValueError), (lambda g: indices(g, -(1 << 63)), ValueError),
                (lambda g: indices(g, 10**6, "i4"), ValueError)],
    "sequences": [(1.0, BOTH), ("x", BOTH), ((), ValueError), ([1.0], BOTH), (object(), BOTH), (lambda g: [np.array([0, 1])] * g.ndim, ValueError),
                  (lambda g: [np.array([0, n]) for n in (*g.x.shape[2:], 1)], ValueError),
                  *((lambda g, s=s: [np.array([*s, n]) for n in g.x.shape[2:]], ValueError) for s in ([1], [0, 2, 2], [0, 3, 2], [0, -1], [])),
                  *((lambda g, s=s: [s(n) for n in g.x.shape[2:]], BOTH) for s in (
                      lambda n: [0, n], lambda n: np.array([[0, n]]), lambda n: np.array([0.0, n]), lambda n: np.array([0, 1 << 63, n], "u8")))],
    **dict.fromkeys(("ceil_mode", "channels_last", "return_indices", "return_sequences", "overlapping", "pseudo_random", "training"), FLAG),
    "seed": [("1", TypeError), (1.0, TypeError), (True, TypeError), (np.array([1, 2]), TypeError), (NAN, TypeError)],
    "samples": [*NO_ARRAY, (0.5, ValueError), *of_shape("samples"), *of_dtype("samples", complex, bool, object),
                *((lambda g, u=u: np.full_like(g.arguments["samples"], u), ValueError) for u in (1.0, -0.1, NAN, INF))],
}
S3_INDICES = [("x", BOTH), ([1.0], BOTH), (object(), BOTH), (1, BOTH), ((), ValueError), (lambda g: [np.array([0])] * (g.ndim + 1), ValueError),
              *((lambda g, i=i: [np.array([0, i])] * g.ndim, ValueError) for i in (-1, 10**6, -(1 << 63))),
              (lambda g: [np.array([0.0])] * g.ndim, TypeError), (lambda g: [np.array([[0]])] * g.ndim, ValueError),
              (lambda g: [np.zeros(0, int)] * g.ndim, ValueError), (lambda g: [[0]] * g.ndim, TypeError)]
KINDS: dict[str, list] = {
    "flag": FLAG,
    "divisor": [*NO_INT, (0, ValueError), *((n, ValueError) for n in HUGE[1:]), (-HUGE[1], ValueError)],
    "whole": [*NO_INT, (0, ValueError), (-1, ValueError)],
    "number": REAL,
    "positive": [*REAL, (0, ValueError), (-1.0, ValueError), (np.array(0.0), ValueError)],
    "array": [*NUMBER, (None, TypeError), (lambda g: np.ones(g.x.shape[1] + 7), ValueError), (np.ma.masked_array([1.0]), TypeError)],
    "option": [("unknown", ValueError), ("", ValueError), (1, BOTH), (None, BOTH)],
    "logit": [*NO_ARRAY, (1.0, TypeError), *of_shape("logit"), *of_dtype("logit", "f4", int, complex)],
    "weights": [*NO_ARRAY, (None, TypeError), (1.0, ValueError), (np.zeros(0), ValueError), (np.zeros((1, 1, 2)), ValueError),
                (np.array([NAN]), ValueError), (np.array([INF, 0]), ValueError), (lambda g: np.zeros((g.x.shape[1] + 1, 2)), ValueError),
                (np.ones(2, bool), TypeError), (np.ones(2, complex), TypeError), (10**400, ValueError)],
}
KINDS["kernel"] = [*NO_ARRAY, (None, TypeError), (1.0, ValueError), *of_shape("omega"), *of_dtype("omega", complex, bool, object),
                   *((lambda g, v=v: np.full_like(g.arguments["omega"], v), ValueError) for v in (NAN, INF))]
KINDS["filters"] = [*NO_ARRAY, (1.0, ValueError), *of_shape("weight"), *of_dtype("weight", complex, bool, object),
                    *((lambda g, v=v: np.full_like(g.arguments["weight"], v), ValueError) for v in (NAN, INF))]
INSTEAD = {  # what has to go, or to come, for an argument to matter
    "seed": {"samples": None, "sequences": None, "indices": None, "pooling_ratio": 1.5},
    "pooling_ratio": {"sequences": None},
    "output_ratio": {"sequences": None, "overlapping": False, "kernel_size": 2},
}


def wrong(f: Function, argument: str) -> list:
    """The wrong values of an argument of a function; an argument without any fails."""
    p = f.operation.parameters.get(argument)
    if argument == "indices" and f.operation.name == "s3":
        return S3_INDICES
    found = KINDS[p.kind] if p is not None and p.kind in KINDS else WRONG[argument]
    return [w for w in found if w[0] is not None] if p is not None and p.kind != "option" and p.default is None else found


# ---------------------------------------------------------------- the sweep

def complaints(name: str, launches: list) -> Iterator[str]:
    """What is wrong with the refusals of a function."""
    f = FUNCTIONS[name]
    for argument in (a.name for a in f.arguments):
        g = good(name, argument)
        for value, kinds in wrong(f, argument):
            value = value(g) if callable(value) else value
            launches.clear()
            error = raised(name, g.spoiled(INSTEAD.get(argument, {}) | {argument: value}))
            label = f"{name}({argument}={str(value)[:60]})"
            if error is None:
                yield f"{label}: accepted"
            elif not isinstance(error, kinds) or not re.match(rf"{name}: .*\b{argument}\b", str(error), re.S):
                yield f"{label}: {type(error).__name__}: {str(error)[:200]}"
            elif launches and argument != "indices":
                yield f"{label}: refused after a kernel ran"


@pytest.mark.parametrize("name", FUNCTIONS)
def test_every_argument(name, launches):
    found = list(complaints(name, launches))
    assert not found, "\n".join(found)


@pytest.mark.parametrize("name", FUNCTIONS)
def test_calls(name):
    """Too few, unknown and misplaced arguments: Python's own TypeErrors, which name the function and the argument."""
    function, g = getattr(nbp, name), good(name)
    with pytest.raises(TypeError, match=rf"^{name}\(\) missing .* required positional arguments?: .*'x'"):
        function()
    with pytest.raises(TypeError, match=rf"^{name}\(\) got an unexpected keyword argument 'kernel'"):
        function(**g.arguments, kernel=2)
    positional = [p for p in inspect.signature(function).parameters.values() if p.kind is p.POSITIONAL_OR_KEYWORD]
    with pytest.raises(TypeError, match=rf"^{name}\(\) takes .* positional arguments? but {len(positional) + 1} were given"):
        function(*[g.arguments.get(p.name) for p in positional], 1)


def test_registry_is_complete():
    assert set(FUNCTIONS) == set(nbp.__all__)
    assert set(CASES) == set(nbp.POOLINGS)


# ---------------------------------------------------------------- what depends on more than one argument

X = np.random.default_rng(0).random((2, 3, 8, 8))
INDEX = np.zeros((2, 3, 8, 8), np.int64)
EMPTY = np.zeros((2, 3, 0, 8))
COMBINED: list[tuple[str, tuple, dict[str, Any], str]] = [  # function, arguments, keywords, words of the ValueError
    ("max_pool2d", (X, 9), {}, "kernel_size.* axis 0"),
    ("max_pool2d", (X, (8, 9)), {}, "kernel_size.* axis 1"),
    ("max_pool2d", (X, (1 << 31) - 1), {}, "kernel_size"),
    ("max_pool2d", (X, 5), {"dilation": 2}, "dilation"),
    ("max_pool2d", (X, 2), {"dilation": (1 << 31) - 1}, "dilation"),
    ("max_pool2d", (X, 2, 2, 2), {}, "padding must be at most"),
    ("max_pool2d", (X, 3, 2, ((0, 3), (0, 0))), {}, "padding must be at most"),
    ("max_pool2d", (X, 1, 1, 1), {}, "padding must be at most"),
    ("max_pool2d", (X[..., :1], 2, 1, 9), {"dilation": 9}, "padding"),
    ("max_pool1d", (X[..., 0, :2], 2, 3, 3), {"dilation": 5}, "element"),  # a window that steps over all of x
    ("max_pool2d", (EMPTY, 1), {}, "kernel_size"),
    ("max_pool2d", (EMPTY, 2, 1, 1), {}, "element"),
    ("max_pool2d", (EMPTY, 1, 1, "same"), {}, "kernel_size"),
    ("adaptive_avg_pool2d", (EMPTY, 1), {}, "x must not be empty"),
    ("global_max_pool2d", (EMPTY,), {}, "x must not be empty"),
    ("s3_pool2d", (EMPTY, 1), {}, "kernel_size"),
    ("max_unpool2d", (EMPTY, EMPTY.astype(int), 1), {}, "kernel_size"),
    ("fractional_avg_pool2d", (EMPTY,), {"pooling_ratio": 1.5}, "pooling_ratio"),
    ("std_pool2d", (X, 2), {"correction": np.nan}, "correction must be finite"),
    ("median_pool2d", (X, 2), {"even": "upper"}, "even must be one of 'lower', 'mean'"),
    ("max_blur_pool2d", (X, 99), {}, "kernel_size must be at most"),
    ("max_blur_pool2d", (X,), {"filter_size": 0}, "filter_size must be positive"),
    ("rank_stochastic_pool2d", (X, 2), {"alpha": 0.0}, "alpha must be above 0"),
    ("rank_stochastic_pool2d", (X, 2), {"samples": np.ones((*X.shape[:2], *(n // 2 for n in X.shape[2:])))}, "samples must lie in"),
    ("rank_stochastic_pool2d_backward", (X[..., :4, :4], X, 2), {}, "pass the indices, the samples or the seed"),
    ("rank_pool2d", (X, 2), {}, "pass either t or alpha"),
    ("rank_pool2d", (X, 2), {"t": 2, "alpha": 0.5}, "pass either t or alpha"),
    ("rank_pool2d", (X, 2), {"alpha": 0.0}, "alpha must be above 0"),
    ("rank_pool2d", (X, 2), {"alpha": 1.5}, "alpha must be above 0 and at most 1"),
    ("lse_pool2d", (X, 2), {"r": 0.0}, "r must be above 0"),
    ("ordinal_pool2d", (X, np.array([1.0, -1.0])), {}, "weight must not be negative"),
    ("ordinal_pool2d", (X, np.zeros(3)), {}, "weight must have a positive finite sum"),
    ("ordinal_pool2d", (X, np.array([0.0, 1.0]), 3, 2, 1), {"dilation": 5}, "element|sum"),
    ("mixed_pool2d", (X, np.zeros((3, 2, 2)), 2), {}, "a must be a number or"),
    ("gated_pool2d", (X, np.zeros((2, 3)), 2), {}, "omega must have the kernel's shape"),
    ("blur_pool2d", (EMPTY,), {}, "x must not be empty"),
    ("dpp_pool2d", (X[..., :1], np.zeros(3), np.zeros(3)), {}, "2 elements along every"),
    ("dpp_pool2d", (X, np.zeros(4), np.zeros(3)), {}, "lam must be"),
    ("s3_pool2d", (X, 2, 3), {}, "grid_size must be a multiple"),
    ("s3_pool2d", (X, 9), {}, "kernel_size must be at most"),
    ("s3_pool2d", (X, 2), {"training": False, "return_indices": True}, "training"),
    ("s3_pool2d_backward", (X[..., :4, :4], X, 2), {}, "seed or the indices"),
    ("stochastic_pool2d_backward", (X[..., :4, :4], X, 2), {}, "seed"),
    ("stochastic_pool2d", (X, 2), {"samples": X[..., :4, :4], "seed": 1}, "samples do not go with a seed"),
    ("stochastic_pool2d", (X, 2), {"samples": X[..., :4, :4], "seed": 1, "training": False}, "samples do not go with a seed"),
    ("stochastic_pool2d", (X, 2), {"training": False, "return_indices": True}, "training"),
    ("fractional_max_pool2d_backward", (X[..., :4, :4], X), {"pooling_ratio": 2.0}, "seed"),
    ("fractional_max_pool2d_backward", (X[..., :4, :4], X, 2), {"output_size": 4}, "seed"),
    ("fractional_avg_pool2d_backward", (X[..., :4, :4], X), {"pooling_ratio": 2.0}, "seed"),
    ("fractional_max_pool2d", (X,), {}, "pooling_ratio or sequences"),
    ("fractional_avg_pool2d", (X,), {}, "pooling_ratio or sequences"),
    ("fractional_max_pool2d", (X, 2), {}, "output_size or output_ratio"),
    ("fractional_max_pool2d", (X, 2), {"output_size": 3, "output_ratio": 0.5}, "output_size or output_ratio"),
    ("fractional_max_pool2d", (X, 2), {"pooling_ratio": 2.0}, "kernel_size goes with"),
    ("fractional_max_pool2d", (X,), {"output_size": 3}, "go with kernel_size"),
    ("fractional_max_pool2d", (X,), {"output_ratio": 0.5}, "go with kernel_size"),
    ("fractional_max_pool2d", (X, 2), {"output_size": 8}, "output_size [+] kernel_size"),
    ("max_unpool2d", (X, INDEX, 2), {"output_size": (18, 16)}, "output_size must lie less than stride"),
    ("max_unpool2d", (X, INDEX, 2), {"output_size": (5, 3, 16, 16)}, "output_size"),
    ("max_unpool2d", (X, INDEX, 2), {"output_size": (2, 3, 16, 16), "channels_last": True}, "output_size"),
    ("max_unpool2d", (X, INDEX, 1, None, 8), {}, "padding"),
    ("max_unpool2d", (X, INDEX, (1 << 31) - 1), {}, "kernel_size"),
    ("max_unpool2d", (X, INDEX[..., :7], 2), {}, "indices must have shape"),
    ("lip_pool2d", (X.astype(np.float32), X), {}, "logit"),
    ("gem_pool2d", (X, 2), {"p": np.array([1.0, 0.0, 2.0])}, "p must be above 0"),
    ("soft_pool2d", (X.astype(np.float32), 2), {"temperature": 1e-60}, "temperature"),
    ("lp_pool2d", (X.astype(np.float32), 1e-60, 2), {}, "norm_type"),
    ("lp_pool2d", (X.astype(np.float32), 1e60, 2), {}, "norm_type"),
]


@pytest.mark.parametrize(("name", "args", "kwargs", "words"), COMBINED, ids=[f"{n}-{w}" for n, _, _, w in COMBINED])
def test_combined(name, args, kwargs, words, launches):
    kind = TypeError if name == "lip_pool2d" else ValueError
    with pytest.raises(kind, match=rf"^{name}: .*{words}"):
        getattr(nbp, name)(*args, **kwargs)
    assert not launches


@pytest.mark.parametrize("value", [1.0, 0.0, -1.0])
def test_out_overlaps_the_input(value, launches):
    """In a forward of every pooling that shrinks its input; nothing is written."""
    for name, f in FUNCTIONS.items():
        if f.backward or "unpool" in name:
            continue
        g = good(name)
        x = np.full_like(g.x, value)
        launches.clear()
        error = raised(name, g.spoiled({"x": x, "out": x.reshape(-1)[:g.y.size].reshape(g.y.shape)}))
        assert isinstance(error, ValueError), name
        assert str(error) == f"{name}: out overlaps the memory of an input"
        assert (x == value).all()
        assert not launches


IGNORED = [  # what a call does not need is checked all the same
    ("s3_pool2d", (X, 2), {"training": False}, "seed"), ("s3_pool2d", (X, 2), {"training": False}, "indices"),
    ("s3_pool2d", (X, 2), {"indices": [np.array([0, 2])] * 2}, "seed"), ("stochastic_pool2d", (X, 2), {"training": False}, "seed"),
    ("fractional_max_pool2d", (X,), {"sequences": [np.array([0, 3, 8])] * 2}, "seed"),
    ("s3_pool2d_backward", (X[..., :4, :4], X, 2), {"training": False}, "seed"),
    ("stochastic_pool2d_backward", (X[..., :4, :4], X, 2), {"indices": INDEX[..., :4, :4]}, "seed"),
]


@pytest.mark.parametrize(("name", "args", "kwargs", "argument"), IGNORED, ids=[f"{n}-{a}-{i}" for i, (n, _, _, a) in enumerate(IGNORED)])
def test_what_is_not_needed(name, args, kwargs, argument, launches):
    getattr(nbp, name)(*args, **kwargs, **{argument: [np.array([0, 2])] * 2 if argument == "indices" else 3})
    for value in S3_INDICES[:4] if argument == "indices" else WRONG["seed"]:
        launches.clear()
        with pytest.raises((TypeError, ValueError), match=rf"^{name}: {argument}"):
            getattr(nbp, name)(*args, **kwargs, **{argument: value[0]})
        assert not launches


def test_unhashable_and_odd_ints():
    """What stands for an int is one: NumPy's, 0-d arrays, objects with __index__."""
    class Two:
        def __index__(self) -> int:
            return 2

    expected = nbp.max_pool2d(X, 2)
    sizes: list[Any] = [np.int8(2), np.uint64(2), np.array(2), Two(), [2, 2], (2, np.int32(2)), np.array([2, 2], np.uint8), [Two(), 2]]
    for size in sizes:
        np.testing.assert_array_equal(nbp.max_pool2d(X, size), expected)
    for padding in (np.zeros((2, 2), int), [np.zeros(2, int), (0, 0)], [[0, 0], (0, 0)], "valid"):
        np.testing.assert_array_equal(nbp.max_pool2d(X, 2, None, padding), expected)


# ---------------------------------------------------------------- documentation

SECTIONS = ("Parameters", "Returns", "Raises", "Source", "Examples")


def section(doc: str, title: str) -> str:
    """The text below a heading."""
    found = re.search(rf"^{title}\n{'-' * len(title)}\n(.*?)(?=^\w+\n-+\n|\Z)", inspect.cleandoc(doc), re.S | re.M)
    assert found, f"no section {title}"
    return found[1].strip()


@pytest.mark.parametrize("name", FUNCTIONS)
def test_documented(name):
    function: Callable[..., Any] = getattr(nbp, name)
    texts = {title: section(function.__doc__, title) for title in SECTIONS}
    assert all(texts.values())
    assert len(function.__doc__.splitlines()[0]) < 100
    documented = re.findall(r"^(\w+) : (.+)\n    (\S.*)", texts["Parameters"], re.M)
    assert [n for n, _, _ in documented] == list(inspect.signature(function).parameters)
    for returned in ("return_indices", "return_sequences"):
        assert (returned in texts["Returns"]) == (returned in inspect.signature(function).parameters)


@pytest.mark.parametrize("name", FUNCTIONS)
def test_example_runs(name):
    """And uses the function."""
    lines = re.findall(r"^>>> (.+)", section(getattr(nbp, name).__doc__, "Examples"), re.M)
    assert any(f"nbp.{name}(" in line for line in lines)
    exec("\n".join(lines), {})
