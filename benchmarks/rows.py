"""What is measured: poolings, windows, shapes, and the rows made of them.

A pooling is a line or two in POOLS; one without a line is called with the `example` of its file. A row's label names all that it is made of:
`max forward 2x2/s2 8x64x112x112 float32 channels-first 1t`.
"""
from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from itertools import product
from typing import Any

import numpy as np

import numbapool
from numbapool import publish
from numbapool.parameters import REQUIRED

# ---------------------------------------------------------------- bytes

# What each direction must read and write at least. grad is y's gradient; indices are int64, one for each y (x_indices: for each x).
TRAFFIC = {
    "forward": "x -> y",
    "forward+indices": "x -> y indices",
    "backward": "grad x -> grad_x",
    "backward+indices": "grad indices -> grad_x",
}
LINEAR = {"backward": "grad -> grad_x"}  # the gradient does not depend on x


def minimal_bytes(traffic: str, x: int, y: int, itemsize: int) -> tuple[int, int]:
    """(read, written): the bytes of a line like "x -> y indices" for x and y of so many elements."""
    sizes = {"x": x * itemsize, "y": y * itemsize, "indices": y * 8, "x_indices": x * 8}
    sizes |= {"grad": sizes["y"], "grad_x": sizes["x"], "logit": sizes["x"], "grad_logit": sizes["x"]}
    read, written = (sum(sizes[name] for name in side.split()) for side in traffic.split("->"))
    return read, written


# ---------------------------------------------------------------- windows

@dataclass(frozen=True)
class Window:
    """Arguments that say where windows are, and the prefix of the functions that take them."""

    arguments: dict[str, Any] = field(default_factory=dict, hash=False)
    prefix: str = ""


def sliding(kernel: int, stride: int, padding: int = 0) -> Window:
    """Windows of one size at one distance."""
    return Window({"kernel_size": kernel, "stride": stride, "padding": padding})


WINDOWS = {
    1: {"2/s2": sliding(2, 2), "3/s1/p1": sliding(3, 1, 1)},
    2: {
        "2x2/s2": sliding(2, 2),
        "3x3/s2/p1": sliding(3, 2, 1),
        "3x3/s1/p1": sliding(3, 1, 1),
        "7x7/s7": sliding(7, 7),
        "11x11/s1/p5": sliding(11, 1, 5),
        "adaptive-7x7": Window({"output_size": 7}, "adaptive_"),
        "adaptive-50x50": Window({"output_size": 50}, "adaptive_"),
        "global": Window({}, "global_"),
    },
    3: {"2x2x2/s2": sliding(2, 2), "3x3x3/s2/p1": sliding(3, 2, 1), "3x3x3/s1/p1": sliding(3, 1, 1)},
}

SIMPLE = r"2(x2)*/s2"  # the windows that everything is measured with

# ---------------------------------------------------------------- poolings


def same(value: Any) -> Callable[..., Any]:
    """A parameter that is the same for every input."""
    return lambda x, rng: value


@dataclass(frozen=True)
class Pool:
    """One way to call a pooling.

    parameters : own arguments by name, each made from (x, rng); traffic : where the bytes differ from TRAFFIC; windows : its own, by label,
    for any number of dimensions, or None for WINDOWS; only : which of these; positive : whether its input is, as after a ReLU;
    unpools : whether x is pooled first.
    """

    name: str
    parameters: dict[str, Callable[..., Any]] = field(default_factory=dict)
    traffic: dict[str, str] = field(default_factory=dict)
    windows: dict[str, Window] | None = None
    only: str = ".*"
    directions: tuple[str, ...] = ("forward", "backward")
    positive: bool = False
    unpools: bool = False

    def bytes(self, direction: str, x: int, y: int, itemsize: int) -> tuple[int, int]:
        """The minimal bytes of a direction, read and written."""
        return minimal_bytes(self.traffic.get(direction, TRAFFIC[direction]), x, y, itemsize)

    def has(self, prefix: str, ndim: int) -> bool:
        """Whether the pooling has this kind of window."""
        return any(o.ndim == ndim and o.form.prefix == prefix for o in publish.operations(self.name))

    def windows_of(self, ndim: int) -> dict[str, Window]:
        """The windows that its rows may have."""
        if self.windows is not None:
            return self.windows
        return {label: w for label, w in WINDOWS[ndim].items() if self.has(w.prefix, ndim) and re.fullmatch(self.only, label)}


