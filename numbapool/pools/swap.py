"""SWAP: soft pooling with its true gradient; y = sum w_i x_i, w = softmax(x) over the window.

Source: Elias and Jain's "softmax-weighted average pooling": average pooling weighted by the softmax of the window, trained by
automatic differentiation through the weights.  The forward pass is soft pooling's at T = 1; what names it is the gradient.

Gradient: dy/dx_i = w_i (1 + x_i - y).  Nothing is kept from the forward pass.
"""
from ..numeric import real
from . import soft

title = "SWAP"
family = "fold"
equation = "y = Σ wᵢ xᵢ, w = softmax(x)"
gradient = "wᵢ (1 + xᵢ − y)"
source = "Elias, Jain, softmax-weighted average pooling"
forms = ("sliding", "adaptive", "global")

common = soft.common
first_start, soft_first_step, start, soft_step, soft_lift, soft_stop, safe, soft_terms, soft_spread = (
    soft.first_start, soft.first_step, soft.start, soft.step, soft.lift, soft.stop, soft.safe, soft.terms, soft.spread)


def first_step(m, x):
    return soft_first_step(m, x, real(1))


def step(acc, x, m):
    return soft_step(acc, x, m, real(1))


def lift(x):
    return soft_lift(x, real(1))


def stop(acc, m, n):
    return soft_stop(acc, m, n, real(1))


def terms(acc, m, n):
    return soft_terms(acc, m, n, real(1))


def spread(x, e, sums, m):
    return soft_spread(x, e, sums, m, real(1))
