"""Rank-based stochastic pooling: in training y is the r-th largest element with probability p_r ~ alpha (1 - alpha)^(r-1), in inference their mean.

Source: Shi, Ye, Wu, "Rank-based pooling for deep convolutional neural networks", Neural Networks 2016: its stochastic form.  p is divided by its sum
over the window's n ranks, 1 - (1 - alpha)^n, so that inference is what training gives on average.  Elements may be negative, unlike in stochastic
pooling.  The drawn rank is the first at which the running sum of p reaches u, a uniform number; of equal elements the first ranks first.

Gradient: training, 1 for the drawn element (pass the indices, the samples or the seed of the forward pass); inference, the weight p_r of its rank.
"""
import numpy as np

from ..numeric import float64
from ..parameters import Parameter
from . import rank, sort

title = "rank-based stochastic"
family = "draw"
inference = "order"
by_rank = True
equation = "training: y = x₍ᵣ₎ with probability pᵣ; else y = Σ pᵣ x₍ᵣ₎; pᵣ ∝ α (1 − α)^(r−1), x₍₁₎ ≥ x₍₂₎ ≥ …"
gradient = "1 for the drawn element; else pᵣ"
source = "Shi et al., Neural Networks 2016"
forms = ("sliding", "adaptive", "global")
example = {"seed": "0"}
parameters = (
    Parameter("alpha", 0.5, "number", "probability of the largest element among many, above 0 and at most 1", above=0.0, most=1.0),
    Parameter("training", True, "flag", "draw, or take the mean"),
    Parameter("samples", None, "samples", "uniforms in [0, 1) of the output's shape, instead of the seed"),
    Parameter("seed", None, "seed", "of the draws; None takes fresh entropy"),
)


def drawn_rank(u, n, alpha):
    """The rank, from 0, that u draws among n."""
    p, q = float64(alpha), float64(1) - float64(alpha)
    left = float64(1)
    for _ in range(n):
        left *= q
    goal, total, r = float64(u) * (float64(1) - left), p, 0
    while total < goal and r + 1 < n:
        p *= q
        total += p
        r += 1
    return r


def four_shares(alpha):
    """Of four ranks, what drawn_rank compares: the running sums of the probabilities of three, and of all four, which it multiplies u by."""
    p, q = float64(alpha), float64(1) - float64(alpha)
    second, third = p * q, p * q * q
    return p, p + second, p + second + third, float64(1) - q * q * q * q


def weights_of(own, where, channels):
    """alpha, as (1, 1) float64."""
    return np.array([[own["alpha"]]])


def rank_weights(given, n):
    """The probabilities of n ranks: (1, n)."""
    p = rank.shares(given[0, 0], n)
    return p / sort.in_turn(p)
