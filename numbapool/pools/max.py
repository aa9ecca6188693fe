"""Max pooling: y = max x, and the position of the element.

Source: torch.nn.functional.max_pool2d: the first of equal elements in row-major order, NaN propagates (the index is the
last NaN's), padding never takes part.  TensorFlow and Caffe drop NaN, and route its gradient elsewhere; this does with ignore_nan alone (nanmax.py).

Gradient: 1 for the chosen element.  The backward pass takes the indices of the forward pass, or finds them again.
"""
from ..numeric import lowest, real
from ..parameters import IGNORE_NAN
from . import nanmax

title = "max"
family = "select"
equation = "y = max xᵢ"
gradient = "1 for the chosen element"
source = "torch.nn.functional.max_pool2d"
forms = ("sliding", "adaptive", "global")
parameters = (IGNORE_NAN,)


def ignoring_nan(own):
    """The formula that leaves NaN out."""
    return nanmax


def worst():
    return lowest


def better(v, best):
    return v > best or v != v


def best_between(a, b):
    """The chosen one of two, in fewer instructions."""
    best = b if b > a else a
    return best if b == b else b


def best_among(a, b, c):
    """The same of three in turn: a NaN among those after the first shows in one look."""
    best = b if b > a else a
    best = c if c > best else best
    return best if (b == b) & (c == c) else real(b + c)
