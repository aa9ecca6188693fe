"""Standard deviation pooling: y = sqrt(sum (x - m)^2 / (n - correction)), m the window's mean, over the elements inside the input.

Source: numpy.std over windows (its ddof is torch.std's correction).  Where n <= correction y is NaN.  With ignore_nan it is that of the elements
that are not NaN (numpy.nanstd).

Gradient: dy/dx_i = (x_i - m) / ((n - correction) y), 0 where y = 0, as for a norm (torch's is NaN there).
"""
import math

from ..numeric import real
from ..parameters import IGNORE_NAN
from . import edscw, nanstd

title = "standard deviation"
family = "fold"
equation = "y = √(Σ (xᵢ − m)² / (n − correction)), m = Σ xᵢ / n"
gradient = "(xᵢ − m) / ((n − correction) y)"
source = "numpy.std over windows"
forms = ("sliding", "adaptive", "global")
first_start, first_join, first_stop = edscw.first_start, edscw.first_join, edscw.first_stop  # the mean
parameters = (*nanstd.parameters, IGNORE_NAN)


def ignoring_nan(own):
    """The formula that leaves NaN out."""
    return nanstd


def first_step(total, x, correction):
    return total + x


def start():
    return (real(0),)


def step(acc, x, m, correction):
    return (acc[0] + (x - m) * (x - m),)


def stop(acc, m, n, correction):
    return math.sqrt(acc[0] / (n - correction)) if n > correction else real(math.nan)


def terms(acc, m, n, correction):
    return (real(1) / ((n - correction) * stop(acc, m, n, correction)) if acc[0] != real(0) else real(0),)


def spread(x, e, sums, m, correction):
    return (x - m) * sums[0]
