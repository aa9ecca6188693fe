"""Blur pooling: a binomial filter and a stride, y = sum over taps of f x, f the outer product of rows like [1, 3, 3, 1] / 8, one for each axis.

Source: Zhang, "Making convolutional networks shift-invariant again", ICML 2019.  The filter of size f is C(f - 1, k) / 2^(f - 1); the input is
padded by (f - 1) // 2 before and f // 2 after, so y has ceil(size / stride) elements.  max_blur.py takes maxima before.
pad_mode is that of torch.nn.functional.pad, "reflect", "replicate" or "constant" (zeros); a border wider than the input is reflected again and again.

Gradient: the transpose, dy/dx_i = f at the element's place, for an element that stands for mirrored ones, too, the sum.
"""
from math import comb

import numpy as np

from .. import weigh, windows
from ..composed import Composed, five, spatial_of
from ..forms import per_axis, three
from ..parameters import option

title = "blur (anti-aliased)"
family = "composed"
equation = "y = Σ fᵢ xᵢ, f binomial"
gradient = "fᵢ"
source = "Zhang, ICML 2019"
MODES = {
    "reflect": lambda i, n: np.abs((i + n - 1) % max(2 * n - 2, 1) - (n - 1)) if n > 1 else 0 * i,
    "replicate": lambda i, n: np.clip(i, 0, n - 1),
    "constant": lambda i, n: i,
}


class Blurred:
    """Windows of the filter at a distance."""

    name, prefix = "blurred", ""
    words = {"filter_size": "taps of the binomial filter, one number or one an axis", "stride": "distance of two windows, one number or one an axis",
             "pad_mode": 'what stands beyond the border: "reflect", "replicate", or "constant" for zeros'}

    def arguments(self, defaults):
        """The positional and the keyword-only arguments: name, type hint, default."""
        return [("filter_size", "int | Sequence[int]", 4), ("stride", "int | Sequence[int]", 2)], [("pad_mode", "str", "reflect")]

    def axes(self, where, spatial, args, share):
        """The windows, cut at the border."""
        size, stride = (per_axis(a, len(spatial), f"{where}: {n}") for a, n in zip(args, ("filter_size", "stride"), strict=False))
        option(args[2], MODES, f"{where}: pad_mode")
        if 0 in spatial:
            raise ValueError(f"{where}: x must not be empty along a spatial axis, got size {spatial}")
        return three([windows.sliding(n, f, s, (f - 1) // 2, f // 2, 1, False, "inside") for n, f, s in zip(spatial, size, stride, strict=True)])


class Blur(Composed):
    """The filter as weights by position, over a border by pad_mode: one axis after the other, rows of which are read at unit stride first."""

    def filtered(self, call, window, x, transposed):
        """y of x, or, transposed, grad_x of grad."""
        axes = [(i, axis, n) for i, axis, n in zip((1, 2, 3), call.axes, call.x.dims[2:], strict=True) if axis.grid[2] > 1 or axis.count.size != n]
        passes = []
        for i, axis, n in axes[::-1] if transposed else axes:
            f = axis.grid[2]
            weights = np.array([comb(f - 1, k) / 2 ** (f - 1) for k in range(f)])
            passes.append((i, weigh.of_windows(axis, n, MODES[window[2]]), weights.reshape([f if j == i else 1 for j in range(4)])))
        return spatial_of(weigh.in_turn(call, passes, five(x), transposed), call.ndim)

    def forward_of(self, call, window, x):
        """y."""
        return self.filtered(call, window, x, False)

    def backward_of(self, call, window, x, grad):
        """grad_x."""
        return [self.filtered(call, window, grad, True)]


operation = Blur
forms = (Blurred(),)
