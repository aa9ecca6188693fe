"""Stochastic pooling: in training y is an element drawn with probability x_i / sum x, in inference their mean sum x^2 / sum x.

Source: Zeiler, Fergus, "Stochastic pooling for regularization of deep convolutional neural networks", ICLR 2013, eqs. 2-6.
Negative elements have probability 0.  The draw is the first element with a positive probability whose running sum reaches
u sum x; of a window without positive elements it is the first in training, and y = 0 in inference.

Gradient: training, 1 for the drawn element (pass the indices, the samples or the seed of the forward pass); inference,
(2 x_i - y) / sum x, 0 where x_i < 0.  Inference factors the window's maximum out, so that x^2 does not overflow.
"""
from ..numeric import larger, positive, real
from ..parameters import Parameter

title = "stochastic"
family = "draw"
inference = "fold"
common = 1.0
equation = "training: y = xᵢ with probability xᵢ / Σ x; else y = Σ x² / Σ x"
gradient = "1 for the drawn element; else (2 xᵢ − y) / Σ x"
source = "Zeiler, Fergus, ICLR 2013"
forms = ("sliding", "adaptive", "global")
example = {"seed": "0"}
parameters = (
    Parameter("training", True, "flag", "draw, or take the mean"),
    Parameter("samples", None, "samples", "uniforms in [0, 1) of the output's shape, instead of the seed"),
    Parameter("seed", None, "seed", "of the draws; None takes fresh entropy"),
)


def chance(x):
    return positive(x)


def first_start():
    return real(0)


def first_step(m, x):
    return larger(m, positive(x))


def first_stop(m, n):
    return m if m != real(0) else real(1)


def start():
    return real(0), real(0)


def step(acc, x, m):
    a = positive(x)
    a = a / m if a != m else real(1)
    return acc[0] + a, acc[1] + a * a


def stop(acc, m, n):
    return m * (acc[1] / acc[0]) if acc[0] != real(0) else real(0)


def safe(acc, *q):
    return acc[1] < real(1e30) and (acc[1] > real(1e-30) or acc[0] == real(0))


def terms(acc, m, n):
    r = real(1) / acc[0] if acc[0] != real(0) else real(0)
    return r, acc[1] * r * r


def spread(x, e, sums, m):
    return (e[0] + e[0]) * sums[0] - sums[1] if x >= real(0) or x != x else real(0)
