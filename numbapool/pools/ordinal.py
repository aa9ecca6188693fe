"""Ordinal pooling: y = sum over ranks r of weight_r times the r-th largest element of the window, over the sum of these weights.

Source: Deliège, Istasse, Kumar, De Vleeschouwer, Van Droogenbroeck, "Ordinal pooling", BMVC 2019; weight[0] goes to the largest element, one
vector for all channels or one a channel.  Weights are not negative, and normalised here, as in the authors' Keras layer; to keep them not
negative while they are trained is the caller's (negative ones are refused; that layer cuts them off).  A cut window of n elements takes the
first n weights.  That layer pads with zeros that are sorted in; here padding never takes part.

Gradient: with w_r = weight_r / sum weight, dy/dx_i = w_r for the element of rank r (ties: the first element ranks first), dy/dweight_r =
(x_(r) - y) / sum weight.
"""
import numpy as np

from ..numeric import real
from ..parameters import REQUIRED, Parameter
from . import sort

title = "ordinal"
family = "order"
equation = "y = Σ weightᵣ x₍ᵣ₎ / Σ weightᵣ, x₍₁₎ ≥ x₍₂₎ ≥ …"
gradient = "wᵣ = weightᵣ / Σ weight of its rank; for weightᵣ (x₍ᵣ₎ − y) / Σ weight"
source = "Deliège et al., BMVC 2019"
forms = ("sliding",)
defaults = {"kernel_size": 2}
example = {"weight": "np.array([0.5, 0.2, 0.2, 0.1])"}
parameters = (Parameter("weight", REQUIRED, "weights", "weights by rank, not negative, (K,) or (C, K)", leading=True, learnable=True),)


def weights_of(own, where, channels):
    """The weights as (1 or C, K) float64."""
    weight = sort.weights_of(own, where, channels)
    if (weight < 0).any():
        raise ValueError(f"{where}: weight must not be negative, got {weight.min():g}")
    return weight


def total(weight, n):
    """The sum of the first n weights: (channels, 1)."""
    found = sort.in_turn(weight[:, :n])
    if not ((found > 0) & np.isfinite(found)).all():
        raise ValueError(f"weight must have a positive finite sum for windows of {n} elements, got {found.min():g}")
    return found


def rank_weights(weight, n):
    """The weights of the first ranks in a window of n elements: (channels, min(n, K))."""
    return weight[:, :n] / total(weight, n)


def portion(weight, top):
    """What a weight counts before all are divided by their sum, and"""
    return weight


def portion_slope(e):
    """its derivative."""
    return real(1)


def rank_gradient(weight, n, sums):
    """dL/dweight of windows of n elements, from sums[:, r] = sum g x_(r)."""
    w = rank_weights(weight, n)
    s = sums[:, :w.shape[1]]
    gradient = np.zeros_like(weight)
    gradient[:, :w.shape[1]] = (s - (w * s).sum(1, keepdims=True)) / total(weight, n)
    return gradient
