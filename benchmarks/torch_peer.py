"""torch as a peer: eager, as a user would write each pooling, and torch.compile of the same text."""
from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F

from .problem import Problem

Call = Callable[[], Any]
LEARNED = "logit", "weight", "p"  # arguments whose gradient numbapool returns after x's


def tensor(x: Any) -> torch.Tensor:
    """A tensor on an array's memory, so in its memory order."""
    x = np.asarray(x)
    if x.dtype.name == "bfloat16":
        return torch.from_numpy(x.view(np.int16)).view(torch.bfloat16)
    return torch.from_numpy(x)


class Pooling:
    """torch's max and average pooling over the windows of a problem, and the poolings that are composed of them."""

    def __init__(self, problem: Problem) -> None:
        self.problem, self.window, self.ndim = problem, problem.window, problem.row.ndim
        self.arguments = {**problem.window.arguments}
        if problem.window.prefix == "global_":
            self.arguments = {"output_size": 1}
        self.prefix = "adaptive_" if problem.window.prefix else ""
        self.axes = tuple(range(2, 2 + self.ndim))
        self.own = {k: tensor(v) if isinstance(v, np.ndarray) else v for k, v in problem.own.items()}

    def function(self, name: str) -> Callable[..., Any]:
        """A function of torch.nn.functional in the problem's number of dimensions."""
        return getattr(F, f"{self.prefix}{name}{self.ndim}d")

    def max(self, x: torch.Tensor) -> Any:
        """Maxima, and their indices where the row has them; of whole planes by amax, which is the faster way."""
        if self.window.prefix == "global_" and not self.problem.indexed:
            return x.amax(self.axes, keepdim=True)
        return self.function("max_pool")(x, **self.arguments, return_indices=self.problem.indexed)

    def avg(self, x: torch.Tensor) -> torch.Tensor:
        """Averages over the elements of a window, padding counted as numbapool's default does."""
        return self.function("avg_pool")(x, **self.arguments)

    def mean(self, x: torch.Tensor) -> torch.Tensor:
        """Averages that padding takes no part in."""
        return self.function("avg_pool")(x, **self.arguments, **({} if self.prefix else {"count_include_pad": False}))

    def ratio(self, x: torch.Tensor, logit: torch.Tensor) -> torch.Tensor:
        """Averages weighted by e^logit."""
        e = logit.exp()
        return self.avg(e * x) / self.avg(e)

    def lp(self, x: torch.Tensor) -> torch.Tensor:
        """torch's where it has these windows, else by the average of powers."""
        p, window = self.own["norm_type"], self.arguments
        if not self.prefix and not window["padding"]:
            return getattr(F, f"lp_pool{self.ndim}d")(x, p, window["kernel_size"], window["stride"])
        count = window["kernel_size"] ** self.ndim if not self.prefix else int(np.prod(self.problem.x.shape[2:]) // np.prod(self.problem.y.shape[2:]))
        return (self.avg(x.pow(p)) * count).pow(1 / p)

    def sort(self, x: torch.Tensor) -> torch.Tensor:
        """Windows unfolded and sorted."""
        for axis in self.axes:
            x = x.unfold(axis, self.arguments["kernel_size"], self.arguments["stride"])
        return x.flatten(-self.ndim).sort(-1, descending=True)[0] @ self.own["weight"].softmax(0).to(x.dtype)

    def fractional(self, x: torch.Tensor) -> torch.Tensor:
        """torch's own windows, by the same draw."""
        window = {"kernel_size": self.arguments["kernel_size"], "output_ratio": (self.arguments["output_ratio"],) * self.ndim}
        return getattr(F, f"fractional_max_pool{self.ndim}d")(x, **window, _random_samples=self.own["samples"].to(x.dtype))

    def unpool(self, x: torch.Tensor) -> torch.Tensor:
        """Unpooling."""
        return getattr(F, f"max_unpool{self.ndim}d")(x, self.own["indices"], **self.arguments)


POOLINGS: dict[str, Callable[[Pooling, torch.Tensor], Any]] = {
    "max": Pooling.max,
    "min": lambda t, x: -t.max(-x),
    "avg": Pooling.avg,
    "lp/2": Pooling.lp,
    "lp/3": Pooling.lp,
    "lp/2.5": Pooling.lp,
    "gem": lambda t, x: t.mean(x.clamp(min=1e-6).pow(t.own["p"])).pow(1 / t.own["p"]),
    "soft": lambda t, x: t.ratio(x, x),
    "swap": lambda t, x: t.ratio(x, x),
    "lip": lambda t, x: t.ratio(x, t.own["logit"]),
    "sort": Pooling.sort,
    "fractional_max/torch": Pooling.fractional,
    "max_unpool": Pooling.unpool,
}


def forward(pooling: Pooling) -> Call:
    """The forward pass."""
    x, compute = tensor(pooling.problem.x), POOLINGS[pooling.problem.row.pool]
    return lambda: compute(pooling, x)


def backward(pooling: Pooling) -> Call:
    """The backward pass: by autograd over a graph that is built here, outside of what is timed."""
    problem = pooling.problem
    x = tensor(problem.x).detach().requires_grad_()
    pooling.own |= {n: torch.as_tensor(pooling.own[n]).requires_grad_() for n in LEARNED if n in pooling.own}
    learned = [pooling.own[n] for n in LEARNED if n in pooling.own]
    with torch.enable_grad():
        y = POOLINGS[problem.row.pool](pooling, x)
        y = y[0] if isinstance(y, tuple) else y
    g, wanted = tensor(problem.grad), [x, *learned]

    def call() -> Any:
        result = torch.autograd.grad(y, wanted, g, retain_graph=True)
        return result if learned else result[0]
    return call


def max_backward(pooling: Pooling) -> Call:
    """The backward pass of max pooling over sliding windows: torch's kernel without autograd."""
    problem, w = pooling.problem, pooling.arguments
    x, g, axes = tensor(problem.x), tensor(problem.grad), [1] * pooling.ndim
    _, indices = getattr(F, f"max_pool{pooling.ndim}d")(x, **w, return_indices=True)
    kernel = getattr(torch.ops.aten, f"max_pool{pooling.ndim}d_with_indices_backward")
    window = [[w[name]] * pooling.ndim for name in ("kernel_size", "stride", "padding")]
    return lambda: kernel(g, x, *window, axes, False, indices)


def contender(problem: Problem) -> Call | None:
    """torch eager, in the problem's memory order; None where torch has no such pooling."""
    if problem.row.pool not in POOLINGS:
        return None
    torch.set_num_threads(problem.row.threads)
    pooling = Pooling(problem)
    if not problem.backward:
        return forward(pooling)
    by_kernel = problem.row.pool == "max" and not problem.window.prefix and problem.row.ndim > 1
    return (max_backward if by_kernel else backward)(pooling)


def compiled(problem: Problem) -> Call | None:
    """torch.compile of the forward pass."""
    if problem.row.pool not in POOLINGS or problem.backward:
        return None
    torch.set_num_threads(problem.row.threads)
    torch._dynamo.reset()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        call = torch.compile(forward(Pooling(problem)), dynamic=False)
        call()
    return call
