"""Gated max-average pooling: y = q max x + (1 - q) avg x with q = sigmoid(sum omega_i x_i) of each window; omega, of the kernel's shape, is learned.

Source: Lee, Gallagher, Tu, "Generalizing pooling functions in convolutional neural networks: mixed, gated, and tree", AISTATS 2016: one
omega a layer, no bias.  The average divides by the elements inside the input; padding gives nothing to the sum either.

Gradient: with s = q (1 - q) (max - avg), dy/dx_i = q [x_i is the maximum] + (1 - q) / n + s omega_i, dy/domega_i = s x_i.  Of equal maxima the first
has the gradient; the authors' Caffe layer gives all of them the whole of it.  Reimplementations that gate the average by q compute 1 - q here.
"""
import numpy as np

from .. import weigh
from ..arrays import values
from ..composed import Blend, five, spatial_of, steps
from ..parameters import REQUIRED, Parameter
from . import mixed

title = "gated max-average"
family = "composed"
equation = "y = q max x + (1 − q) Σ xᵢ / n, q = sigmoid(Σ ωᵢ xᵢ)"
gradient = "q for the maximum, (1 − q) / n, and q (1 − q) (max − avg) ωᵢ; for ωᵢ q (1 − q) (max − avg) xᵢ"
source = "Lee et al., AISTATS 2016"
forms = ("sliding",)
example = {"omega": "np.zeros((2,) * (x.ndim - 2))"}
parts = mixed.parts
parameters = (Parameter("omega", REQUIRED, "kernel", "the gate's weights, of the kernel's shape", leading=True, learnable=True),)


class Gated(Blend):
    """The max's share is a sigmoid of a weighted sum of the window."""

    def gate(self, call, x):
        """The windows' taps, and omega as (1, D, H, W)."""
        held = self.held(call, self.parameters["omega"])
        omega = np.asarray(values(call.own["omega"], f"{call.where}: omega")) if held is None else held
        kernel = tuple(a.grid[2] for a in call.axes)
        if tuple(omega.shape) != kernel[3 - call.ndim:]:
            raise ValueError(f"{call.where}: omega must have the kernel's shape {kernel[3 - call.ndim:]}, got {tuple(omega.shape)}")
        if held is None and not np.isfinite(omega).all():
            raise ValueError(f"{call.where}: omega must be finite")
        taps = weigh.single(x.shape[1]), *map(weigh.of_windows, call.axes, call.x.dims[2:])
        return taps, omega.reshape((1, *kernel))

    def portion(self, call, window, x):
        """q; where the sum is NaN, so is q."""
        return spatial_of(weigh.gated(call, *self.inputs(call, x)), call.ndim)

    def inputs(self, call, x):
        """What `weigh` takes."""
        taps, omega = self.gate(call, x)
        return taps, five(x), omega

    def through_portion(self, call, window, x, q, grad_q, grad_x):
        """What the sum in the gate gives to x and to omega."""
        (taps, planes, omega), through = self.inputs(call, x), five(steps(call).through_sigmoid(call, grad_q, q))
        grad_omega = weigh.gradient(call, taps, planes, through, omega).reshape(tuple(omega.shape[-call.ndim:]))
        more = spatial_of(weigh.weigh(call, taps, through, omega, True), call.ndim)
        return [steps(call).total(call, grad_x, more), self.handed_over(call, grad_omega)]


operation = Gated
