"""The poolings as torch.nn.Module: SoftPool2d for soft_pool2d, AdaptiveMaxPool3d for adaptive_max_pool3d, and so on.

A layer takes its function's arguments but x, in the same order and with the same defaults.  What can be learned is a Parameter of the
layer, whose initial value the argument gives; what each call has anew (logits of its own, indices, seeds, samples) goes to forward;
`training` is the module's own.
"""
from __future__ import annotations

import functools
import inspect
import re
from collections.abc import Callable
from math import prod
from typing import Any

import torch
from torch import nn

from ..forms import per_axis
from ..parameters import REQUIRED
from . import functional, words
from .pooling import Pooling

CALL = ("seed", "samples", "indices", "sequences")  # what calls have anew
SPELLING = {"lp": "LP", "gem": "GeM", "swap": "SWAP", "lip": "LIP", "lse": "LSE", "dpp": "DPP"}


def class_name(function: str) -> str:
    """SoftPool2d of soft_pool2d."""
    parts = re.sub(r"(\dd)$", "", function).split("_")
    return "".join(SPELLING.get(p, p[0].upper() + p[1:]) for p in parts) + function[-2:]


class Layer(nn.Module):
    """What all layers share.

    name, function : of the subclass; tensors : the function's tensor arguments after x; draws : whether the mode of training matters;
    settings : the arguments that are neither Parameters nor the call's.
    """

    name: str
    function: Callable[..., Any]
    tensors: tuple[str, ...]
    draws: bool

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__()
        given = self.__signature__.bind(*args, **kwargs)
        given.apply_defaults()
        self.build(**given.arguments)

    def build(self, **given: Any) -> None:
        """Set up from the constructor's arguments."""
        self.learned = [name for name in self.tensors if name in given]
        for name in self.learned:
            setattr(self, name, nn.Parameter(torch.as_tensor(given.pop(name), dtype=torch.get_default_dtype()).detach().clone()))
        self.settings = given

    def forward(self, x: torch.Tensor, *leading: torch.Tensor, **own: Any) -> Any:
        """y; with the indices, or the windows that were drawn, where the constructor asked for them."""
        return self.call(x, *leading, **own)

    def call(self, x: torch.Tensor, *leading: torch.Tensor, **own: Any) -> Any:
        """The function with the layer's arguments."""
        learned = {n: getattr(self, n) for n in self.learned}
        if self.draws:
            own["training"] = self.training
        first = [n for n in self.tensors if n not in learned]
        return self.function(x, **dict(zip(first, leading, strict=True)), **self.settings, **learned, **own)

    def extra_repr(self) -> str:
        """The settings that are not the defaults."""
        defaults = {n: a.default for n, a in self.__signature__.parameters.items()}
        shown = [f"{n}={v!r}" for n, v in self.settings.items() if defaults.get(n, REQUIRED) != v]
        return ", ".join(shown + [f"{n}={tuple(p.shape) or round(p.item(), 6)}" for n, p in self._parameters.items() if p is not None])


class WeighsRanks(Layer):
    """Sort: one logit a rank.

    pool_range : how many of the largest elements take part, None: all of a window; channels : None for one vector, else one a channel;
    weight : the initial logits, instead of those two; without it they are drawn from a normal distribution with deviation 0.1, as its source's.
    """

    extra = ("pool_range", "channels", "weight")

    def build(self, pool_range: int | None = None, channels: int | None = None, weight: Any = None, **given: Any) -> None:
        """Set up from the constructor's arguments."""
        if weight is None:
            ranks = pool_range or prod(kernel_of(given["kernel_size"], functional.pooling(self.name).ndim))
            weight = self.initial((*(() if channels is None else (channels,)), ranks))
        elif pool_range is not None or channels is not None:
            raise ValueError(f"{type(self).__name__}: weight goes without pool_range and channels")
        super().build(weight=weight, **given)

    @staticmethod
    def initial(shape: tuple[int, ...]) -> torch.Tensor:
        """The logits' first values."""
        return 0.1 * torch.randn(shape)


class WeighsOrder(WeighsRanks):
    """Ordinal: one weight a rank, not negative.

    pool_range : how many of the largest elements take part, None: all of a window; channels : None for one vector, else one a channel;
    weight : the initial weights, instead of those two; without it all are equal, which is the average.
    """

    @staticmethod
    def initial(shape: tuple[int, ...]) -> torch.Tensor:
        """The average."""
        return torch.ones(shape) / shape[-1]


