"""Detail-preserving pooling (DPP) of 2x2 windows with stride 2 (2 elements in 1d, 2x2x2 in 3d): y = sum w_i x_i / sum w_i, where elements that differ
from a smoothed I of their window weigh more.

Source: Saeedan, Weber, Goesele, Roth, "Detail-preserving pooling in deep networks", CVPR 2018.  v_i = (x_i - I)^2 + 1e-3 (symmetric) or
max(x_i - I, 0)^2 + 1e-3; w_i = (v_i / avg v)^(e^lam / 2) + e^alpha, with lam and alpha one a channel.  I is the window's average (lite), or with
weight, (C, 3, ...), a 3x3 filter of each channel with stride 2, padded by 1 with zeros (full).
Squares of elements must not overflow.  An odd axis' last element belongs to no window.

Gradient: all of it, through v, avg v and I, for x, lam, alpha, and weight.  The authors' PyTorch-era reimplementation with tensor comprehensions has
wrong ones.  Their code caps alpha at 10 as a projection in training, which is the caller's here.
"""
import numpy as np

from .. import detail, weigh, windows
from ..arrays import values
from ..composed import Composed, five, spatial_of, steps
from ..forms import three
from ..numeric import exponentials
from ..parameters import REQUIRED, Parameter

title = "detail-preserving (DPP)"
family = "composed"
equation = "y = Σ wᵢ xᵢ / Σ wᵢ, wᵢ = (vᵢ / avg v)^(e^λ / 2) + e^α, vᵢ = (xᵢ − I)² + 0.001"
gradient = "wᵢ / Σ w, and what v, avg v and I give"
source = "Saeedan et al., CVPR 2018"
example = {"lam": "np.zeros(x.shape[1])", "alpha": "np.zeros(x.shape[1])"}
parameters = (
    Parameter("lam", REQUIRED, "array", "λ, one a channel: the larger, the more details count", leading=True, learnable=True, shapes=("channel",)),
    Parameter("alpha", REQUIRED, "array", "α, one a channel: e^α is added to all weights", leading=True, learnable=True, shapes=("channel",)),
    Parameter("weight", None, "filters", "the filter of I, (C, 3, ...); None: the average of the window", learnable=True),
    Parameter("symmetric", True, "flag", "whether elements below I count as details, too"),
)


class Halved:
    """Windows of 2 elements an axis, side by side."""

    name, prefix, words = "halved", "", {}

    def arguments(self, defaults):
        """There are none."""
        return [], []

    def axes(self, where, spatial, args, share):
        """The windows."""
        if min(spatial) < 2:
            raise ValueError(f"{where}: x must have 2 elements along every spatial axis, got size {spatial}")
        return three([windows.sliding(n, 2, 2, 0, 0, 1, False, "inside") for n in spatial])


class Dpp(Composed):
    """Kernels of its own compute it: loops/cpu/detail.py, loops/cuda/composed.py."""

    def forward_of(self, call, window, x):
        """y."""
        return spatial_of(self.run_detail(call, x)[0], call.ndim)

    def backward_of(self, call, window, x, grad):
        """grad_x, grad_lam, grad_alpha, and with a filter grad_weight."""
        grad_x, lam, alpha, *of_middle = (spatial_of(a, call.ndim) for a in self.run_detail(call, x, grad))
        found = [self.gathered(call, g, self.parameters[name]) for g, name in ((lam, "lam"), (alpha, "alpha"))]
        if call.own["weight"] is None:
            return [grad_x, *found]
        taps, planes, weight = self.taps(call, x)
        through = five(*of_middle)
        grad_weight = weigh.gradient(call, taps, planes, through, weight).reshape((x.shape[1], *weight.shape[-call.ndim:]))
        more = spatial_of(weigh.weigh(call, taps, through, weight, True), call.ndim)
        return [steps(call).total(call, grad_x, more), *found, self.handed_over(call, grad_weight)]

    def filters(self, call, x):
        """The taps of I, and its weights as (C, D, H, W)."""
        held = self.held(call, self.parameters["weight"])
        weight = np.asarray(values(call.own["weight"], f"{call.where}: weight"), np.float64) if held is None else held
        shape = (x.shape[1], *(3,) * call.ndim)
        if tuple(weight.shape) != shape or (held is None and not np.isfinite(weight).all()):
            raise ValueError(f"{call.where}: weight must be finite, of shape {shape}, got shape {tuple(weight.shape)}")
        missing = 3 - call.ndim
        taps = [weigh.of_taps(2 * np.arange(n)[:, None] + np.arange(-1, 2), size, 2) if i >= missing else weigh.single(1)
                for i, (n, size) in enumerate(zip(call.outputs, call.x.dims[2:], strict=True))]
        return (weigh.single(x.shape[1], True), *taps), weight.reshape((x.shape[1], *(1,) * missing, *shape[1:]))

    def taps(self, call, x):
        """What `weigh` takes for I."""
        taps, weight = self.filters(call, x)
        return taps, five(x), weight

    def exponentials(self, call):
        """e^lam / 2 and e^alpha as they broadcast to y."""
        return [self.exponential(call, self.parameters[name], scale) for name, scale in (("lam", 0.5), ("alpha", 1.0))]

    def exponential(self, call, p, scale):
        """scale e^p."""
        log = self.over_outputs(call, p)
        return (exponentials(log) * scale).astype(log.dtype)

    def middle(self, call, x):
        """I, where it is a filter's, as (N, C, D, H, W)."""
        return None if call.own["weight"] is None else weigh.weigh(call, *self.taps(call, x))

    def run_detail(self, call, x, grad=None):
        """y, or the gradients of x, of each window's lam and alpha, and of I, as (N, C, D, H, W)."""
        if call.library.index is not None:
            lam, alpha = (five(self.over_outputs(call, self.parameters[name])) for name in ("lam", "alpha"))
            middle = self.middle(call, x)
            return list(map(five, steps(call).details(call, x, lam, alpha, call.own["symmetric"], middle, grad)))
        power, base = map(five, self.exponentials(call))
        how = call.ndim, call.outputs, call.own["symmetric"], power, base, self.middle(call, x)
        return detail.run(five(x), *how, None if grad is None else five(grad))


operation = Dpp
forms = (Halved(),)
