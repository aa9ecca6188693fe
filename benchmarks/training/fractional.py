"""Fractional max pooling's article: smaller steps and more layers to the same final size, on digits among clutter.

Max pooling halves 16 three times to 2; fractional pooling by about the square root of 2 takes six steps.  Six convolutions with three max
poolings tell what the depth alone does.  Fractional nets draw windows in the test, too, and 8 passes may be averaged.
"""
from __future__ import annotations

from itertools import pairwise
from typing import Any

from torch import nn

import numbapool.torch as nt

from . import fit, nets

TITLE = "Fractional max pooling: cluttered digits"
EPOCHS, RATE = 30, 2e-3
SIZES = (16, 11, 8, 6, 4, 3, 2)
CONDITIONS = {"max, 3 layers": ("max", 3), "max, 6 layers": ("max", 6)} | \
    {f"fractional {kind}, 6 layers": (kind, 6) for kind in ("random", "pseudo-random", "random overlapping", "pseudo-random overlapping")}


def net(kind: str, layers: int) -> nn.Sequential:
    """16 to 32 channels, from 16x16 to 2x2."""
    channels = (16, 32, 32) if layers == 3 else (16, 16, 24, 24, 32, 32)
    if kind == "max":
        return nets.stack(channels, [lambda c: nt.MaxPool2d(2)] * 3 if layers == 3 else [None, lambda c: nt.MaxPool2d(2)] * 3, 2)
    own = {"overlapping": "overlapping" in kind, "pseudo_random": "pseudo" in kind}
    ratios = [size / (out + 0.5) for size, out in pairwise(SIZES)]  # rounded down to these sizes
    return nets.stack(channels, [lambda c, ratio=ratio: nt.FractionalMaxPool2d(pooling_ratio=ratio, **own) for ratio in ratios], SIZES[-1])


def base(label: str) -> str:
    """What a condition is compared with: max pooling with as many layers."""
    return "max, 6 layers" if label.startswith("fractional") else "max, 3 layers"


def parts(label: str) -> list[str]:
    """What one training reports, as additions to its label."""
    return [""] if label.startswith("max") else ["", ", 8 passes"]


def run(label: str, seed: int, epochs: int) -> list[dict[str, Any]]:
    """One training."""
    kind, layers = CONDITIONS[label]
    return fit.fit(lambda: net(kind, layers), seed, epochs, RATE, clutter=True, passes=(1,) if kind == "max" else (1, 8))
