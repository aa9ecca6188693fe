"""Log-sum-exp pooling, its mean form: y = (1/r) ln((1/n) sum exp(r x)), from the average (r -> 0) to max pooling (r -> infinity).

Source: Pinheiro and Collobert, "From image-level to pixel-level labeling with convolutional networks", CVPR 2015 (r there about 10);
the form without 1/n is this plus ln(n) / r.  r is learnable, one for all channels or one a channel.

A reference m is subtracted, y = m + (1/r) ln((1/n) sum e^(r (x - m))): 0 where the sums show that it suits the window, else the window's
maximum.  Where the mean of e^u, u = r (x - m), is near 1, its logarithm comes from the sum of e^u - 1: small elements keep their digits.

Gradient: dy/dx_i = w_i, w = softmax(r x); dy/dr = (sum w_i x_i - y) / r.

logavgexp-torch (lucidrains) subtracts ln n twice; for arange(1000) and 1/r = 0.01 it gives 998.862, this 998.931.
"""
import math

from ..numeric import between, exp, larger, log, near_exp_less_one, real
from ..parameters import Parameter

title = "log-sum-exp (LSE)"
family = "fold"
equation = "y = ln(Σ exp(r xᵢ) / n) / r"
gradient = "wᵢ, w = softmax(r x); for r (Σ wᵢ xᵢ − y) / r"
source = "Pinheiro, Collobert, CVPR 2015"
forms = ("sliding", "adaptive", "global")
common = 0.0
parameters = (Parameter("r", 1.0, "array", "sharpness above 0, a number or one a channel", learnable=True, above=0.0),)


def less_one(u, e):
    """e^u - 1 of e = e^u: by its series where the difference would lose digits."""
    p = u * real(1 / 479001600) + real(1 / 39916800)  # a loop over the factors would not be vectorised
    p = p * u + real(1 / 3628800)
    p = p * u + real(1 / 362880)
    p = p * u + real(1 / 40320)
    p = p * u + real(1 / 5040)
    p = p * u + real(1 / 720)
    p = p * u + real(1 / 120)
    p = p * u + real(1 / 24)
    p = p * u + real(1 / 6)
    p = p * u + real(0.5)
    p = p * u + real(1)
    return p * u if abs(u) < real(0.25) else e - real(1)


def mean_log(acc, n):
    """ln(mean e^u): where the mean is near 1, t = mean - 1 makes good what the rounding of 1 + t loses."""
    r = real(1) / n  # as below: one number for many windows, by which they multiply
    t = acc[1] * r
    near = abs(t) < real(0.5)
    s = real(1) + t if near else acc[0] * r
    y = log(s)
    y = y * (t / (s - real(1))) if near else y
    return y if s != real(1) else t


def first_start():
    return real(-math.inf)


def first_step(m, x, r):
    return larger(m, x)


def start():
    return real(0), real(0)


def step(acc, x, m, r):
    u = r * (x - m) if x != m else real(0)  # an infinite maximum is 0 away from itself
    e = exp(u)
    return acc[0] + e, acc[1] + less_one(u, e)


def near_weight(x, r):
    u = between(r * x, real(-86.5), real(40))  # NaN, too, becomes the upper end, with which no sum is safe
    e, less = near_exp_less_one(u)
    return (e, less) if u > real(-86.5) else (real(0), real(-1))


def lift(x, r):
    return near_weight(x, r)


def stop(acc, m, n, r):
    return m + mean_log(acc, n) * (real(1) / r)


def start_backward():
    return real(0), real(0), real(0)


def step_backward(acc, x, m, r):
    d = x - m if x != m else real(0)
    e = exp(r * d)
    return acc[0] + e, acc[1] + less_one(r * d, e), acc[2] + (e * d if e != real(0) else real(0))


def lift_backward(x, r):
    e, less = near_weight(x, r)
    return e, less, e * x if e != real(0) else real(0)


def param_slope(acc, m, n, r):
    s = real(1) / r
    return (acc[2] * (real(1) / acc[0]) - mean_log(acc, n) * s) * s


def safe(acc, *q):
    return acc[0] > real(1e-8) and acc[0] < real(1e13)


def terms(acc, m, n, r):
    return (real(1) / acc[0],)


def spread(x, e, sums, m, r):
    return e[0] * sums[0]
