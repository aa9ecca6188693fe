"""AutoPool: y = sum w_i x_i with w = softmax(alpha x) over the window; alpha = 0 is the average, 1 soft pooling, +-infinity max and min.

Source: McFee, Salamon, Bello, "Adaptive pooling operators for weakly labeled sound event detection", IEEE/ACM TASLP 2018.  alpha is
learnable, one for all channels or one a channel, of any sign, unbounded.

As in soft pooling a reference is subtracted: 0 where it suits the window, else the element of the largest weight.  With a = x, or -x
where alpha < 0, y = +-(m + sum e_i (a_i - m) / sum e_i), e_i = exp(|alpha| (a_i - m)).

Gradient: dy/dx_i = w_i (1 + alpha (x_i - y)); dy/dalpha = sum w_i x_i^2 - y^2.

The authors' Keras layer computes its softmax over one axis (time) of the whole input; that is global_auto_pool1d.
"""
import math

from ..numeric import between, exp, larger, near_exp, real
from ..parameters import REQUIRED, Parameter

title = "AutoPool"
family = "fold"
equation = "y = Σ wᵢ xᵢ, w = softmax(α x)"
gradient = "wᵢ (1 + α (xᵢ − y)); for α Σ wᵢ xᵢ² − y²"
source = "McFee et al., TASLP 2018"
forms = ("sliding", "adaptive", "global")
common = 0.0
example = {"alpha": "1.0"}
parameters = (Parameter("alpha", REQUIRED, "array", "sharpness, a number or one a channel", learnable=True),)


def turned(x, alpha):
    return x if alpha >= real(0) else -x


def first_start():
    return real(-math.inf)


def first_step(m, x, alpha):
    return larger(m, turned(x, alpha) if alpha != real(0) else real(0))


def start():
    return real(0), real(0)


def weighed(d, alpha):
    """An element's weight, and the weight times d, its distance from the reference; -inf has no weight."""
    e = exp(abs(alpha) * d) if alpha != real(0) else real(1)
    return e, e * d if e != real(0) else real(0)


def apart(x, m, alpha):
    a = turned(x, alpha)
    return a - m if a != m else real(0)  # an infinite maximum is 0 away from itself


def step(acc, x, m, alpha):
    e, ed = weighed(apart(x, m, alpha), alpha)
    return acc[0] + e, acc[1] + ed


def near_weight(x, alpha):
    a, s = turned(x, alpha), abs(alpha)
    u = between(s * a, real(-86.5), real(40))  # NaN, too, becomes the upper end, with which no sum is safe
    e = near_exp(u, real(1)) if u > real(-86.5) else real(0)
    return e, e * a if e != real(0) else real(0)


def lift(x, alpha):
    return near_weight(x, alpha)


def stop(acc, m, n, alpha):
    return turned(m + acc[1] / acc[0], alpha)


def start_backward():
    return real(0), real(0), real(0)


def step_backward(acc, x, m, alpha):
    d = apart(x, m, alpha)
    e, ed = weighed(d, alpha)
    return acc[0] + e, acc[1] + ed, acc[2] + (ed * d if e != real(0) else real(0))


def lift_backward(x, alpha):
    e, ea = near_weight(x, alpha)
    return e, ea, ea * turned(x, alpha) if e != real(0) else real(0)


def param_slope(acc, m, n, alpha):
    r = real(1) / acc[0]
    mean = acc[1] * r
    return acc[2] * r - mean * mean


def safe(acc, *q):
    return acc[0] > real(1e-8) and acc[0] < real(1e13) and acc[1] - acc[1] == real(0)


def terms(acc, m, n, alpha):
    r = real(1) / acc[0]
    return r, acc[1] * r * r


def spread(x, e, sums, m, alpha):
    s = abs(alpha)
    return e[0] * (sums[0] - sums[1] * s) + e[1] * (sums[0] * s)
