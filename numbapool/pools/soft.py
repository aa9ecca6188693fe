"""Soft pooling: y = sum w_i x_i with w = softmax(x / T) over the window.

Source: Stergiou, Poppe, Kalliatakis, "Refining activation downsampling with SoftPool", ICCV 2021, eqs. 1 and 2
(T = 1).  A reference m is subtracted, y = m + sum e_i (x_i - m) / sum e_i with e_i = exp((x_i - m) / T): 0 where the sums show that it
suits the window (its largest x / T lies between about -18 and 30), so that windows share exponentials; else the window's maximum,
so that nothing overflows.

Gradient: dy/dx_i = w_i (1 + (x_i - y) / T), the true one, as e_i (A + ((x_i - m) A - B) / T) with A and B the sums over the windows of
g / sum e and g (y - m) / sum e.  gradient="constant" is the paper's eq. 4, dy/dx_i = w_i, which
treats the weights as constants.  Nothing is kept from the forward pass.

The authors' code differs: its CUDA kernel subtracts no maximum (overflow above 88, NaN set to 0) and is wrong where stride
and kernel differ; its CPU path shares the weights between channels and sets negative results to 0.
"""
import math

from ..numeric import between, exp, larger, near_exp, real
from ..parameters import Parameter

title = "soft (SoftPool)"
family = "fold"
equation = "y = Σ wᵢ xᵢ, w = softmax(x / T)"
gradient = 'wᵢ (1 + (xᵢ − y) / T); "constant": wᵢ'
source = "Stergiou et al., ICCV 2021"
forms = ("sliding", "adaptive", "global")
common = 0.0
parameters = (
    Parameter("temperature", 1.0, "positive", "T: towards 0 it becomes max pooling, towards infinity the average"),
    Parameter("gradient", "exact", "option", 'the true gradient "exact", or the paper\'s "constant" weights', direction="backward",
              choices={"exact": {}, "constant": {"spread": "spread_constant"}}),
)


def first_start():
    return real(-math.inf)


def first_step(m, x, temperature):
    return larger(m, x)


def start():
    return real(0), real(0)


def step(acc, x, m, temperature):
    d = x - m if x != m else real(0)  # an infinite maximum is 0 away from itself
    e = exp(d * (real(1) / temperature))
    return acc[0] + e, acc[1] + (e * d if e != real(0) else real(0))  # -inf has no weight


def lift(x, temperature):
    low = real(-86.5) * temperature
    v = between(x, low, real(40) * temperature)  # NaN, too, becomes the upper end, with which no sum is safe
    e = near_exp(v, real(1) / temperature) if v > low else real(0)
    return e, e * v


def stop(acc, m, n, temperature):
    return m + acc[1] / acc[0]


def safe(acc, *q):
    return acc[0] > real(1e-8) and acc[0] < real(1e13)


def terms(acc, m, n, temperature):
    r = real(1) / acc[0]
    return r, acc[1] * r * r


def spread(x, e, sums, m, temperature):
    r = real(1) / temperature
    return e[0] * (sums[0] - sums[1] * r) + e[1] * (sums[0] * r)


def spread_constant(x, e, sums, m, temperature):
    return e[0] * sums[0]
