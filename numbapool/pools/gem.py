"""Generalised mean (GeM): y = (mean of max(x, eps)^p)^(1/p), with p learnable, one for all channels or one a channel.

Source: Radenovic, Tolias, Chum, "Fine-tuning CNN image retrieval with no human annotation", TPAMI 2018, eq. 3; p = 3 and eps = 1e-6
as in the authors' cirtorch, which pools globally (here global_gem_pool2d).  The mean is over the elements inside the input.

The window's largest value m is factored out; where elements and sums keep their digits without it (`safe`), m is 1 and the gradient
is a^p / a times y / (sum a^p): one power an element, forward and backward.  The whole powers up to 4, given as one number, need no
logarithm of an element for y and grad_x.

Gradient: dy/dx_i = (a_i / y)^(p-1) / n for x_i >= eps, else 0, with a = max(x, eps);
dy/dp = y/p (sum b^p ln b / sum b^p - ln(mean b^p) / p), b = a / m.
"""
import math

import numpy as np

from ..numeric import larger, log, power, real, root
from ..parameters import Parameter
from . import lp

title = "generalised mean (GeM)"
family = "fold"
equation = "y = (Σ max(xᵢ, ε)^p / n)^(1/p)"
gradient = "(aᵢ / y)^(p−1) / n where xᵢ ≥ ε, a = max(x, ε); grad_p"
source = "Radenovic et al., TPAMI 2018"
forms = ("sliding", "adaptive", "global")
common = 1.0
parameters = (
    Parameter("eps", 1e-6, "positive", "what smaller elements are raised to"),
    Parameter("p", 3.0, "array", "exponent above 0, a number or one a channel", learnable=True, above=0.0),
)
same, square, cube, fourth, square_root, fourth_root = lp.same, lp.square, lp.cube, lp.fourth, lp.square_root, lp.fourth_root
WHOLE = {
    1.0: {"powered": "same", "lowered": "same"}, 2.0: {"powered": "square", "lowered": "square_root"}, 3.0: {"powered": "cube"},
    4.0: {"powered": "fourth", "lowered": "fourth_root"},
}


def variant(own):
    """Which functions take the place of `powered` and `lowered` for one whole p."""
    return WHOLE.get(np.asarray(own["p"]).item(), {}) if np.size(own["p"]) == 1 else {}


def powered_few(a, p):  # the whole powers but 3, in one body, as in lp.py
    return a if p == real(1) else a * a if p == real(2) else (a * a) * (a * a)


def lowered_few(a, p):
    s = math.sqrt(a)
    return a if p == real(1) else s if p == real(2) else math.sqrt(s)


def powered(a, p):
    return power(a, p)


def lowered(a, p):
    return root(a, p)


def raised(x, eps):
    return x if (x >= eps or x != x) else eps


def first_start():
    return real(0)


def first_step(m, x, eps, p):
    return larger(m, raised(x, eps))


def start():
    return (real(0),)


def step(acc, x, m, eps, p):
    a = raised(x, eps)
    return (acc[0] + powered(a / m if a != m else real(1), p),)


def mean(acc, n):
    return acc[0] * (real(1) / n)  # one number for many windows, by which they multiply


def stop(acc, m, n, eps, p):
    return m * lowered(mean(acc, n), p)


def start_backward():
    return real(0), real(0)


def step_backward(acc, x, m, eps, p):
    a = raised(x, eps)
    b = a / m if a != m else real(1)
    c = powered(b, p)
    return acc[0] + c, acc[1] + (c * log(b) if c != real(0) else real(0))


def param_slope(acc, m, n, eps, p):
    s = real(1) / p
    return stop(acc, m, n, eps, p) * s * (acc[1] * (real(1) / acc[0]) - log(mean(acc, n)) * s)


def safe(acc, eps, p):
    return (acc[0] > real(1e-30)) & (acc[0] < real(1e30)) & (eps > real(1e-37))


def raised_to(x, eps, p):
    v = powered(raised(x, eps), p)
    return v if (v > real(1e-37)) | (x < eps) else real(math.nan)  # where v has too few digits for the gradient v / x


def lift(x, eps, p):
    return (raised_to(x, eps, p),)


def lift_backward(x, eps, p):
    v = raised_to(x, eps, p)
    return v, v * log(raised(x, eps)) if v != real(0) else real(0)


def terms(acc, m, n, eps, p):
    return (lowered(mean(acc, n), p) * (real(1) / acc[0]),)  # y^(1 - p) / n = y / sum a^p


def spread(x, e, sums, m, eps, p):
    return power(x / m, p - real(1)) * sums[0] if (x >= eps or x != x) else real(0)


def near_spread(x, e, sums, m, eps, p):
    return e[0] / x * sums[0] if ((x >= eps) | (x != x)) & (sums[0] != real(0)) else real(0)  # e may be NaN where no window covers x
