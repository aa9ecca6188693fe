"""Min pooling: y = min x, and the position of the element.

The mirror of max pooling, with its rules: the first of equal elements, NaN propagates, padding never takes part.

Gradient: 1 for the chosen element.  The backward pass takes the indices of the forward pass, or finds them again.
"""
from ..numeric import highest, real
from ..parameters import IGNORE_NAN
from . import nanmin

title = "min"
family = "select"
equation = "y = min xᵢ"
gradient = "1 for the chosen element"
source = "as max"
forms = ("sliding", "adaptive", "global")
parameters = (IGNORE_NAN,)


def ignoring_nan(own):
    """The formula that leaves NaN out."""
    return nanmin


def worst():
    return highest


def better(v, best):
    return v < best or v != v


def best_between(a, b):
    """The chosen one of two, in fewer instructions."""
    best = b if b < a else a
    return best if b == b else b


def best_among(a, b, c):
    """The same of three in turn: a NaN among those after the first shows in one look."""
    best = b if b < a else a
    best = c if c < best else best
    return best if (b == b) & (c == c) else real(b + c)
