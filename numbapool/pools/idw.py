"""Inverse distance weighted pooling: y = sum w_i x_i / sum w_i, w_i = 1 / |x_i - m|, m the window's mean.

Source: the IDW pooling that came with adaPool (Stergiou, Poppe, arXiv:2111.00772), whose code gives 3.4e38 where an element is the mean, flat windows
among them.  Written about the mean it is y = m + (n+ - n-) / sum 1 / |x_i - m|, n+ and n- the numbers of elements above and below it, which has its
limit there: y = m.

Gradient: with q_i = w_i / sum w and s_i the sign of x_i - m, dy/dx_i = 1/n + (n+ - n-) (s_i q_i^2 - sum s_k q_k^2 / n); where an element is the
mean, the mean's, 1/n.
"""
import math

from ..numeric import real
from . import edscw

title = "inverse distance weighted (IDW)"
family = "fold"
equation = "y = Σ wᵢ xᵢ / Σ wᵢ, wᵢ = 1 / |xᵢ − m|, m the mean"
gradient = "1/n + (n₊ − n₋) (sᵢ qᵢ² − Σ sₖ qₖ² / n), q = w / Σ w"
source = "Stergiou, Poppe, arXiv:2111.00772"
forms = ("sliding", "adaptive", "global")
first_start, first_step, first_join, first_stop = edscw.first_start, edscw.first_step, edscw.first_join, edscw.first_stop  # the mean


def start():
    return real(0), real(0), real(0)


def step(acc, x, m):
    d = x - m
    s = real(1) if d > real(0) else real(-1) if d < real(0) else d  # NaN stays
    w = real(1) / abs(d) if d != real(0) else real(math.inf)
    return acc[0] + w, acc[1] + s, acc[2] + (s * w * w if w < real(1e18) else real(0))


def stop(acc, m, n):
    return m + acc[1] / acc[0] if m - m == real(0) else m  # an infinite element decides


def terms(acc, m, n):
    s = acc[1] / acc[0] / acc[0] if acc[0] < real(1e18) else real(0)  # else an element is the mean
    return real(1) / n - s * acc[2] / n, s


def spread(x, e, sums, m):
    return sums[0] + ((sums[1] * e[0]) * e[0] * e[1] if sums[1] != real(0) else real(0))  # where e[0] may be infinite
