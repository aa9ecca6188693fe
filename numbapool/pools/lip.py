"""Local importance-based pooling (LIP): y = sum w_i x_i with w = softmax(l) of the window's logits l, an input of x's shape.

Source: Gao, Wang, Wu, "LIP: local importance-based pooling", ICCV 2019, eq. 3; the defaults are its layer's.  The window's
largest logit is subtracted, so logits above 11 (half) or 88 (single) do not overflow as in the authors' code, whose CUDA
kernel also ignores its padding argument.

Gradient: dy/dx_i = w_i and dy/dl_i = w_i (x_i - y).  Nothing is kept from the forward pass.
"""
import math

from ..numeric import between, exp, larger, near_exp, real
from ..parameters import REQUIRED, Parameter

title = "LIP (local importance)"
family = "fold"
equation = "y = Σ wᵢ xᵢ, w = softmax(logit)"
gradient = "wᵢ; for the logit wᵢ (xᵢ − y)"
source = "Gao et al., ICCV 2019"
forms = ("sliding", "adaptive", "global")
elements = 2
common = 0.0
defaults = {"kernel_size": 3, "stride": 2, "padding": 1}
example = {"logit": "np.zeros_like(x)"}
parameters = (Parameter("logit", REQUIRED, "logit", "log-weights, of x's shape and dtype", leading=True, learnable=True),)


def weight(logit, m):
    """e^(l - m); equal infinite logits share the weight."""
    return exp(logit - m) if logit != m else real(1)


def first_start():
    return real(-math.inf)


def first_step(m, x, logit):
    return larger(m, logit)


def start():
    return real(0), real(0)


def step(acc, x, logit, m):
    e = weight(logit, m)
    return acc[0] + e, acc[1] + (e * x if e != real(0) or (logit - logit == real(0) and x - x != real(0)) else real(0))


def lift(x, logit):
    v = between(logit, real(-86.5), real(40))  # NaN, too, becomes the upper end, with which no sum is safe
    e = near_exp(v, real(1)) if v > real(-86.5) else real(0)
    return e, e * x


def stop(acc, m, n):
    return acc[1] / acc[0]


def safe(acc, *q):
    return acc[0] > real(1e-8) and acc[0] < real(1e13) and acc[1] - acc[1] == real(0)


def terms(acc, m, n):
    r = real(1) / acc[0]
    return r, acc[1] * r * r


def spread(x, logit, e, sums, m):
    return e[0] * sums[0], e[1] * sums[0] - e[0] * sums[1] if (e[0] != real(0)) & ((sums[0] != real(0)) | (sums[1] != real(0))) else real(0)
