"""LP pooling: y = (sum |x|^p)^(1/p); with norm="mean" the power average (sum |x|^p / n)^(1/p), n the elements inside the input.

Source: the true norm; torch.nn.functional.lp_pool2d agrees for x >= 0 and whole windows.  Differences by intent: torch sums
x^p with its sign (NaN for odd or fractional p and negative x), overflows, and scales cut windows up.

The window's largest |x| is factored out, y = m (sum (|x|/m)^p)^(1/p), so nothing over- or underflows.
Gradient: dy/dx_i = sign(x_i) (|x_i| / y)^(p-1), over n for the mean; 0 where x_i = 0 and where y = 0.
"""
import math

from ..numeric import larger, power, real, root
from ..parameters import REQUIRED, Parameter

title = "LP (power)"
family = "fold"
equation = "y = (Σ |xᵢ|^p)^(1/p); mean: (Σ |xᵢ|^p / n)^(1/p)"
gradient = "sign(xᵢ) (|xᵢ| / y)^(p−1); mean: / n"
source = "torch.nn.functional.lp_pool2d, with |x|"
forms = ("sliding", "adaptive", "global")
example = {"norm_type": "2.0"}
parameters = (
    Parameter("norm_type", REQUIRED, "positive", "p, above 0; for infinity take max pooling of |x|", leading=True),
    Parameter("norm", "sum", "option", '"sum", or "mean" for the power average', choices={"sum": {}, "mean": {}}),
)


def share(own):
    """The mean divides by the elements inside the input, the sum by one."""
    return "inside" if own["norm"] == "mean" else "one"


def variant(own):
    """The whole powers 1 and 2 need no logarithm: which functions take the place of raised, raised_less and lowered."""
    return {1.0: {"raised": "same", "raised_less": "one", "lowered": "same"},
            2.0: {"raised": "square", "raised_less": "same", "lowered": "square_root"}}.get(own["norm_type"], {})


def raised(a, p):
    return power(a, p)


def raised_less(a, p):
    return power(a, p - real(1))


def lowered(a, p):
    return root(a, p)


def same(a, p):
    return a


def one(a, p):
    return real(1)


def square(a, p):
    return a * a


def square_root(a, p):
    return math.sqrt(a)


def first_start():
    return real(0)


def first_step(m, x, p):
    return larger(m, abs(x))


def first_stop(m):
    return m if m != real(0) else real(1)


def start():
    return (real(0),)


def step(acc, x, m, p):
    a = abs(x)
    return (acc[0] + raised(a / m if a != m else real(1), p),)  # an infinite element is the maximum itself


def stop(acc, m, n, p):
    return m * lowered(acc[0] / n, p)


def slope(x, kept, m, n, p):
    y = kept[0]
    g = raised_less(abs(x) / y, p) / n
    g = g if x > real(0) or x != x else -g
    return g if x != real(0) and y != real(0) else real(0)
