"""The maximum of what is known: max pooling with ignore_nan=True (max.py).  Of a window of NaNs y is NaN, and its index the first element's.

As numpy.nanmax and nanargmax, which raises for such a window.
"""
import math

from ..numeric import real

family = "select"


def worst():
    return real(math.nan)


def better(v, best):
    return v > best or (best != best and v == v)
