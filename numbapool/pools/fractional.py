"""Fractional windows, random and a little uneven: torch's, of a fixed kernel_size, and TensorFlow's, which divide the input.

Source: Graham, "Fractional max-pooling", arXiv:1412.6071, section 2; torch's fractional_max_pool2d (one draw a channel, fixed
kernel_size, gaps possible); TensorFlow's fractional_max_pool (one sequence an axis for the whole batch, all elements covered).
"""
from __future__ import annotations

from math import floor
from typing import Any

import numpy as np

from .. import arrays, random, windows
from ..forms import per_axis, three
from ..parameters import flag, number

WORDS = {
    "kernel_size": "elements of a window, for torch's kind",
    "output_size": "outputs, one number or one an axis, for torch's kind",
    "output_ratio": "outputs as a share of the input's size in (0, 1), instead of output_size",
    "samples": "uniforms in [0, 1), (N, C, d) or (C, d); d = 1: L; d = 2: W, H; d = 3: D, H, W, as torch's _random_samples",
    "pooling_ratio": "input by output size, at least 1, one number or one an axis, for TensorFlow's kind",
    "overlapping": "whether a window takes the boundary element of the next one too",
    "pseudo_random": "draw the boundaries as ceil(alpha (i + u)), else shuffle the window sizes",
    "sequences": "one array of boundaries an axis, 0 to the input's size, instead of a draw",
    "return_sequences": "also return the boundaries, a tuple of one array an axis",
    "seed": "of the draw; None takes fresh entropy",
}


def boundaries(size: int, ratio: float, pseudo_random: bool, key: int, axis: int) -> np.ndarray:
    """TensorFlow's sequence of one axis: outputs + 1 boundaries from 0 to size.  Source: its fractional_pool_common.cc."""
    outputs = int(np.floor(np.float32(size) / np.float32(ratio))) if ratio <= size else 0
    if outputs < 1:
        raise ValueError(f"a pooling_ratio of {ratio} leaves no output of {size} elements")
    alpha = size / outputs
    k = floor(alpha)
    if pseudo_random:
        most = min((k + 2) / alpha - 1, (size + 1 - k) / alpha - (outputs - 1))
        u = float(random.uniforms(key, 1, 1, axis + 1)[0, 0]) * most
        sequence = np.ceil(alpha * (np.arange(outputs + 1) + u)).astype(np.int64) - 1
        sequence[0], sequence[-1] = 0, size
        return sequence
    steps = np.full(outputs, k)
    steps[np.argsort(random.uniforms(key, 1, outputs, axis + 1)[0], kind="stable")[:size % outputs]] += 1
    return np.concatenate([[0], np.cumsum(steps)]).astype(np.int64)


def given_boundaries(sequences: Any, spatial: tuple[int, ...], where: str) -> list[np.ndarray]:
    """The caller's sequences, checked."""
    if not isinstance(sequences, list | tuple) or len(sequences) != len(spatial):
        raise ValueError(f"{where} must be {len(spatial)} arrays, one an axis")
    result = [np.asarray(arrays.values(s, where)) for s in sequences]
    for s, n in zip(result, spatial, strict=True):
        if s.dtype.kind not in "iu":
            raise TypeError(f"{where} must hold integers, got dtype {s.dtype}")
        if s.ndim != 1 or s.size < 2 or s[0] != 0 or s[-1] != n or (np.diff(s.astype(np.int64)) < 1).any():
            raise ValueError(f"{where} must ascend from 0 to the input's size {n}")
    return [s.astype(np.int64) for s in result]


