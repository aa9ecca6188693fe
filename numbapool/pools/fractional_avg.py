"""Fractional average pooling: y = mean over random windows that divide the input.

Source: tf.nn.fractional_avg_pool (Graham's windows, arXiv:1412.6071, with the mean in place of the maximum); `sequences`
reproduce its results.

Gradient: 1/n.  Pass the sequences or the seed of the forward pass.
"""
from . import avg
from .fractional import Fractional

title = "fractional average"
family = "fold"
equation = "y = Σ xᵢ / n over random windows"
gradient = "1 / n"
source = "tf.nn.fractional_avg_pool"
forms = (Fractional(fixed=False),)
example = {"pooling_ratio": "1.5", "seed": "0"}
recompute = False
common, start, step, stop, terms, spread = avg.common, avg.start, avg.step, avg.stop, avg.terms, avg.spread
