"""`python -m numbapool demo`: every pooling, forward and backward, on a photograph; a table and a picture of what came out.

The photograph is matplotlib's sample, Grace Hopper by James S. Davis, U.S. Navy, in the public domain.
"""
from __future__ import annotations

import importlib.util
import pathlib
import statistics
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from typing import Any, NamedTuple, TypeVar

import numpy as np

import numbapool

from . import gallery, pictures, recipes, threads

REPEATS = 9
SMALLEST = 32  # SSIM's windows are 11x11, and the strong setting divides the size by 4
Item = TypeVar("Item")
Wrap = Callable[[np.ndarray], Any]


class Exchange:
    """Somebody else's array: it offers DLPack and nothing else."""

    def __init__(self, array: np.ndarray) -> None:
        self._array = array

    def __dlpack__(self, **options: Any) -> Any:
        return self._array.__dlpack__(**options)

    def __dlpack_device__(self) -> tuple[int, int]:
        return self._array.__dlpack_device__()


class Outcome(NamedTuple):
    """What one pooling did to the photo: y's shape, milliseconds, PSNR in dB, SSIM, and which libraries' results differ from NumPy's."""

    name: str
    shape: tuple[int, ...]
    forward: float
    backward: float
    psnr: float
    ssim: float
    strays: list[str]
    weak: np.ndarray  # at the photo's size, (N, C, H, W): 2x2 pooling
    strong: np.ndarray  # and 4x4


def photograph(longest: int | None = None) -> np.ndarray:
    """The photo as float32 (1, 3, H, W) in [0, 1], with `longest` shrunk to that many pixels at its longer side."""
    try:
        from matplotlib import get_data_path
    except ImportError:
        raise pictures.PictureError("the demo needs matplotlib's sample photo: pip install 'numbapool[demo]'") from None
    planes = pictures.to_planes(pictures.read(pathlib.Path(get_data_path(), "sample_data", "grace_hopper.jpg")))
    if longest is not None:
        share = min(1.0, max(longest, SMALLEST) / max(planes.shape))
        planes = pictures.enlarge(planes, [round(n * share) for n in planes.shape[2:]])
    return np.ascontiguousarray(planes, np.float32) / 255


def progress(items: Iterable[Item], total: int) -> Iterator[Item]:
    """The items; meanwhile a bar on a terminal's stderr, one line an item elsewhere."""
    terminal = sys.stderr.isatty()
    for number, item in enumerate(items):
        if terminal:
            bar = "█" * (24 * number // total)
            print(f"\r\033[K{bar:░<24} {number}/{total} {item}", end="", file=sys.stderr, flush=True)
        else:
            print(f"{number + 1}/{total} {item}", file=sys.stderr, flush=True)
        yield item
    print("\r\033[K" * terminal, end="", file=sys.stderr, flush=True)


def as_arrays(results: Any) -> list[np.ndarray]:
    """One result or a tuple of them, as NumPy arrays."""
    return [np.asarray(r) for r in (results if isinstance(results, tuple) else (results,))]


def milliseconds(call: Callable[[], Any]) -> float:
    """The median of some runs; the caller has run it once, which compiled it."""
    times = []
    for _ in range(REPEATS):
        begin = time.perf_counter()
        call()
        times.append(time.perf_counter() - begin)
    return 1000 * statistics.median(times)


def strays(name: str, x: np.ndarray, arguments: recipes.Arguments, expected: list[np.ndarray], wraps: dict[str, Wrap]) -> list[str]:
    """The libraries through which forward or backward is not what it is through NumPy: to the last bit `expected`, y and the gradients."""
    forward, backward = functions(name)
    found = []
    for library, wrap in wraps.items():
        other = {k: wrap(v) if isinstance(v, np.ndarray) else v for k, v in arguments.items()}
        y = forward(wrap(x), **other)
        gradients = backward(wrap(expected[0]), wrap(x), **other)
        results = as_arrays(y) + as_arrays(gradients)
        if [(r.shape, r.tobytes()) for r in results] != [(e.shape, e.tobytes()) for e in expected]:
            found.append(library)
    return found


def functions(name: str) -> tuple[Callable[..., Any], Callable[..., Any]]:
    """Forward and backward in 2d."""
    where = recipes.function_name(name)
    return getattr(numbapool, where), getattr(numbapool, f"{where}_backward")


def measure(name: str, photo: np.ndarray, wraps: dict[str, Wrap]) -> Outcome:
    """One pooling forward and backward, on the gradient of half the sum of squares, which is y."""
    forward, backward = functions(name)
    x, arguments = recipes.recipe(name, photo, 2)
    y = forward(x, **arguments)
    expected = [y, *as_arrays(backward(y, x, **arguments))]
    x_strong, strong = recipes.recipe(name, photo, 4)
    weak, strong = (pictures.enlarge(r, photo.shape[2:]) for r in (y, forward(x_strong, **strong)))
    return Outcome(name, y.shape, milliseconds(lambda: forward(x, **arguments)), milliseconds(lambda: backward(y, x, **arguments)),
                   pictures.psnr(photo, weak), pictures.ssim(photo, weak), strays(name, x, arguments, expected, wraps), weak, strong)


def table(outcomes: list[Outcome]) -> str:
    """The outcomes in columns."""
    lines = [f"{'pooling':<28}{'output':<18}{'forward ms':>10}{'backward ms':>13}{'PSNR dB':>9}{'SSIM':>8}"]
    for o in outcomes:
        note = recipes.NOTES.get(o.name, "")
        label = f"{o.name} ({note})" if note else o.name
        lines.append(f"{label:<28}{o.shape!s:<18}{o.forward:10.2f}{o.backward:13.2f}{o.psnr:9.2f}{o.ssim:8.4f}")
    return "\n".join(lines)


def verdict(outcomes: list[Outcome], libraries: Iterable[str]) -> tuple[str, bool]:
    """Whether all libraries gave NumPy's results, in words."""
    wrong = [f"{o.name} through {library}" for o in outcomes for library in o.strays]
    if wrong:
        return f"not NumPy's results: {', '.join(wrong)}", False
    return f"Forward and backward through {' and '.join(libraries)}: NumPy's results, bit for bit.", True


def exchanges() -> dict[str, Wrap]:
    """How to hand an array over: DLPack, and torch where it is installed."""
    wraps: dict[str, Wrap] = {"DLPack": Exchange}
    if importlib.util.find_spec("torch"):
        import torch
        wraps["torch"] = torch.from_numpy
    return wraps


def run(output: pathlib.Path, longest: int | None = None) -> int:
    """The demo; returns the exit status."""
    photo, wraps = photograph(longest), exchanges()
    pictures.make_folder(output)
    names = numbapool.POOLINGS
    print(f"{len(names)} poolings, forward and backward; what is not in the cache is compiled first", file=sys.stderr)
    outcomes = [measure(name, photo, wraps) for name in progress(names, len(names))]
    words, good = verdict(outcomes, wraps)
    print(f"A photo of {' x '.join(map(str, photo.shape))}, float32, 2x2 windows, {threads.usable()} threads\n\n{table(outcomes)}\n\n"
          f"Times are medians of {REPEATS} runs.  PSNR and SSIM: y enlarged to the photo's size (nearest), against the photo.\n{words}")
    pictures.write(output / "gallery.png", np.asarray(gallery.draw(photo, outcomes)))
    print(f"Picture: {output / 'gallery.png'}")
    return 0 if good else 1
