"""SoftPool's table of costs: time of forward and backward and memory for kernels of 2, 3 and 5, beside max, average and power average.

As in a training step: through autograd, float32, one thread.  Memory is what forward leaves behind: y and what is kept for backward
besides x.  torch's own layers, and what one writes in torch where it has none, take turns with numbapool's.
"""
from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch.nn import functional as F

from numbapool.torch import functional as nf
from numbapool.torch import library

from .. import timing

TITLE = "Cost of a step"
SHAPE = (8, 64, 112, 112)
KERNELS = (2, 3, 5)
Step = Callable[[torch.Tensor, int], torch.Tensor]


def composed_soft(x: torch.Tensor, k: int) -> torch.Tensor:
    """SoftPool as it is written in torch."""
    e = x.exp()
    return F.avg_pool2d(x * e, k) / F.avg_pool2d(e, k)


def composed_power(x: torch.Tensor, k: int) -> torch.Tensor:
    """The power average of 2."""
    return F.avg_pool2d(x * x, k).sqrt()


STEPS: dict[str, dict[str, Step]] = {
    "avg": {"numbapool": nf.avg_pool2d, "torch": F.avg_pool2d},
    "max": {"numbapool": nf.max_pool2d, "torch": F.max_pool2d},
    "power average": {"numbapool": lambda x, k: nf.lp_pool2d(x, 2.0, k, norm="mean"), "torch": composed_power},
    "soft": {"numbapool": nf.soft_pool2d, "torch": composed_soft},
    "soft, constant gradient": {"numbapool": lambda x, k: nf.soft_pool2d(x, k, gradient="constant")},
}


class Kept(torch.autograd.graph.saved_tensors_hooks):
    """Collects what is kept for the backward pass."""

    def __init__(self) -> None:
        self.storages: dict[int, int] = {}
        super().__init__(self.note, lambda t: t)

    def note(self, t: torch.Tensor) -> torch.Tensor:
        """By memory, so that what is kept twice counts once."""
        self.storages[t.untyped_storage().data_ptr()] = t.untyped_storage().nbytes()
        return t


def memory(step: Step, x: torch.Tensor, k: int) -> int:
    """Bytes that live between forward and backward, besides x."""
    kept = Kept()
    with kept:
        y = step(x, k)
    storages = kept.storages | {y.untyped_storage().data_ptr(): y.untyped_storage().nbytes()}
    return sum(size for address, size in storages.items() if address != x.untyped_storage().data_ptr())


def measure(name: str, k: int, seconds: float) -> dict[str, Any]:
    """Times of all contenders that take turns."""
    x = torch.randn(SHAPE, requires_grad=True)
    contenders = {}
    for who, step in STEPS[name].items():
        y = step(x, k)
        grad = torch.ones_like(y)
        contenders[f"{who} forward"] = timing.Contender(lambda step=step: step(x, k))
        contenders[f"{who} backward"] = timing.Contender(lambda y=y, grad=grad: torch.autograd.grad(y, x, grad, retain_graph=True))
    times = timing.interleaved(contenders, seconds)
    return {"pooling": name, "kernel": k, "ms": {who: round(1e3 * t.median, 3) for who, t in times.items()},
            "memory_mb": {who: round(memory(step, x, k) / 1e6, 2) for who, step in STEPS[name].items()}}


def small(seconds: float = 3.0) -> dict[str, float]:
    """Microseconds of forward and backward of a call of (1, 8, 16, 16), where what surrounds the kernels is all there is."""
    torch.set_num_threads(1)
    x = torch.randn(1, 8, 16, 16, requires_grad=True)
    grad = torch.ones(1, 8, 8, 8)
    soft = nf.operator("soft_pool2d")
    packed = library.pack(soft, (x, 2, None, 0, 1, False, 1.0, False, "exact"))
    calls = {"F.max_pool2d": lambda: F.max_pool2d(x, 2), "max_pool2d": lambda: nf.max_pool2d(x, 2), "soft_pool2d": lambda: nf.soft_pool2d(x, 2),
             "torch.ops.numbapool.soft_pool2d": lambda: soft.overload(*packed)}
    contenders = {f"{name} {kind}": timing.Contender(call) for name, forward in calls.items()
                  for kind, call in (("forward", forward), ("step", lambda forward=forward: torch.autograd.grad(forward(), x, grad)))}
    return {name: round(1e6 * t.median, 1) for name, t in timing.interleaved(contenders, seconds).items()}


def small_table(found: dict[str, float]) -> str:
    """As Markdown."""
    names = dict.fromkeys(n.rpartition(" ")[0] for n in found)
    lines = ["| 1x8x16x16, µs | forward | forward and backward |", "|---|---|---|"]
    return "\n".join(lines + [f"| `{n}` | {found[n + ' forward']:.1f} | {found[n + ' step']:.1f} |" for n in names])


def rows(seconds: float = 2.0) -> list[dict[str, Any]]:
    """The whole table."""
    torch.set_num_threads(1)
    timing.keep_freed_memory()
    return [measure(name, k, seconds) for k in KERNELS for name in STEPS]


def table(found: list[dict[str, Any]]) -> str:
    """As Markdown."""
    lines = ["| kernel | pooling | forward ms | torch | backward ms | torch | memory MB | torch |", "|---|---|---|---|---|---|---|---|"]
    for row in found:
        ms, mb = row["ms"], row["memory_mb"]
        cells = [ms["numbapool forward"], ms.get("torch forward", ""), ms["numbapool backward"], ms.get("torch backward", ""),
                 mb["numbapool"], mb.get("torch", "")]
        lines.append(f"| {row['kernel']} | {row['pooling']} | " + " | ".join(f"{c:.1f}" if c != "" else "" for c in cells) + " |")
    return "\n".join(lines)
