"""Fractional max pooling: y = max over random windows that shrink the input by a fraction.

Source: Graham, "Fractional max-pooling", arXiv:1412.6071.  Two kinds of windows, by argument: with kernel_size torch's
(`samples` reproduce its results), with pooling_ratio TensorFlow's (`sequences` reproduce its results).  Unlike TensorFlow's, NaN propagates
and the gradient goes to the element that was chosen.

Gradient: 1 for the chosen element.  Pass the indices, or the samples, sequences or seed of the forward pass.
"""
from . import max as maximum
from .fractional import Fractional

title = "fractional max"
family = "select"
equation = "y = max xᵢ over random windows"
gradient = "1 for the chosen element"
source = "Graham, arXiv:1412.6071; torch and TensorFlow"
forms = (Fractional(fixed=True),)
example = {"pooling_ratio": "1.5", "seed": "0"}
better, best_between, best_among, worst = maximum.better, maximum.best_between, maximum.best_among, maximum.worst
