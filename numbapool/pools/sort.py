"""Sort pooling: y = sum over ranks r of softmax(weight)_r times the r-th largest element of the window.

Source: sort_pool2d (TensorFlow 1, Singh and others' article "Sorted pooling"), generalised to any window: weight[0] goes to the largest
element, pool_range = len(weight) of them take part, one vector for all channels or one a channel.  A cut window of n
elements takes the softmax of the first n weights.  The original works on 2x2 windows with stride 2 alone, pads with zeros
that are sorted in, and reads out of range at odd sizes.

Gradient: dy/dx_i = w_r for the element of rank r (ties: the first element ranks first), dy/dweight_r = w_r (x_(r) - y).
"""
import numpy as np

from ..arrays import values
from ..numeric import exp, exponentials
from ..parameters import REQUIRED, Parameter

title = "sort"
family = "order"
equation = "y = Σ softmax(weight)ᵣ x₍ᵣ₎, x₍₁₎ ≥ x₍₂₎ ≥ …"
gradient = "wᵣ of its rank; for weightᵣ wᵣ (x₍ᵣ₎ − y)"
source = "sort_pool2d (TensorFlow 1)"
forms = ("sliding",)
defaults = {"kernel_size": 2}
example = {"weight": "np.zeros(2)"}
parameters = (Parameter("weight", REQUIRED, "weights", "logits by rank, (pool_range,) or (C, pool_range)", leading=True, learnable=True),)


def weights_of(own, where, channels):
    """The logits as (1 or C, pool_range) float64."""
    weight = np.asarray(values(own["weight"], f"{where}: weight"), np.float64)
    if weight.ndim not in (1, 2) or weight.shape[-1] < 1 or (weight.ndim == 2 and weight.shape[0] != channels):
        raise ValueError(f"{where}: weight must have shape (pool_range,) or ({channels}, pool_range), got {weight.shape}")
    if not np.isfinite(weight).all():
        raise ValueError(f"{where}: weight must be finite")
    return weight.reshape(-1, weight.shape[-1])


def rank_weights(logits, n):
    """The weights of the first ranks in a window of n elements: (channels, min(n, pool_range))."""
    e = exponentials(logits[:, :n] - logits[:, :n].max(1, keepdims=True))
    return e / in_turn(e)


def portion(logit, top):
    """What a logit counts, top being the largest, before all are divided by their sum: rank_weights, one number at a time."""
    return exp(logit - top)


def portion_slope(e):
    """Its derivative, from itself."""
    return e


def in_turn(weights):
    """The sums of rows, element after element as in the C library: (rows, 1)."""
    return np.cumsum(weights, 1)[:, -1:]


def rank_gradient(logits, n, sums):
    """dL/dlogits of windows of n elements, from sums[:, r] = sum g x_(r)."""
    w = rank_weights(logits, n)
    s = sums[:, :w.shape[1]]
    gradient = np.zeros_like(logits)
    gradient[:, :w.shape[1]] = w * (s - (w * s).sum(1, keepdims=True))
    return gradient
