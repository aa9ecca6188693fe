"""The standard deviation of what is known: standard deviation pooling with ignore_nan=True (std.py), as numpy.nanstd.

With k known elements and r one of them, the largest: y = sqrt((sum (x - r)^2 - (sum (x - r))^2 / k) / (k - correction)).

Gradient: dy/dx_i = (x_i - m) / ((k - correction) y) for a known element, 0 for a NaN and where y = 0.
"""
import math

from ..numeric import real
from ..parameters import Parameter

family = "fold"
parameters = (Parameter("correction", 0.0, "number", "taken from the number of elements in the divisor"),)


def first_start():
    return real(-math.inf)


def first_step(r, x, correction):
    return x if x > r else r


def start():
    return real(0), real(0), real(0)


def step(acc, x, r, correction):
    known, d = x == x, x - r
    return acc[0] + (d if known else real(0)), acc[1] + (d * d if known else real(0)), acc[2] + (real(1) if known else real(0))


def squares(acc):
    """The sum of the squares of the distances from the mean; not below 0 by rounding."""
    s = acc[1] - acc[0] * acc[0] / acc[2]
    return real(0) if s < real(0) else s


def stop(acc, r, n, correction):
    return math.sqrt(squares(acc) / (acc[2] - correction)) if acc[2] > correction and acc[2] > real(0) else real(math.nan)


def terms(acc, r, n, correction):
    k = real(1) / ((acc[2] - correction) * stop(acc, r, n, correction)) if acc[2] > real(0) and squares(acc) != real(0) else real(0)
    return k, k * (acc[0] / acc[2]) if acc[2] > real(0) else real(0)


def spread(x, e, sums, r, correction):
    return (x - r) * sums[0] - sums[1] if x == x else real(0)
