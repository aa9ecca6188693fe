"""Average pooling: y = (1/n) sum x.

Source: torch.nn.functional.avg_pool2d, whose divisor rules are kept: `count_include_pad` counts the taps inside the padded
input (the part of a window that ceil_mode hangs over its end never counts), `divisor_override` replaces the count.
Dilation, which torch lacks, is counted in the same way, as ONNX does.  With ignore_nan the NaNs of a window are taken from its count (nanavg.py).

Gradient: dy/dx_i = 1/n.  Nothing is kept for the backward pass, and x is not read there.
"""
from ..numeric import real
from ..parameters import IGNORE_NAN, Parameter
from . import nanavg, nansum

title = "average"
family = "fold"
equation = "y = Σ xᵢ / n"
gradient = "1 / n"
source = "torch.nn.functional.avg_pool2d"
forms = ("sliding", "adaptive", "global")
recompute = False
common = 0.0
parameters = (
    Parameter("count_include_pad", True, "flag", "count the padded positions of a window in its divisor", forms=("sliding",)),
    Parameter("divisor_override", None, "divisor", "divide by this whole number instead of the count", forms=("sliding",)),
    IGNORE_NAN,
)


def share(own):
    """How windows count: torch's three rules."""
    override = own.get("divisor_override")
    return override if override is not None else "padded" if own.get("count_include_pad", True) else "inside"


def ignoring_nan(own):
    """The formula that leaves NaN out: of the count, too, where that is not given."""
    return nanavg if own.get("divisor_override") is None else nansum


def start():
    return (real(0),)


def step(acc, x, ref):
    return (acc[0] + x,)


def stop(acc, ref, n):
    return acc[0] / n


def terms(acc, ref, n):
    return (real(1) / n,)


def spread(x, e, sums, ref):
    return sums[0]
