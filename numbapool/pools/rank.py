"""Rank-based pooling: the mean of the t largest elements (t=), or the elements by falling size with weights alpha (1 - alpha)^(r - 1) (alpha=).

Source: Shi, Ye, Wu, "Rank-based pooling for deep convolutional neural networks", Neural Networks 2016: its average (t) and its weighted form (alpha).
t = 1 is max pooling; t at least the window's size is the average: a window of n elements takes min(t, n).  The geometric weights are not
normalised, as in the paper: those of a window of n sum to 1 - (1 - alpha)^n.  alpha = 1 is max pooling, too.

Gradient: the weight of the element's rank (ties: the first element ranks first).
"""
import numpy as np

from ..parameters import Parameter

title = "rank-based"
family = "order"
equation = "t: y = Σ x₍ᵣ₎ / t, r ≤ t; alpha: y = Σ α (1 − α)^(r−1) x₍ᵣ₎, x₍₁₎ ≥ x₍₂₎ ≥ …"
gradient = "the weight of its rank"
source = "Shi et al., Neural Networks 2016"
forms = ("sliding", "adaptive", "global")
example = {"t": "2"}
one_of = ("t", "alpha")
parameters = (
    Parameter("t", None, "whole", "how many of the largest elements are averaged; this or alpha"),
    Parameter("alpha", None, "number", "weight of the largest element, above 0 and at most 1; this or t", above=0.0, most=1.0),
)


def weights_of(own, where, channels):
    """(t, 0) or (0, alpha), as (1, 2) float64."""
    t, alpha = own["t"], own["alpha"]
    if (t is None) == (alpha is None):
        raise ValueError(f"{where}: pass either t or alpha, got t={t} and alpha={alpha}")
    if t is not None and t < 1:
        raise ValueError(f"{where}: t must be positive, got {t}")
    return np.array([[t or 0, alpha or 0]], np.float64)


def rank_weights(given, n):
    """The weights of the first ranks in a window of n elements: (1, min(t, n)), or (1, n)."""
    t, alpha = given[0]
    first = int(min(t, n)) if t else n
    return np.full((1, first), 1 / first) if t else shares(alpha, first)


def shares(alpha, n):
    """alpha (1 - alpha)^(r - 1) of n ranks, each from the one before: (1, n)."""
    return np.cumprod([alpha, *[1 - alpha] * (n - 1)])[None]
