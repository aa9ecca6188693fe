"""Cliffs: window sizes, strides and dilations at which a time jumps, against torch and against the neighbours.

For max, avg and soft, forward and backward, kernel sizes 1 to 11, strides 1 to one more than the kernel, dilations 1 and 2, at sizes from 1
to 300 that a fixed seed draws. The gradient of max is measured by indices, which torch's has, and choosing again, which stands beside torch's forward
and backward pass. A configuration is a cliff where numbapool is slower than torch, or takes more than four times as long a byte
as the median of the configurations whose kernel or stride is one more or one less.
"""
from __future__ import annotations

import itertools
import math
import re
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from statistics import median
from typing import Any

import numba
import numpy as np
import torch
import torch.nn.functional as F

import numbapool

from . import timing
from .rows import LINEAR, TRAFFIC, minimal_bytes

DIRECTIONS = {"max": ("forward", "backward", "again"), "avg": ("forward", "backward"), "soft": ("forward", "backward")}
ELEMENTS = 1 << 18  # of an input, about
STEEP = 4.0  # times the neighbours' median
TURNS = 3


@dataclass(frozen=True)
class Spot:
    """One configuration; the padding is half the kernel at odd sizes and none at even ones."""

    pool: str
    direction: str
    size: int
    kernel: int
    stride: int
    dilation: int

    def __str__(self) -> str:
        return (f"{self.pool} {self.direction} {self.size}x{self.size} k{self.kernel} s{self.stride} d{self.dilation} p{self.padding}")

    @property
    def padding(self) -> int:
        """Positions added on both sides."""
        return self.kernel // 2 if self.size % 2 else 0

    @property
    def fits(self) -> bool:
        """Whether there is a window and every window has an element, which dilation can jump over."""
        reach = self.dilation * (self.kernel - 1) + 1
        inside = [any(0 <= first + j * self.dilation < self.size for j in range(self.kernel))
                  for first in range(-self.padding, self.size + self.padding - reach + 1, self.stride)]
        return bool(inside) and all(inside) and (self.dilation == 1 or self.kernel > 1)

    @property
    def neighbours(self) -> Iterator[Spot]:
        """One more or less of kernel or stride."""
        for dk, ds in ((1, 0), (-1, 0), (0, 1), (0, -1)):
            yield Spot(self.pool, self.direction, self.size, self.kernel + dk, self.stride + ds, self.dilation)

    @property
    def shape(self) -> tuple[int, int, int, int]:
        """Of the input: so many channels that it has about ELEMENTS elements."""
        return 8, max(1, ELEMENTS // (8 * self.size ** 2)), self.size, self.size


def sizes(quick: bool) -> list[int]:
    """Drawn with a fixed seed, small ones as likely as large ones."""
    rng = np.random.default_rng(0)
    drawn = np.unique(np.exp(rng.uniform(0, math.log(300), 14)).round().astype(int)).tolist()
    return [n for n in drawn if n > 20][::3] if quick else drawn


def spots(quick: bool) -> Iterator[Spot]:
    """Every configuration."""
    ways = [(pool, direction) for pool, directions in DIRECTIONS.items() for direction in directions]
    for size, (pool, direction), kernel in itertools.product(sizes(quick), ways, range(1, 6 if quick else 12)):
        for stride, dilation in itertools.product(range(1, kernel + 2), (1, 2)):
            spot = Spot(pool, direction, size, kernel, stride, dilation)
            if spot.fits:
                yield spot


def torch_forward(spot: Spot, x: torch.Tensor) -> torch.Tensor:
    """torch's result; it has dilation for max alone."""
    window = {"kernel_size": spot.kernel, "stride": spot.stride, "padding": spot.padding}
    if spot.pool == "max":
        return F.max_pool2d(x, **window, dilation=spot.dilation)
    if spot.pool == "avg":
        return F.avg_pool2d(x, **window)
    e = x.exp()
    return F.avg_pool2d(e * x, **window) / F.avg_pool2d(e, **window)


def torch_call(spot: Spot, x: np.ndarray, grad: np.ndarray) -> Callable[[], Any] | None:
    """torch's call, or None where it has no such windows."""
    if spot.dilation > 1 and spot.pool != "max":
        return None
    given = torch.from_numpy(x)
    if spot.direction == "forward":
        return lambda: torch_forward(spot, given)
    given.requires_grad_()
    g = torch.from_numpy(grad)
    if spot.direction == "again":
        return lambda: torch.autograd.grad(torch_forward(spot, given), given, g)
    y = torch_forward(spot, given)
    return lambda: torch.autograd.grad(y, given, g, retain_graph=True)


def measure(spot: Spot) -> dict[str, Any]:
    """Milliseconds of both, and ours a megabyte of minimal bytes."""
    x = np.random.default_rng(0).standard_normal(spot.shape, np.float32)
    window = {"kernel_size": spot.kernel, "stride": spot.stride, "padding": spot.padding, "dilation": spot.dilation}
    y = getattr(numbapool, f"{spot.pool}_pool2d")(x, **window)
    grad, function = np.ones_like(y), getattr(numbapool, f"{spot.pool}_pool2d" + "_backward" * (spot.direction != "forward"))
    theirs, others = torch_call(spot, x, grad), {}
    if spot.pool == "max" and spot.direction == "backward":
        others["indices"] = numbapool.max_pool2d(x, **window, return_indices=True)[1]
    ours = (lambda: function(x, **window)) if spot.direction == "forward" else (lambda: function(grad, x, **others, **window))
    calls = {"numbapool": ours} | ({"torch": theirs} if theirs else {})
    found: dict[str, list[float]] = {name: [] for name in calls}
    for _ in range(TURNS):
        for name, call in calls.items():
            call()
            found[name].append(timing.turn(timing.Contender(call), 1))
    traffic = LINEAR["backward"] if spot.pool == "avg" and spot.direction == "backward" else \
        TRAFFIC["forward" if spot.direction == "forward" else "backward+indices" if others else "backward"]
    times = {name: round(1e3 * min(values), 5) for name, values in found.items()}
    return {"label": str(spot), **asdict(spot), **times, "per_mb": times["numbapool"] / (sum(minimal_bytes(traffic, x.size, y.size, 4)) / 1e6)}


def judged(found: dict[Spot, dict[str, Any]]) -> list[dict[str, Any]]:
    """The measurements, with their ratios to torch and to the neighbours' median."""
    for spot, row in found.items():
        near = [found[n]["per_mb"] for n in spot.neighbours if n in found]
        row["to_neighbours"] = round(row["per_mb"] / median(near), 3) if near else None
        row["to_torch"] = round(row["numbapool"] / row["torch"], 3) if "torch" in row else None
        row["cliff"] = [name for name, limit in (("to_torch", 1.0), ("to_neighbours", STEEP)) if (row[name] or 0) > limit]
    return list(found.values())


def sweep(quick: bool, only: str = "") -> dict[str, Any]:
    """All configurations whose labels match, on one thread."""
    timing.keep_freed_memory()
    numba.set_num_threads(1)
    torch.set_num_threads(1)
    return {"sizes": sizes(quick), "spots": judged({spot: measure(spot) for spot in spots(quick) if re.search(only, str(spot))})}


def summary(result: dict[str, Any], most: int = 40) -> str:
    """The cliffs, the worst first, and how many there are."""
    def height(row: dict[str, Any]) -> float:
        return max((row["to_torch"] or 0), (row["to_neighbours"] or 0) / STEEP)
    cliffs = sorted((row for row in result["spots"] if row["cliff"]), key=height, reverse=True)
    lines = [f"{row['label']:<48} {row['numbapool']:9.3f} ms  /torch {row['to_torch']}  /neighbours {row['to_neighbours']}" for row in cliffs[:most]]
    counts = {name: sum(name in row["cliff"] for row in cliffs) for name in ("to_torch", "to_neighbours")}
    lines.append(f"{len(result['spots'])} configurations; slower than torch: {counts['to_torch']}; "
                 f"over {STEEP:g} times their neighbours: {counts['to_neighbours']}")
    return "\n".join(lines)