def logits(x: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Log-weights in x's memory order."""
    return filled(x, rng)


def filled(like: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Normal numbers of an array's shape, dtype and memory order."""
    result = np.empty_like(like)
    result[...] = rng.standard_normal(like.shape, np.float32)
    return result


POOLS = {
    "max": Pool("max", directions=tuple(TRAFFIC)),
    "avg": Pool("avg", traffic=LINEAR),
    "lp/2": Pool("lp", {"norm_type": same(2)}, positive=True),
    "lp/3": Pool("lp", {"norm_type": same(3)}, positive=True),
    "lp/2.5": Pool("lp", {"norm_type": same(2.5)}, positive=True),
    "gem": Pool("gem", {"p": same(3.0)}, positive=True),
    "lip": Pool("lip", {"logit": logits}, {"forward": "x logit -> y", "backward": "grad x logit -> grad_x grad_logit"}),
    "sort": Pool("sort", {"weight": same(np.array([0.5, 0.25, -0.25, -0.5]))}, only=SIMPLE),
    "gated": Pool("gated", {"omega": lambda x, rng: rng.standard_normal((2,) * (x.ndim - 2))}, only=SIMPLE),
    "stochastic": Pool("stochastic", {"seed": same(0)}, positive=True),
    "s3": Pool("s3", {"seed": same(0)}, windows={"k2": Window({"kernel_size": 2})}),
    "fractional_max/torch": Pool("fractional_max", {"samples": lambda x, rng: rng.random((*x.shape[:2], x.ndim - 2), np.float32)},
                                 windows={"k2/r0.7": Window({"kernel_size": 2, "output_ratio": 0.7})},
                                 directions=("forward", "backward", "backward+indices")),
    "fractional_max/tf": Pool("fractional_max", {"seed": same(0)}, windows={"r1.41": Window({"pooling_ratio": 1.41})}),
    "fractional_avg": Pool("fractional_avg", {"seed": same(0)}, LINEAR, {"r1.41": Window({"pooling_ratio": 1.41})}),
    "max_unpool": Pool("max_unpool", {}, {"forward": "x x_indices -> y", "backward": "grad x_indices -> grad_x"},
                       only=SIMPLE, unpools=True),
}


def described(name: str) -> Pool:
    """A pooling without a line above: its file's example, and for windows of its own kind whatever they require."""
    function = publish.functions(name)[0]
    formula = function.operation.formula
    example = getattr(formula, "example", {})
    parameters = {k: lambda x, rng, text=text: eval(text, {"np": np, "x": x}) for k, text in example.items()}
    if all(isinstance(form, str) for form in formula.forms):
        return Pool(name, parameters)
    usual = {"kernel_size": 2, "output_size": 3}
    required = {a.name: usual[a.name] for a in function.arguments if a.default is REQUIRED and a.name in usual.keys() - example.keys()}
    return Pool(name, parameters, windows={"default": Window(required)})


def pools() -> dict[str, Pool]:
    """Every pooling of the library by the first word of its labels, in the library's order."""
    result = {}
    for name in numbapool.POOLINGS:
        listed = {label: pool for label, pool in POOLS.items() if pool.name == name}
        result |= listed or {name: described(name)}
    return result


# ---------------------------------------------------------------- rows

DTYPES = {"float16": 2, "bfloat16": 2, "float32": 4, "float64": 8}
ORDERS = FIRST, LAST = "channels-first", "channels-last"
LARGE, CACHED, TINY = (8, 64, 112, 112), (1, 64, 56, 56), (1, 8, 16, 16)
LONG, VOLUME = (8, 64, 12544), (2, 64, 16, 56, 56)
TAIL = (32, 512, 14, 14)  # of a residual network's last stages: many small planes
HEAD = (32, 2048, 7, 7)  # what a residual network's last average sees


@dataclass(frozen=True)
class Row:
    """One measurement."""

    pool: str
    direction: str
    window: str
    shape: tuple[int, ...]
    dtype: str = "float32"
    order: str = FIRST
    threads: int = 1

    def __str__(self) -> str:
        return (f"{self.pool} {self.direction} {self.window} {'x'.join(map(str, self.shape))} {self.dtype} {self.order} {self.threads}t")

    @property
    def ndim(self) -> int:
        """The number of spatial dimensions."""
        return len(self.shape) - 2


def rows_of(wanted: str, windows: str = ".*", shapes: tuple = (LARGE,), dtypes: tuple = ("float32",), orders: tuple = ORDERS,
            threads: tuple = (1,)) -> Iterator[Row]:
    """The rows of all poolings and windows whose names match; a pooling that has no window of that name takes its own."""
    for (label, pool), shape in product(pools().items(), shapes):
        if not re.fullmatch(wanted, label):
            continue
        named = pool.windows_of(len(shape) - 2)
        matching = [w for w in named if re.fullmatch(windows, w)] or (list(named)[:1] if pool.windows is not None else [])
        for window, direction, dtype, order, count in product(matching, pool.directions, dtypes, orders, threads):
            yield Row(label, direction, window, shape, dtype, order, count)


MAIN = "max|avg|soft"


def default_rows() -> list[Row]:
    """A few minutes: every pooling once in both memory orders; windows, sizes, dtypes and threads for max, avg and soft."""
    result = [
        *rows_of(".*", SIMPLE),
        *rows_of(MAIN, ".*", orders=(FIRST,)),
        *rows_of(MAIN, r"3x3/s2/p1|3x3/s1/p1", orders=(LAST,)),
        *rows_of(MAIN, SIMPLE, (CACHED, TINY), orders=(FIRST,)),
        *rows_of(MAIN, SIMPLE, dtypes=("float16", "bfloat16", "float64"), orders=(FIRST,)),
        *rows_of(MAIN, SIMPLE, threads=(2,)),
        *rows_of(MAIN, SIMPLE, (LONG,), orders=(FIRST,)),
        *rows_of(MAIN, ".*", (VOLUME,), orders=(FIRST,)),
        *rows_of(MAIN, SIMPLE + r"|3x3/s2/p1|3x3/s1/p1", (TAIL,), orders=(FIRST,)),
        *rows_of(MAIN, "global", (HEAD,)),
    ]
    return list(dict.fromkeys(result))


def full_rows() -> list[Row]:
    """Everything that is worth a look; hours."""
    every = tuple(DTYPES)
    result = [*default_rows(), *rows_of(".*", ".*", (LARGE, CACHED, TINY, LONG, VOLUME), threads=(1, 2)),
              *rows_of(".*", SIMPLE + r"|3(x3)*/s2/p1", (LARGE, CACHED), every)]
    return list(dict.fromkeys(result))
