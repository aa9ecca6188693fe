"""Min pooling: y = min x, and the position of the element.

The mirror of max pooling, with its rules: the first of equal elements, NaN propagates, padding never takes part.

Gradient: 1 for the chosen element.  The backward pass takes the indices of the forward pass, or finds them again.
"""
from ..numeric import highest

title = "min"
family = "select"
equation = "y = min xᵢ"
gradient = "1 for the chosen element"
source = "as max"
forms = ("sliding", "adaptive", "global")


def worst():
    return highest


def better(v, best):
    return v < best or v != v
