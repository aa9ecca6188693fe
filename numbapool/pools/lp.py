"""LP pooling: y = (sum |x|^p)^(1/p); with norm="mean" the power average (sum |x|^p / n)^(1/p), n the elements inside the input.

Source: the true norm; torch.nn.functional.lp_pool2d agrees for x >= 0 and whole windows.  Differences by intent: torch sums
x^p with its sign (NaN for odd or fractional p and negative x), overflows, and scales cut windows up.

The window's largest |x| is factored out, y = m (sum (|x|/m)^p)^(1/p), so nothing over- or underflows.
Where elements and sums keep their digits without it (`safe`), m is 1 and the gradient is x^p / x times y / y^p: one power an element,
forward and backward.
Gradient: dy/dx_i = sign(x_i) (|x_i| / y)^(p-1), over n for the mean; 0 where x_i = 0 and where y = 0.
"""
import math

from ..numeric import exp, larger, power, real, root
from ..parameters import REQUIRED, Parameter

title = "LP (power)"
family = "fold"
equation = "y = (Σ |xᵢ|^p)^(1/p); mean: (Σ |xᵢ|^p / n)^(1/p)"
gradient = "sign(xᵢ) (|xᵢ| / y)^(p−1); mean: / n"
source = "torch.nn.functional.lp_pool2d, with |x|"
forms = ("sliding", "adaptive", "global")
common = 1.0
example = {"norm_type": "2.0"}
parameters = (
    Parameter("norm_type", REQUIRED, "positive", "p, above 0; for infinity take max pooling of |x|", leading=True),
    Parameter("norm", "sum", "option", '"sum", or "mean" for the power average', choices={"sum": {}, "mean": {}}),
)


def share(own):
    """The mean divides by the elements inside the input, the sum by one."""
    return "inside" if own["norm"] == "mean" else "one"


def variant(own):
    """The whole powers up to 4 and half powers up to 2.5 need no logarithm of an element: which functions take the place of others."""
    return {0.5: {"raised": "square_root", "raised_less": "inverse_root", "lowered": "square"},
            1.5: {"raised": "one_and_half", "raised_less": "square_root"},
            2.5: {"raised": "two_and_half", "raised_less": "one_and_half"},
            1.0: {"near_spread": "spread_one", "raised": "same", "raised_less": "one", "lowered": "same"},
            2.0: {"near_spread": "spread_two", "raised": "square", "raised_less": "same", "lowered": "square_root"},
            3.0: {"near_spread": "spread_three", "raised": "cube", "raised_less": "square"},
            4.0: {"near_spread": "spread_four", "raised": "fourth", "raised_less": "cube", "lowered": "fourth_root"}}.get(own["norm_type"], {})


def raised(a, p):
    return power(a, p)


def raised_less(a, p):
    return power(a, p - real(1))


def lowered(a, p):
    return root(a, p)


def raised_few(a, p):  # the powers that `variant` knows but 2, in one body, bit for bit: the C library has no kernels for each
    s = math.sqrt(a)
    half = s if p == real(0.5) else a * s if p == real(1.5) else a * a * s
    return a if p == real(1) else a * a * a if p == real(3) else (a * a) * (a * a) if p == real(4) else half


def raised_less_few(a, p):
    s = math.sqrt(a)
    half = real(1) / s if p == real(0.5) else s if p == real(1.5) else a * s
    return real(1) if p == real(1) else a * a if p == real(3) else a * a * a if p == real(4) else half


def lowered_few(a, p):
    y = math.sqrt(math.sqrt(a)) if p == real(4) else root(a, p)
    return a if p == real(1) else a * a if p == real(0.5) else y


def near_spread_few(x, e, sums, m, p):
    v = spread_one(x, e, sums, m, p) if p == real(1) else spread_power(x, e, sums)
    return spread_three(x, e, sums, m, p) if p == real(3) else spread_four(x, e, sums, m, p) if p == real(4) else v


def same(a, p):
    return a


def one(a, p):
    return real(1)


def square(a, p):
    return a * a


def cube(a, p):
    return a * a * a


def fourth(a, p):
    return (a * a) * (a * a)


def inverse_root(a, p):
    return real(1) / math.sqrt(a)


def one_and_half(a, p):
    return a * math.sqrt(a)


def two_and_half(a, p):
    return a * a * math.sqrt(a)


def fourth_root(a, p):
    return math.sqrt(math.sqrt(a))


def square_root(a, p):
    return math.sqrt(a)


def first_start():
    return real(0)


def first_step(m, x, p):
    return larger(m, abs(x))


def first_stop(m, n):
    return m if m != real(0) else real(1)


def start():
    return (real(0),)


def step(acc, x, m, p):
    a = abs(x)
    return (acc[0] + raised(a / m if a != m else real(1), p),)  # an infinite element is the maximum itself


def stop(acc, m, n, p):
    return m * lowered(acc[0] / n, p)


def lift(x, p):
    v = raised(abs(x), p)
    return (v if v > real(1e-30) or x == real(0) else real(math.nan),)


def safe(acc, p):  # y between 2e-35 and 5e34, and its power a number, too
    return ((acc[0] < real(1e30)) & (acc[0] < exp(real(80) * p)) & (acc[0] > exp(real(-80) * p))) | (acc[0] == real(0))


def terms(acc, m, n, p):
    return (lowered(acc[0] / n, p) / acc[0] if acc[0] != real(0) else real(0),)  # y^(1 - p) = y / y^p


def spread(x, e, sums, m, p):
    g = raised_less(abs(x) / m, p) * sums[0]
    g = g if x > real(0) or x != x else -g
    return g if x != real(0) else real(0)


def spread_power(x, e, sums):
    return e[0] / x * sums[0] if (x != real(0)) & (sums[0] != real(0)) else real(0)  # e is NaN where no window, too, could use it


def near_spread(x, e, sums, m, p):
    return spread_power(x, e, sums)


def spread_one(x, e, sums, m, p):
    g = sums[0] if x > real(0) or x != x else -sums[0]
    return g if x != real(0) else real(0)


def spread_two(x, e, sums, m, p):
    return x * sums[0]


def spread_three(x, e, sums, m, p):
    return abs(x) * x * sums[0]


def spread_four(x, e, sums, m, p):
    return x * x * x * sums[0]
