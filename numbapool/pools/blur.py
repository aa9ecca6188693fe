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
    """The filter as weights by position, over a border by pad_mode."""

    def inputs(self, call, window, x):
        """The taps, and the filter as (1, D, H, W)."""
        taps, weights = [weigh.single(x.shape[1])], np.ones(1)
        for axis, n in zip(call.axes, call.x.dims[2:], strict=True):
            f = axis.grid[2]
            taps.append(weigh.of_windows(axis, n, MODES[window[2]]))
            weights = np.multiply.outer(weights, [comb(f - 1, k) / 2 ** (f - 1) for k in range(f)])
        return tuple(taps), weights

    def forward_of(self, call, window, x):
        """y."""
        taps, weights = self.inputs(call, window, x)
        return spatial_of(weigh.weigh(call, taps, five(x), weights), call.ndim)

    def backward_of(self, call, window, x, grad):
        """grad_x."""
        taps, weights = self.inputs(call, window, x)
        return [spatial_of(weigh.weigh(call, taps, five(grad), weights, True), call.ndim)]


operation = Blur
forms = (Blurred(),)
