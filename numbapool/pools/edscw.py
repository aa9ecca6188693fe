"""eDSCW, a part of adaPool: y = sum w_i x_i, w = softmax(c) of each element's likeness to the window's mean m, c_i = 2 |x_i m| / (x_i^2 + m^2).

Source and differences: ada.py.  c lies between 0 and 1, so nothing need be subtracted; it is computed from |x| and |m| over the larger of them,
so that squares neither overflow nor vanish.  c = 0 where x = m = 0: an all-zero window has equal weights, y = 0 and dy/dx_i = 1 / n.

Gradient: dy/dx_i = w_i (1 + (x_i - y) dc_i/dx_i) + (1/n) sum_k w_k (x_k - y) dc_k/dm, the true one, through the mean, too.
"""
from ..numeric import exp, real

title = "eDSCW"
family = "fold"
equation = "y = Σ wᵢ xᵢ, w = softmax(c), cᵢ = 2 |xᵢ m| / (xᵢ² + m²)"
gradient = "wᵢ (1 + (xᵢ − y) dcᵢ/dxᵢ) + Σ wₖ (xₖ − y) dcₖ/dm / n"
source = "Stergiou, Poppe, arXiv:2111.00772"
forms = ("sliding",)


def likeness(x, m):
    """c, dc/dx and dc/dm; of |x| and |m| over the larger one."""
    a = max(abs(x), abs(m))
    p, s = abs(x) / a, abs(m) / a
    q = real(1) / (p * p + s * s)
    k = real(2) * (s * s - p * p) * q * q / a
    c_x, c_m = s * k if x > real(0) else -(s * k), p * k if m < real(0) else -(p * k)
    there = a > real(0) or a != a
    return real(2) * p * s * q if there else real(0), c_x if there and x != real(0) else real(0), c_m if there and m != real(0) else real(0)


def first_start():
    return real(0)


def first_step(total, x):
    return total + x


def first_join(a, b):
    return a + b


def first_stop(total, n):
    return total / n


def start():
    return real(0), real(0)


def step(acc, x, m):
    e = exp(likeness(x, m)[0])
    return acc[0] + e, acc[1] + e * x


def stop(acc, m, n):
    return acc[1] / acc[0] if m - m == real(0) else m  # an infinite element decides


def start_backward():
    return real(0), real(0), real(0), real(0)


def step_backward(acc, x, m):
    c, _, c_m = likeness(x, m)
    e = exp(c)
    return acc[0] + e, acc[1] + e * x, acc[2] + e * c_m, acc[3] + e * c_m * x


def terms(acc, m, n):
    r = real(1) / acc[0]
    y = acc[1] * r
    return r, y * r, (acc[3] - y * acc[2]) * r / n


def spread(x, e, sums, m):
    return e[0] * (sums[0] + likeness(x, m)[1] * (x * sums[0] - sums[1])) + sums[2]