class WeighsPlaces(Layer):
    """Gated: one weight a place of the window.

    omega : the initial weights, of the kernel's shape; without it they are 0: half the maximum, half the average.
    """

    extra = ("omega",)

    def build(self, omega: Any = None, **given: Any) -> None:
        """Set up from the constructor's arguments."""
        kernel = kernel_of(given["kernel_size"], functional.pooling(self.name).ndim)
        super().build(omega=torch.zeros(kernel) if omega is None else omega, **given)


class KeepsDetails(Layer):
    """DPP: two numbers a channel, and in its full form a filter.

    channels : of x; lam, alpha : the initial values, without which they are drawn evenly from -1 / sqrt(channels) to 1 / sqrt(channels), as its
    source's; full : whether I is a learned filter, which begins as an average; weight : its initial values.
    """

    extra = ("channels", "full", "lam", "alpha", "weight")

    def build(self, channels: int | None = None, full: bool = False, lam: Any = None, alpha: Any = None, weight: Any = None, **given: Any) -> None:
        """Set up from the constructor's arguments."""
        if channels is None and (lam is None or alpha is None):
            raise ValueError(f"{type(self).__name__}: give channels, or lam and alpha")
        channels = channels or len(lam)
        lam, alpha = (torch.empty(channels).uniform_(-1, 1) / channels ** 0.5 if v is None else v for v in (lam, alpha))
        ndim = functional.pooling(self.name).ndim
        weight = torch.full((channels, *(3,) * ndim), 3.0 ** -ndim) if weight is None and full else weight
        super().build(lam=lam, alpha=alpha, **({} if weight is None else {"weight": weight}), **given)


def kernel_of(kernel_size: Any, ndim: int) -> tuple[int, ...]:
    """The kernel, one number an axis."""
    return per_axis(kernel_size, ndim, "kernel_size")


class Scaled(nn.Module):
    """A sigmoid from 0 to `scale`."""

    def __init__(self, scale: float) -> None:
        super().__init__()
        self.scale = scale

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Elementwise."""
        return self.scale * torch.sigmoid(x)


class WeighsByLogits(Layer):
    """LIP: logits from a module of the input.

    channels : of x, for the logit module of the paper's simplified LIP: a 3x3 convolution that begins at 0 (equal weights), an
    instance normalisation and 12 times a sigmoid; logit : a module to take instead (x to logits of its shape), channels being None then.
    With neither, forward takes the logits: layer(x, logit).
    """

    extra = ("channels", "logit")

    def build(self, channels: int | None = None, logit: nn.Module | None = None, **given: Any) -> None:
        """Set up from the constructor's arguments."""
        super().build(**given)
        if channels is not None and logit is not None:
            raise ValueError(f"{type(self).__name__}: give channels or logit, not both")
        if given["channels_last"] and channels is not None:
            raise ValueError(f"{type(self).__name__}: with channels_last=True pass a logit module of your own; torch's convolutions take (N, C, ...)")
        self.logit = simplified(channels, functional.pooling(self.name).ndim) if channels is not None else logit

    def forward(self, x: torch.Tensor, *leading: torch.Tensor, **own: Any) -> torch.Tensor:
        """The means of x by its logits."""
        return self.call(x, *leading, **own) if self.logit is None else self.call(x, self.logit(x), **own)


def simplified(channels: int, ndim: int) -> nn.Sequential:
    """The logit module of simplified LIP.  Source: Gao et al., ICCV 2019, section 3.3 and its code."""
    convolution = getattr(nn, f"Conv{ndim}d")(channels, channels, 3, padding=1, bias=False)
    nn.init.zeros_(convolution.weight)
    return nn.Sequential(convolution, getattr(nn, f"InstanceNorm{ndim}d")(channels, affine=True), Scaled(12.0))


KINDS: dict[str, type[Layer]] = {"sort": WeighsRanks, "ordinal": WeighsOrder, "lip": WeighsByLogits, "gated": WeighsPlaces, "dpp": KeepsDetails}
HINTS = {"pool_range": "int | None", "channels": "int | None", "full": "bool | None", "logit": "nn.Module | None"}
INITIAL = {"mixed": {"a": 0.5}, "ada": {"beta": 0.5}, "auto": {"alpha": 0.0}}  # where functions ask for what layers learn


