"""The small networks: convolutions of 3x3 (He initialisation), rectifiers, and a pooling that is the experiment's."""
from __future__ import annotations

from collections.abc import Callable, Sequence

from torch import nn

Pool = Callable[[int], nn.Module]  # of the number of channels


def stack(channels: Sequence[int], pools: Sequence[Pool | None], side: int) -> nn.Sequential:
    """A convolution a number of channels, each with its pooling (None: none), and a linear layer; side : of what is left."""
    layers: list[nn.Module] = []
    for before, after, pool in zip((1, *channels), channels, pools, strict=False):
        convolution = nn.Conv2d(before, after, 3, padding=1)
        nn.init.kaiming_normal_(convolution.weight, nonlinearity="relu")
        layers += [convolution, nn.ReLU()]
        if pool is not None:
            layers.append(pool(after))
    return nn.Sequential(*layers, nn.Flatten(), nn.Linear(channels[-1] * side * side, 10))