class Fractional:
    """Windows by random boundaries; with `fixed` also torch's of a fixed size."""

    prefix, extras, words = "", "return_sequences", WORDS

    def __init__(self, fixed: bool) -> None:
        self.fixed, self.name = fixed, "fractional"

    def arguments(self, defaults: dict[str, Any]) -> tuple[list, list]:
        """The positional and the keyword-only arguments: name, type hint, default."""
        torch = [("output_size", "int | Sequence[int] | None", None), ("output_ratio", "float | Sequence[float] | None", None),
                 ("samples", "Any", None)]
        tensorflow = [("pooling_ratio", "float | Sequence[float] | None", None), ("overlapping", "bool", False),
                      ("pseudo_random", "bool", False), ("sequences", "Any", None), ("seed", "int | None", None)]
        if self.fixed:
            return [("kernel_size", "int | Sequence[int] | None", None)], torch + tensorflow
        return [], tensorflow

    def repeatable(self, args: tuple) -> bool:
        """Whether these arguments give the same windows again."""
        samples = args[3] if self.fixed else None
        return samples is not None or args[-2] is not None or args[-1] is not None

    def arrange(self, view: Any, x: Any, args: tuple, where: str, ndim: int) -> tuple[Any, Any]:
        """The windows, and the sequences they came from (TensorFlow's kind)."""
        kernel, size, ratio, samples = args[:4] if self.fixed else (None,) * 4
        pooling_ratio, overlapping, pseudo_random, sequences, seed = args[-5:]
        overlapping, pseudo_random = flag(overlapping, f"{where}: overlapping"), flag(pseudo_random, f"{where}: pseudo_random")
        spatial = view.dims[5 - ndim:]
        if seed is not None:
            random.key(seed, where)  # checked also where nothing is drawn
        if kernel is not None:
            if pooling_ratio is not None or sequences is not None or overlapping or pseudo_random:
                raise ValueError(f"{where}: kernel_size goes with output_size or output_ratio, not with pooling_ratio, overlapping, "
                                 "pseudo_random or sequences")
            return fixed_windows(view, x, kernel, size, ratio, samples, seed, where, ndim), ()
        if size is not None or ratio is not None or samples is not None:
            raise ValueError(f"{where}: output_size, output_ratio and samples go with kernel_size")
        if sequences is not None:
            drawn = given_boundaries(sequences, spatial, f"{where}: sequences")
        else:
            drawn = draw(spatial, pooling_ratio, pseudo_random, seed, where)
        return three([windows.spans(s, n, overlapping) for s, n in zip(drawn, spatial, strict=True)]), tuple(drawn)


def draw(spatial: tuple[int, ...], ratio: Any, pseudo_random: bool, seed: int | None, where: str) -> list[np.ndarray]:
    """Sequences for all axes."""
    if ratio is None:
        raise ValueError(f"{where}: give pooling_ratio or sequences" + (", or kernel_size with output_size" if "max" in where else ""))
    ratios = per_axis_floats(ratio, len(spatial), f"{where}: pooling_ratio")
    if min(ratios) < 1:
        raise ValueError(f"{where}: pooling_ratio must be at least 1, got {ratio!r}")
    key = random.key(seed, where)
    try:
        return [boundaries(n, r, pseudo_random, key, i) for i, (n, r) in enumerate(zip(spatial, ratios, strict=True))]
    except ValueError as error:
        raise ValueError(f"{where}: {error}") from None


def per_axis_floats(value: Any, ndim: int, where: str) -> tuple[float, ...]:
    """One float an axis."""
    numbers = tuple(number(v, where) for v in value) if isinstance(value, list | tuple) else (number(value, where),) * ndim
    if len(numbers) != ndim:
        raise ValueError(f"{where} must be a number or {ndim} numbers, got {value!r}")
    return numbers


def fixed_windows(view: Any, x: Any, kernel: Any, size: Any, ratio: Any, samples: Any, seed: int | None, where: str, ndim: int) -> Any:
    """torch's windows: one table a channel."""
    spatial, (n, c) = view.dims[5 - ndim:], view.dims[:2]
    kernel = per_axis(kernel, ndim, f"{where}: kernel_size")
    if (size is None) == (ratio is None):
        raise ValueError(f"{where}: give either output_size or output_ratio with kernel_size")
    if size is None:
        ratios = per_axis_floats(ratio, ndim, f"{where}: output_ratio")
        if not all(0 < r < 1 for r in ratios):
            raise ValueError(f"{where}: output_ratio must lie between 0 and 1, got {ratio!r}")
        size = tuple(int(m * r) for m, r in zip(spatial, ratios, strict=True))
        if 0 in size:
            raise ValueError(f"{where}: an output_ratio of {ratio!r} leaves no output of {spatial} elements")
    outputs = per_axis(size, ndim, f"{where}: output_size")
    for m, k, o in zip(spatial, kernel, outputs, strict=True):
        if o + k - 1 > m:
            raise ValueError(f"{where}: output_size + kernel_size - 1 must be at most the input's size {m}, got {o} + {k} - 1")
    kind = np.float64 if x.dtype == "float64" else np.float32
    if samples is None:
        key = random.key(seed, where)
        u = (random.uniforms(key, n * c, ndim) if n * c else np.zeros((0, ndim))).astype(kind)
    else:
        u = np.asarray(arrays.values(samples, f"{where}: samples"))
        expected = (n, c, ndim) if len(x.shape) == ndim + 2 else (c, ndim)
        if u.shape != expected and u.shape != (n, c, ndim):
            raise ValueError(f"{where}: samples must have shape {expected}, got {u.shape}")
        u = u.astype(kind).reshape(n * c, ndim)
        if not ((u >= 0) & (u < 1)).all():
            raise ValueError(f"{where}: samples must lie in [0, 1)")
    columns = (1, 0) if ndim == 2 else range(ndim)  # torch's 2d samples hold the width first
    return three([windows.fractional(m, k, o, u[:, i]) for m, k, o, i in zip(spatial, kernel, outputs, columns, strict=True)])
