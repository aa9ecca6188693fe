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
from ..arrays import Array
from ..call import view_of
from ..forms import FORMS, per_axis, three
from ..operation import Operation, Way
from ..parameters import REQUIRED, flag
from ..prepared import Source
from . import avg
from . import max as maximum

title = "S3 (stochastic spatial sampling)"
family = "select"
equation = "training: y = max over a window at a drawn position; else avg(max)"
gradient = "1 for the chosen element; else avg's, then max's"
source = "Zhai et al., CVPR 2017"
better, best_between, best_among, worst = maximum.better, maximum.best_between, maximum.best_among, maximum.worst
example = {"seed": "0"}


def positions(size: int, kernel: int, grid: int, key: int, axis: int) -> np.ndarray:
    """The drawn first positions of one axis' windows, ascending."""
    room, wanted = size - kernel + 1, size // kernel
    u = random.uniforms(key, 1, room, axis + 1)[0]
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

    def arrange(self, view: Any, x: Any, args: tuple, where: str, ndim: int) -> tuple[Any, Any]:
        """The windows, and their first positions."""
        kernel, grid, training, indices, seed = args
        spatial = view.dims[5 - ndim:]
        training = flag(training, f"{where}: training")
        if seed is not None:
            random.key(seed, where)  # checked also where nothing is drawn
        kernel = per_axis(kernel, ndim, f"{where}: kernel_size")
        grid = kernel if grid is None else per_axis(grid, ndim, f"{where}: grid_size")
        if any(k > n for k, n in zip(kernel, spatial, strict=True)):
            raise ValueError(f"{where}: kernel_size must be at most the input's size {spatial}, got {kernel}")
        if any(g % k for k, g in zip(kernel, grid, strict=True)):
            raise ValueError(f"{where}: grid_size must be a multiple of kernel_size {kernel}, got {grid}")
        if indices is not None:
            first = self.given(indices, spatial, kernel, f"{where}: indices")
        elif training:
            key = random.key(seed, where)
            first = [positions(n, k, g, key, i) for i, (n, k, g) in enumerate(zip(spatial, kernel, grid, strict=True))]
        else:
            first = [np.arange(n - k + 1) for n, k in zip(spatial, kernel, strict=True)]
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
    """Training is one call with drawn windows; inference is max pooling of stride 1 and then average pooling."""

    def __init__(self, name: str, formula: Any, form: Any, ndim: int) -> None:
        super().__init__(name, formula, form, ndim)
        self.maximum, self.average = (Operation(n, f, FORMS["sliding"], ndim, self.where) for n, f in (("max", maximum), ("avg", avg)))

    def inference(self, x: Array, way: Way, values: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
        """What the maxima and their average take."""
        window, last = tuple(values[n] for n in self.window), flag(values["channels_last"], f"{way.where}: channels_last")
        view = view_of(Source(0), x.shape, x.strides, self.ndim, last, way.x)
        self.form.arrange(view, x, window, way.where, self.ndim)
        kernel = per_axis(window[0], self.ndim, f"{way.where}: kernel_size")
        maxima = {"kernel_size": kernel, "stride": 1, "padding": 0, "dilation": 1, "ceil_mode": False, "channels_last": last}
        return maxima, {**maxima, "stride": None, "padding": self.padding(kernel, view.dims[5 - self.ndim:]), "count_include_pad": False}

    @staticmethod
    def padding(kernel: tuple[int, ...], spatial: tuple[int, ...]) -> tuple[tuple[int, int], ...]:
        """The average's: as many outputs as size // kernel needs, the rest of the padding cut off."""
        pads = []
        for k, n in zip(kernel, spatial, strict=True):
            before = k // 2 if k > 1 else 0
            after = (n // k - 1) * k + k - before - (n - k + 1)
            pads.append((before, max(after, 0)))
        return tuple(pads)

    def forward(self, x: Any, settings: tuple, kinds: tuple, others: tuple = (), seed: int | None = None, out: Any = None) -> Any:
        """y; with the drawn positions where they are asked for."""
        way = self.ways[0]
        values = dict(zip(way.names, settings, strict=True))
        if flag(values["training"], f"{way.where}: training"):
            return super().forward(x, settings, kinds, out=out)
        if flag(values["return_indices"], f"{way.where}: return_indices"):
            raise ValueError(f"{way.where}: there are no drawn positions outside training")
        maxima, average = self.inference(arrays.borrow(x, way.x), way, values)
        y = self.maximum.forward(x, *self.maximum.settings(False, **maxima))
        return self.average.forward(y, *self.average.settings(False, **average), out=out)

    def backward(self, grad: Any, x: Any, settings: tuple, kinds: tuple, others: tuple = (), seed: int | None = None, indices: Any = None) -> Any:
        """grad_x."""
        way = self.ways[1]
        values = dict(zip(way.names, settings, strict=True))
        if flag(values["training"], f"{way.where}: training"):
            return super().backward(grad, x, settings, kinds)
        chosen, average = self.inference(arrays.borrow(x, way.x), way, values)
        maxima, found = self.maximum.forward(x, *self.maximum.settings(False, **chosen, return_indices=True))
        through = self.average.backward(grad, maxima, *self.average.settings(True, **average))
        return self.maximum.backward(through, x, *self.maximum.settings(True, **chosen), indices=found)


operation = S3
forms = (Sampled(),)
