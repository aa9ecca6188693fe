"""numbapool for PyTorch: layers that train on CPU and GPU (here), functions with autograd (functional), replace_pooling.

    from numbapool.torch import SoftPool2d
    layer = SoftPool2d(2)                           # where nn.MaxPool2d(2) stood

Every function of numbapool.torch.functional has its layer: SoftPool2d, AdaptiveSoftPool2d, GlobalSoftPool2d for soft_pool2d,
adaptive_soft_pool2d, global_soft_pool2d.
"""
from __future__ import annotations

from typing import Any

from . import functional, layers
from .layers import replace_pooling

__all__ = ["functional", "replace_pooling", *layers.classes()]


def __getattr__(name: str) -> Any:
    """A layer, made when it is first asked for."""
    if name not in layers.classes():
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    globals()[name] = value = layers.make(name, __name__)
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *layers.classes()})
