"""Median pooling: y = the median of the window, of an even number of elements the lower of the two in the middle, as torch.median.

y is an element of the window; a median filter is the case of stride 1.  Padding never takes part: the median of a cut window is that of its
elements (scipy.ndimage.median_filter and medfilt fill the border instead).

Gradient: 1 for the median (ties: of equal elements the one that takes its place when they are ordered largest first, in row-major order).
"""
import numpy as np

title = "median"
family = "order"
equation = "y = x₍ᵣ₎, r = ⌊n / 2⌋ + 1, x₍₁₎ ≥ x₍₂₎ ≥ …"
gradient = "1 for the median"
source = "the lower median, as torch.median"
forms = ("sliding", "adaptive", "global")
in_c = False


def weights_of(own, where, channels):
    """There are none."""
    return np.zeros((1, 0))


def rank_weights(given, n):
    """All weight for rank n // 2 of those of a window of n elements, counted from 0 and the largest."""
    return np.eye(1, n // 2 + 1, n // 2)
