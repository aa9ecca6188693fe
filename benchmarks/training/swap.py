"""SWAP's article: max, average and SWAP pooling in the same small net at four learning rates.

Beyond the article: overlapping windows (stride 1), SoftPool's constant gradient beside the true one, and the sizes of the gradients that
the first convolution gets from the same initialisation.
"""
from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

import numbapool.torch as nt

from . import data, fit, nets

TITLE = "SWAP pooling: accuracy on handwritten digits"
EPOCHS = 25
POOLS: dict[str, Callable[..., nn.Module]] = {
    "max": nt.MaxPool2d, "avg": nt.AvgPool2d, "swap (true gradient)": nt.SWAPPool2d,
    "soft (constant gradient)": lambda *args: nt.SoftPool2d(*args, gradient="constant"),
}
RATES = {"": 1e-3, ", rate +25 %": 1.25e-3, ", rate +50 %": 1.5e-3, ", rate +400 %": 5e-3}
CONDITIONS = {f"{name}{more}": (name, rate, 2) for name in POOLS for more, rate in RATES.items()} | \
    {f"{name}, stride 1": (name, 1e-3, 1) for name in POOLS}


def net(name: str, stride: int) -> nn.Sequential:
    """Two convolutions of 8x8 digits, each with a 2x2 pooling."""
    pool = POOLS[name]
    return nets.stack((16, 32), [lambda channels: pool(2, stride)] * 2, 2 if stride == 2 else 6)


def base(label: str) -> str:
    """What a condition is compared with: max pooling at the same rate and stride."""
    return "max" + "".join(label.partition(", ")[1:])


def parts(label: str) -> list[str]:
    """What one training reports, as additions to its label."""
    return [""]


def run(label: str, seed: int, epochs: int) -> list[dict[str, Any]]:
    """One training."""
    name, rate, stride = CONDITIONS[label]
    (found,) = fit.fit(lambda: net(name, stride), seed, epochs, rate)
    return [found | ({"gradients": gradients(name, seed)} if (rate, stride) == (1e-3, 2) else {})]


def gradients(name: str, seed: int) -> list[float]:
    """Quantiles (1, 10, 25, 50, 75, 90, 99 %) of the gradients' sizes at the first convolution's output, before any step."""
    torch.manual_seed(seed)
    first, *rest = net(name, 2)
    x, labels = data.tensors(*data.split(seed)[0])
    hidden = first(x).detach().requires_grad_()
    F.cross_entropy(nn.Sequential(*rest)(hidden), labels, reduction="sum").backward()
    sizes = hidden.grad.abs()
    return np.quantile(sizes[hidden > 0].numpy(), (0.01, 0.1, 0.25, 0.5, 0.75, 0.9, 0.99)).tolist()
