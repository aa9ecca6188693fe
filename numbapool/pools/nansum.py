"""The sum of what is known over a given number: sum pooling with ignore_nan=True (sum.py), and average pooling with a divisor of its own (avg.py).

y = sum x / n of the elements that are not NaN, 0 where all are.  As numpy.nansum.

Gradient: dy/dx_i = 1 / n for a known element, 0 for a NaN.
"""
from ..numeric import real

family = "fold"
common = 0.0


def start():
    return (real(0),)


def step(acc, x, ref):
    return (acc[0] + (x if x == x else real(0)),)


def stop(acc, ref, n):
    return acc[0] / n


def terms(acc, ref, n):
    return (real(1) / n,)


def spread(x, e, sums, ref):
    return sums[0] if x == x else real(0)
