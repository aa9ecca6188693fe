"""sort_pool2d's article: the 1 to 4 largest elements by learned weights, on digits among clutter; with and without the softmax on the weights."""
from __future__ import annotations

from typing import Any

import torch
from torch import nn

import numbapool.torch as nt

from . import fit, nets

TITLE = "Sort pooling: cluttered digits"
EPOCHS, RATE = 30, 2e-3
CONDITIONS = {"max (pool_range 1)": (1, True), "avg": (0, True)} | \
    {f"pool_range {k}{'' if softmax else ', no softmax'}": (k, softmax) for softmax in (True, False) for k in (2, 3, 4)}


class PlainWeights(nn.Module):
    """The largest elements of 2x2 windows by weights that need not be positive, nor add up to 1; they begin as the softmax's do."""

    def __init__(self, pool_range: int) -> None:
        super().__init__()
        self.weight = nn.Parameter((0.1 * torch.randn(pool_range)).softmax(0))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """By torch's own operations: the library's sort pooling has the softmax inside."""
        windows = x.unfold(2, 2, 2).unfold(3, 2, 2).flatten(4)
        return windows.topk(len(self.weight), -1)[0] @ self.weight


def pool(pool_range: int, softmax: bool) -> nn.Module:
    """The pooling of a condition."""
    if pool_range < 2:
        return (nt.AvgPool2d, nt.MaxPool2d)[pool_range](2)
    return nt.SortPool2d(2, pool_range=pool_range) if softmax else PlainWeights(pool_range)


def base(label: str) -> str:
    """What a condition is compared with."""
    return "max (pool_range 1)"


def parts(label: str) -> list[str]:
    """What one training reports, as additions to its label."""
    return [""]


def run(label: str, seed: int, epochs: int) -> list[dict[str, Any]]:
    """One training."""
    condition = CONDITIONS[label]
    return fit.fit(lambda: nets.stack((16, 32, 32), [lambda channels: pool(*condition)] * 3, 2), seed, epochs, RATE, clutter=True)
