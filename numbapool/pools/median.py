"""Median pooling: y = the median of the window, of an even number of elements the lower of the two in the middle, as torch.median, or their mean, as
numpy.median (even="mean").

The lower median is an element of the window; a median filter is the case of stride 1.  Padding never takes part: the median of a cut window is
that of its elements (scipy.ndimage.median_filter and medfilt fill the border instead).

Gradient: 1 for the median, 1/2 for each of two; of equal ones the one that takes its place when they are sorted, largest first, in row-major order.
"""
import numpy as np

from ..parameters import Parameter

title = "median"
family = "order"
equation = "y = x₍ᵣ₎, r = ⌊n / 2⌋ + 1, x₍₁₎ ≥ x₍₂₎ ≥ …"
gradient = "1 for the median"
source = "the lower median, as torch.median"
forms = ("sliding", "adaptive", "global")
parameters = (Parameter("even", "lower", "option", 'of an even number of elements: "lower" of the two in the middle, or their "mean"',
                        choices={"lower": {}, "mean": {}}),)


def weights_of(own, where, channels):
    """The weight of the upper of two elements in the middle, as (1, 1)."""
    return np.array([[0.5 if own["even"] == "mean" else 0.0]])


def rank_weights(given, n):
    """All weight for rank n // 2 of those of a window of n elements, counted from 0 and the largest; some for the one above of an even number."""
    weights = np.eye(1, n // 2 + 1, n // 2)
    if n % 2 == 0:
        weights[0, n // 2 - 1:] = given[0, 0], 1 - given[0, 0]
    return weights
