"""Min pooling: y = min x, and the position of the element.

The mirror of max pooling, with its rules: the first of equal elements, NaN propagates, padding never takes part.

Gradient: 1 for the chosen element.  The backward pass takes the indices of the forward pass, or finds them again.
"""
from ..numeric import highest
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
