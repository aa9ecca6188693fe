"""Training and evaluation, the same for all experiments."""
from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from scipy import stats
from torch import nn
from torch.nn import functional as F

from . import data

BATCH = 32


def fit(make: Callable[[], nn.Module], seed: int, epochs: int, rate: float, clutter: bool = False,
        passes: Sequence[int] = (1,)) -> list[dict[str, Any]]:
    """Train a net of a seed with Adam; test loss (cross-entropy) and accuracy by the mean of so many passes, for each such number."""
    torch.set_num_threads(1)
    torch.manual_seed(seed)
    rng = np.random.default_rng(1000 + seed)
    training, test = data.split(seed)
    net = make()
    optimizer = torch.optim.Adam(net.parameters(), rate)
    for _ in range(epochs):
        net.train()
        for x, labels in data.batches(*training, BATCH, rng, clutter):
            optimizer.zero_grad()
            F.cross_entropy(net(x), labels).backward()
            optimizer.step()
    fixed = np.random.default_rng(2000 + seed)
    x, labels = data.tensors(data.cluttered(test[0], fixed) if clutter else test[0], test[1])
    return [evaluate(net.eval(), x, labels, n) for n in passes]


@torch.no_grad()
def evaluate(net: nn.Module, x: torch.Tensor, labels: torch.Tensor, passes: int) -> dict[str, Any]:
    """Loss and accuracy of the mean of the probabilities."""
    probabilities = torch.stack([net(x).softmax(1) for _ in range(passes)]).mean(0)
    return {"loss": F.nll_loss(probabilities.clamp_min(1e-12).log(), labels).item(),
            "accuracy": (probabilities.argmax(1) == labels).float().mean().item()}


def interval(values: Sequence[float]) -> tuple[float, float]:
    """Mean, and half the width of its 95 % interval (Student's t)."""
    n = len(values)
    half = stats.t.ppf(0.975, n - 1) * np.std(values, ddof=1) / np.sqrt(n) if n > 1 else float("nan")
    return float(np.mean(values)), float(half)


def difference(first: Sequence[float], second: Sequence[float]) -> tuple[float, float]:
    """Mean of second - first over the seeds that they share, and half the width of its interval."""
    return interval([b - a for a, b in zip(first, second, strict=True)])
