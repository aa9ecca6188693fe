"""numbapool: every pooling of convolutional networks, forward and backward, in 1d, 2d and 3d, on the arrays you have."""
from .publish import publish as _publish

__version__ = "0.1.0"
POOLINGS = (
    "max",
    "min",
    "avg",
    "lp",
    "gem",
    "soft",
    "swap",
    "lip",
    "sort",
    "stochastic",
    "s3",
    "fractional_max",
    "fractional_avg",
    "max_unpool",
)
__all__ = _publish(globals(), *POOLINGS)
