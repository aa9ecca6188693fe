"""S3Pool: max pooling of stride 1, then, in training, a random choice of its rows and columns; in inference their average.

Source: Zhai et al., "S3Pool: pooling with stochastic spatial sampling", CVPR 2017, section 3.  Each axis is cut into strips of
grid_size positions, of which grid_size / kernel_size are drawn without replacement and kept in order; the last strip has what
remains.  Rows and columns are independent and the same for the whole batch and all channels.  Inference averages the stride-1
maxima with the same window and stride, padded by kernel_size // 2 on both sides, counting the positions inside; both make
H // kernel_size outputs.

Gradient: that of the chosen windows' max, or of the average and then the max.
"""
from __future__ import annotations

from typing import Any

import numpy as np

from .. import arrays, random, windows
from ..forms import FORMS, per_axis, three
from ..operation import Operation
from ..parameters import REQUIRED, flag
from . import avg
from . import max as maximum

title = "S3 (stochastic spatial sampling)"
family = "select"
equation = "training: y = max over a window at a drawn position; else avg(max)"
gradient = "1 for the chosen element; else avg's, then max's"
source = "Zhai et al., CVPR 2017"
better = maximum.better
example = {"seed": "0"}


def positions(size: int, kernel: int, grid: int, key: int, axis: int) -> np.ndarray:
    """The drawn first positions of one axis' windows, ascending."""
    room, wanted = size - kernel + 1, size // kernel
    u = random.uniforms(key, (room,), axis + 1)
    chosen: list[int] = []
    for lo in range(0, room, grid):
        strip = np.arange(lo, min(lo + grid, room))
        take = min(grid // kernel, wanted - len(chosen), strip.size)
        chosen += sorted(strip[np.argsort(u[strip], kind="stable")[:take]].tolist())
    return np.array(chosen, np.int64)


class Sampled:
    """Windows at drawn positions."""

    name, prefix, extras = "sampled", "", "return_indices"
    words = {"grid_size": "positions of a strip, a multiple of kernel_size; None means kernel_size", "training": "draw, or average",
             "indices": "one array an axis: the windows' first positions, instead of the seed",
             "seed": "of the draws; None takes fresh entropy", "return_indices": "also return the windows' first positions, one array an axis"}

    def arguments(self, defaults: dict[str, Any]) -> tuple[list, list]:
        """The positional and the keyword-only arguments: name, type hint, default."""
        return ([("kernel_size", "int | Sequence[int]", REQUIRED), ("grid_size", "int | Sequence[int] | None", None)],
                [("training", "bool", True), ("indices", "Any", None), ("seed", "int | None", None)])

    def repeatable(self, args: tuple) -> bool:
        """Whether these arguments give the same windows again."""
        return not args[2] or args[3] is not None or args[4] is not None

    def arrange(self, view: Any, args: tuple, where: str, ndim: int) -> tuple[Any, Any]:
        """The windows, and their first positions."""
        kernel, grid, training, indices, seed = args
        spatial = view.dims[5 - ndim:]
        kernel = per_axis(kernel, ndim, f"{where}: kernel_size")
        grid = kernel if grid is None else per_axis(grid, ndim, f"{where}: grid_size")
        if any(k > n for k, n in zip(kernel, spatial, strict=True)):
            raise ValueError(f"{where}: kernel_size must be at most the input's size {spatial}, got {kernel}")
        if any(g % k for k, g in zip(kernel, grid, strict=True)):
            raise ValueError(f"{where}: grid_size must be a multiple of kernel_size {kernel}, got {grid}")
        if not flag(training, f"{where}: training"):
            return three([windows.at(np.arange(n - k + 1), k) for n, k in zip(spatial, kernel, strict=True)]), ()
        if indices is None:
            key = random.key(seed, where)
            first = [positions(n, k, g, key, i) for i, (n, k, g) in enumerate(zip(spatial, kernel, grid, strict=True))]
        else:
            first = self.given(indices, spatial, kernel, f"{where}: indices")
        return three([windows.at(f, k) for f, k in zip(first, kernel, strict=True)]), tuple(first)

    @staticmethod
    def given(indices: Any, spatial: tuple[int, ...], kernel: tuple[int, ...], where: str) -> list[np.ndarray]:
        """The caller's positions, checked."""
        if not isinstance(indices, list | tuple) or len(indices) != len(spatial):
            raise ValueError(f"{where} must be {len(spatial)} arrays, one an axis")
        first = [np.asarray(arrays.values(i, where)) for i in indices]
        for f, n, k in zip(first, spatial, kernel, strict=True):
            if f.dtype.kind not in "iu":
                raise TypeError(f"{where} must hold integers, got dtype {f.dtype}")
            if f.ndim != 1 or f.size < 1 or f.min() < 0 or f.max() > n - k:
                raise ValueError(f"{where} must be vectors of positions from 0 to {n - k}")
        return [f.astype(np.int64) for f in first]


class S3(Operation):
    """Training is one call with drawn windows; inference is max pooling and then average pooling."""

    def maxima(self, x: Any, window: tuple, channels_last: bool, where: str) -> tuple[Any, Any, tuple]:
        """The stride-1 maxima, their indices, and the arguments of the average's windows."""
        call = self.begin(x, window, {}, channels_last, where)
        kernel = per_axis(window[0], self.ndim, f"{where}: kernel_size")
        spatial = call.x.dims[5 - self.ndim:]
        return *self.family({}).forward(call, None, True), self.averaging(kernel, spatial)

    def average(self) -> Operation:
        """The average of the maxima."""
        operation = Operation("avg", avg, FORMS["sliding"], self.ndim)
        operation.where = self.where
        return operation

    def averaging(self, kernel: tuple[int, ...], spatial: tuple[int, ...]) -> tuple:
        """The average's window arguments: as many outputs as size // kernel needs, the rest of the padding cut off."""
        pads = []
        for k, n in zip(kernel, spatial, strict=True):
            before = k // 2 if k > 1 else 0
            after = (n // k - 1) * k + k - before - (n - k + 1)
            pads.append((before, max(after, 0)))
        return kernel, kernel, tuple(pads), 1, False

    def forward(self, x: Any, window: tuple, own: dict[str, Any], channels_last: bool = False, out: Any = None,
                return_indices: bool = False, return_extras: bool = False) -> Any:
        """y; with the drawn positions where they are asked for."""
        if flag(window[2], f"{self.where}: training"):
            return super().forward(x, window, own, channels_last, out, False, flag(return_extras, f"{self.where}: return_indices"))
        if return_extras:
            raise ValueError(f"{self.where}: there are no drawn positions outside training")
        maxima, _, arguments = self.maxima(x, window, channels_last, self.where)
        return self.average().forward(maxima, arguments, {"count_include_pad": False}, channels_last, out)

    def backward(self, grad: Any, x: Any, window: tuple, own: dict[str, Any], channels_last: bool = False, indices: Any = None) -> Any:
        """grad_x."""
        where = f"{self.where}_backward"
        if flag(window[2], f"{where}: training"):
            return super().backward(grad, x, window, own, channels_last)
        maxima, found, arguments = self.maxima(x, window, channels_last, where)
        through = self.average().backward(grad, maxima, arguments, {"count_include_pad": False}, channels_last)
        stride_1 = self.begin(x, window, {}, channels_last, where)
        return self.family({}).backward(stride_1, stride_1.given(through, "grad", stride_1.out_dims, (stride_1.dtype,)), found)


operation = S3
forms = (Sampled(),)
