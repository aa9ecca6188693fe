"""The minimum of what is known: min pooling with ignore_nan=True (min.py).  Of a window of NaNs y is NaN, and its index the first element's."""
import math

from ..numeric import real

family = "select"


def worst():
    return real(math.nan)


def better(v, best):
    return v < best or (best != best and v == v)