def parameters_of(p: Pooling, kind: type[Layer]) -> list[inspect.Parameter]:
    """The constructor's."""
    arguments = [*p.arguments, *(a for a in p.forward.arguments if a.name.startswith("return_"))]
    extra = getattr(kind, "extra", ())
    mine = [a for a in arguments if a.name not in (*CALL, "training", *extra) and (a.default is not REQUIRED or a.name not in p.planes)]
    if p.fixed:  # unpooling's size belongs to a call, as in torch
        mine = [a for a in mine if a.name != "output_size"]
    empty, by_place, by_name = inspect.Parameter.empty, inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY
    begin = INITIAL.get(p.operation.formula.__name__.rpartition(".")[2], {})
    found = [inspect.Parameter(a.name, by_name if a.keyword or a.name in begin else by_place, annotation=a.hint,
                               default=begin.get(a.name, empty if a.default is REQUIRED else a.default)) for a in mine]
    found += [inspect.Parameter(n, by_name, default=None, annotation=HINTS.get(n, "Any")) for n in extra]
    return sorted(found, key=lambda q: q.kind)


@functools.cache
def classes() -> dict[str, str]:
    """The functions by the names of their layers."""
    return {class_name(f): f for f in functional.names()}


def make(name: str, module: str) -> type[Layer]:
    """The layer of a name."""
    function = classes()[name]
    p = functional.pooling(function)
    kind = KINDS.get(p.operation.formula.__name__.rpartition(".")[2], Layer)
    signature = inspect.Signature(parameters_of(p, kind))
    return type(name, (kind,), {
        "name": function, "function": staticmethod(getattr(functional, function)), "tensors": p.tensors, "draws": "training" in p.names,
        "__signature__": signature, "__module__": module, "__qualname__": name, "__doc__": words.of_layer(p, kind, signature)})


# ---------------------------------------------------------------- layers of a model replaced by others

SHARED = ("kernel_size", "stride", "padding", "dilation", "ceil_mode", "output_size")
TORCH = tuple(getattr(nn, f"{prefix}{kind}Pool{ndim}d") for ndim in (1, 2, 3) for prefix in ("", "Adaptive") for kind in ("Max", "Avg")) \
    + tuple(getattr(nn, f"LPPool{ndim}d") for ndim in (1, 2, 3))


def replace_pooling(model: nn.Module, to: str | Callable[[nn.Module], nn.Module], only: type | tuple[type, ...] = TORCH,
                    **own: Any) -> list[tuple[str, nn.Module, nn.Module]]:
    """Put other poolings in place of a model's pooling layers.

    Parameters
    ----------
    model : nn.Module
        Changed in place; `model` itself must not be a pooling layer.
    to : str or callable
        A pooling's name, such as "soft": the layers' windows (kernel_size, stride, padding, dilation, ceil_mode, or output_size) stay.
        Or what makes a new layer of an old one.
    only : classes
        Which layers; by default torch's max, average and LP pooling, adaptive ones included.
    own
        Arguments of the new layers, such as temperature=0.5.

    Returns
    -------
    list of (name, old layer, new layer)
        In the order of model.named_modules().  A layer that stands at several places is replaced by one new layer at all of them.

    Raises
    ------
    ValueError
        There is no such pooling, it has no adaptive form, or one layer returns indices, which the model needs.
    """
    made: dict[int, nn.Module] = {}
    changed = []
    for path, parent in list(model.named_modules(remove_duplicate=False)):
        for name, old in list(parent._modules.items()):
            if isinstance(old, only):
                if id(old) not in made:
                    made[id(old)] = (to(old) if callable(to) else counterpart(old, to, own)).train(old.training)
                new = made[id(old)]
                setattr(parent, name, new)
                changed.append((f"{path}.{name}" if path else name, old, new))
    return changed


def counterpart(old: nn.Module, to: str, own: dict[str, Any]) -> nn.Module:
    """A layer of another pooling with the windows of an old one."""
    from . import __getattr__ as layer
    function, prefix = type(old).__name__, "adaptive_" if hasattr(old, "output_size") else ""
    function = f"{prefix}{to}_pool{function[-2:]}"
    if function not in functional.names():
        raise ValueError(f"replace_pooling: there is no {function} to put in place of {old}")
    if getattr(old, "return_indices", False):
        raise ValueError(f"replace_pooling: {old} returns indices, which other poolings have not")
    kind = layer(class_name(function))
    settings = {n: getattr(old, n) for n in SHARED if hasattr(old, n) and n in kind.__signature__.parameters}
    return kind(**settings, **own)
