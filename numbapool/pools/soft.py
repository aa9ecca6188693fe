"""Soft pooling: y = sum w_i x_i with w = softmax(x / T) over the window.

Source: Stergiou, Poppe, Kalliatakis, "Refining activation downsampling with SoftPool", ICCV 2021, eqs. 1 and 2
(T = 1).  The maximum m of the window is subtracted, y = m + sum e_i (x_i - m) / sum e_i with e_i = exp((x_i - m) / T), so
nothing overflows and y never exceeds m.

Gradient: dy/dx_i = w_i (1 + (x_i - y) / T), the true one.  gradient="constant" is the paper's eq. 4, dy/dx_i = w_i, which
treats the weights as constants.  Nothing is kept from the forward pass.

The authors' code differs: its CUDA kernel subtracts no maximum (overflow above 88, NaN set to 0) and is wrong where stride
and kernel differ; its CPU path shares the weights between channels and sets negative results to 0.
"""
import math

from ..numeric import exp, larger, real
from ..parameters import Parameter

title = "soft (SoftPool)"
family = "fold"
equation = "y = Σ wᵢ xᵢ, w = softmax(x / T)"
gradient = 'wᵢ (1 + (xᵢ − y) / T); "constant": wᵢ'
source = "Stergiou et al., ICCV 2021"
forms = ("sliding", "adaptive", "global")
parameters = (
    Parameter("temperature", 1.0, "positive", "T: towards 0 it becomes max pooling, towards infinity the average"),
    Parameter("gradient", "exact", "option", 'the true gradient "exact", or the paper\'s "constant" weights', direction="backward",
              choices={"exact": {}, "constant": {"slope": "slope_constant"}}),
)


def first_start():
    return real(-math.inf)


def first_step(m, x, temperature):
    return larger(m, x)


def start():
    return real(0), real(0)


def step(acc, x, m, temperature):
    d = x - m if x != m else real(0)  # an infinite maximum is 0 away from itself
    e = exp(d / temperature)
    return acc[0] + e, acc[1] + (e * d if e != real(0) else real(0))  # -inf has no weight


def stop(acc, m, n, temperature):
    return m + acc[1] / acc[0]


def keep(acc, m, n, temperature):
    return real(1) / acc[0], acc[1] / acc[0]


def slope(x, kept, m, n, temperature):
    d = x - m if x != m else real(0)
    w = exp(d / temperature) * kept[0]
    return w * (real(1) + (d - kept[1]) / temperature) if w != real(0) else real(0)


def slope_constant(x, kept, m, n, temperature):
    d = x - m if x != m else real(0)
    return exp(d / temperature) * kept[0]
