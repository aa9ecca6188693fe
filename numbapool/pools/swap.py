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

first_start, first_step_at, start, step_at, stop_at, keep_at, slope_at = (
    soft.first_start, soft.first_step, soft.start, soft.step, soft.stop, soft.keep, soft.slope)


def first_step(m, x):
    return first_step_at(m, x, real(1))


def step(acc, x, m):
    return step_at(acc, x, m, real(1))


def stop(acc, m, n):
    return stop_at(acc, m, n, real(1))


def keep(acc, m, n):
    return keep_at(acc, m, n, real(1))


def slope(x, kept, m, n):
    return slope_at(x, kept, m, n, real(1))
