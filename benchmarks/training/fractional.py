"""Fractional max pooling's article: smaller steps and more layers to the same final size, on digits among clutter.

Max pooling halves 24 three times to 3; fractional pooling by the square root of 2 takes six steps.  Six convolutions with three max
poolings tell what the depth alone does.  Fractional nets draw windows in the test, too, and 8 passes may be averaged.
"""
from __future__ import annotations

from math import sqrt
from typing import Any

from torch import nn

import numbapool.torch as nt

from . import fit, nets

TITLE = "Fractional max pooling: cluttered digits"
EPOCHS = 25
CONDITIONS = {"max, 3 layers": ("max", 3, 1), "max, 6 layers": ("max", 6, 1)} | \
    {f"fractional {kind}, 6 layers{', 8 passes' if passes > 1 else ''}": (kind, 6, passes)
     for kind in ("random", "pseudo-random", "random overlapping", "pseudo-random overlapping") for passes in (1, 8)}


def net(kind: str, layers: int) -> nn.Sequential:
    """16 to 32 channels, from 24x24 to 3x3."""
    channels = (16, 32, 32) if layers == 3 else (16, 16, 24, 24, 32, 32)
    if kind == "max":
        return nets.stack(channels, [lambda c: nt.MaxPool2d(2)] * 3 if layers == 3 else [None, lambda c: nt.MaxPool2d(2)] * 3, 3)
    own = {"pooling_ratio": sqrt(2), "overlapping": "overlapping" in kind, "pseudo_random": "pseudo" in kind}
    return nets.stack(channels, [lambda c: nt.FractionalMaxPool2d(**own)] * 6, SIDE)


SIDE = 24
for _ in range(6):
    SIDE = int(SIDE / sqrt(2))


def base(label: str) -> str:
    """What a condition is compared with: max pooling with as many layers."""
    return "max, 6 layers" if label.startswith("fractional") else "max, 3 layers"


def run(label: str, seed: int, epochs: int) -> dict[str, Any]:
    """One training."""
    kind, layers, passes = CONDITIONS[label]
    return fit.fit(lambda: net(kind, layers), seed, epochs, 1e-3, clutter=True, passes=passes)
