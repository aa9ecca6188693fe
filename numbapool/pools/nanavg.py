"""The mean of what is known: average pooling with ignore_nan=True (avg.py).  y = sum x / (n - missing), NaN where nothing is known.

n is the count of average pooling; the NaNs of a window are taken from it.  As numpy.nanmean.

Gradient: dy/dx_i = 1 / (n - missing) for a known element, 0 for a NaN.
"""
from ..numeric import real

family = "fold"
common = 0.0


def start():
    return real(0), real(0)


def step(acc, x, ref):
    return acc[0] + (x if x == x else real(0)), acc[1] + (real(0) if x == x else real(1))


def stop(acc, ref, n):
    return acc[0] / (n - acc[1])


def terms(acc, ref, n):
    return (real(1) / (n - acc[1]) if n != acc[1] else real(0),)


def spread(x, e, sums, ref):
    return sums[0] if x == x else real(0)
