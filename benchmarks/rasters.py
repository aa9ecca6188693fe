"""Reducing an image or a raster by blocks: numbapool beside what people use for it today.

Rows of 4096x4096 uint8 and float32 in 2x2 blocks, and of float32 with NaN. Contenders take turns; each is warm and gives a new array. dask runs on
its own threads, the others on one thread but numbapool, which is measured on one and on all.
"""
from __future__ import annotations

import importlib
import warnings
from collections.abc import Callable
from typing import Any

import numba
import numpy as np

import numbapool

from . import report, timing
from .report import markdown, number

SIZE, BLOCK = 4096, 2
Call = Callable[[], Any]
OURS = {"mean": ("avg", {}), "max": ("max", {}), "median": ("median", {"even": "mean"}), "mode": ("mode", {}), "sum": ("sum", {}), "std": ("std", {}),
        "nanmean": ("avg", {"ignore_nan": True}), "nanmax": ("max", {"ignore_nan": True})}
ROWS = [(name, dtype) for dtype in ("uint8", "float32") for name in ("mean", "max", "median", "mode")]
ROWS += [("sum", "uint8"), ("std", "float32"), ("nanmean", "float32"), ("nanmax", "float32")]
BEGIN = "<!-- rasters: written by python -m benchmarks rasters --json --report -->\n"


def raster(name: str, dtype: str, size: int = SIZE) -> np.ndarray:
    """What is reduced: labels of a map for the mode, else noise; a tenth of it is missing where NaN is left out."""
    rng = np.random.default_rng(0)
    x = rng.integers(0, 12 if name == "mode" else 256, (size, size), np.uint8).astype(dtype)
    if name.startswith("nan"):
        x[rng.random(x.shape, np.float32) < 0.1] = np.nan
    return x


def ours(name: str, x: np.ndarray) -> Call:
    """numbapool on the image as (1, H, W)."""
    pooling, own = OURS[name]
    f, image = getattr(numbapool, f"{pooling}_pool2d"), x[None]
    return lambda: f(image, BLOCK, **own)


def mode_of(blocks: np.ndarray, axis: Any = None) -> np.ndarray:
    """What a function of blocks that NumPy lacks costs in NumPy: the votes for each of the four elements."""
    axis = tuple(range(blocks.ndim)) if axis is None else axis
    v = np.sort(np.moveaxis(blocks, axis, tuple(range(len(axis)))).reshape(-1, *np.delete(blocks.shape, axis)), 0)
    votes = (v[:, None] == v[None]).sum(1)
    return np.take_along_axis(v, votes.argmax(0)[None], 0)[0]


def function_of(name: str) -> Callable[..., Any]:
    """The NumPy function of blocks."""
    return mode_of if name == "mode" else getattr(np, name)


def scikit_image(name: str, x: np.ndarray) -> Call:
    """skimage.measure.block_reduce."""
    reduce, f = importlib.import_module("skimage.measure").block_reduce, function_of(name)
    return lambda: reduce(x, BLOCK, f)


def xarray(name: str, x: np.ndarray) -> Call:
    """DataArray.coarsen; it leaves NaN out of what floats are reduced by."""
    blocks = importlib.import_module("xarray").DataArray(x, dims=("y", "x")).coarsen(y=BLOCK, x=BLOCK)
    if name == "mode":
        return lambda: blocks.reduce(mode_of).values
    f = getattr(blocks, name.removeprefix("nan"))
    return lambda: f().values


def dask(name: str, x: np.ndarray) -> Call:
    """dask.array.coarsen, on chunks of 1024x1024."""
    da = importlib.import_module("dask.array")
    blocks = da.coarsen(function_of(name), da.from_array(x, chunks=1024), {0: BLOCK, 1: BLOCK})
    return lambda: blocks.compute(scheduler="threads")


def opencv(name: str, x: np.ndarray) -> Call:
    """resize by areas, which is the mean, of uint8 rounded to uint8."""
    cv2 = importlib.import_module("cv2")
    if name != "mean":
        raise NotImplementedError
    cv2.setNumThreads(1)
    return lambda: cv2.resize(x, (x.shape[1] // BLOCK, x.shape[0] // BLOCK), interpolation=cv2.INTER_AREA)


PEERS = {"scikit-image": scikit_image, "xarray": xarray, "dask": dask, "OpenCV": opencv}


def peers(name: str, x: np.ndarray) -> dict[str, Call]:
    """Those that are installed and have the function."""
    found = {}
    for peer, make in PEERS.items():
        try:
            found[peer] = make(name, x)
        except (ImportError, NotImplementedError):
            continue
    return found


def agree(got: np.ndarray, expected: Any) -> bool:
    """Equal within float32's rounding; whole numbers may be rounded."""
    slack = 0.51 if np.asarray(expected).dtype.kind in "iu" else 1e-3
    return bool(np.allclose(np.asarray(got, np.float64).reshape(np.shape(expected)), np.asarray(expected, np.float64), 1e-5, slack, equal_nan=True))


def measure(name: str, dtype: str, seconds: float, size: int = SIZE) -> dict[str, Any]:
    """A row: ms of all contenders, and whether they give the same."""
    x = raster(name, dtype, size)
    call, others = ours(name, x), peers(name, x)
    expected = call()

    def on(count: int) -> Call:
        return lambda: numba.set_num_threads(count)
    contenders = {f"numbapool, {n} thread" + "s" * (n > 1): timing.Contender(call, on(n)) for n in sorted({1, numba.config.NUMBA_NUM_THREADS})}
    contenders |= {peer: timing.Contender(f) for peer, f in others.items()}
    times = timing.interleaved(contenders, seconds)
    found = {n: {"ms": round(t.median * 1e3, 3), "low_ms": round(t.low * 1e3, 3), "high_ms": round(t.high * 1e3, 3)} for n, t in times.items()}
    return {"reduction": name, "dtype": dtype, "size": size, "agrees": {peer: agree(expected, f()) for peer, f in others.items()}, "times": found}


def sweep(only: str, seconds: float) -> dict[str, Any]:
    """All rows whose names match."""
    timing.keep_freed_memory()
    warnings.filterwarnings("ignore", "Mean of empty slice|All-NaN slice", RuntimeWarning)  # of blocks where all is missing
    found = []
    for name, dtype in ROWS:
        if only in f"{name} {dtype}":
            found.append(measure(name, dtype, seconds))
            print(line(found[-1]), flush=True)
    return {"rows": found}


def line(row: dict[str, Any]) -> str:
    """A row on the screen."""
    wrong = [peer for peer, same in row["agrees"].items() if not same]
    times = ", ".join(f"{n} {number(t['ms'])}" for n, t in row["times"].items())
    return f"{row['reduction']:<8} {row['dtype']:<8} ms: {times}" + f"  another result: {', '.join(wrong)}" * bool(wrong)


def write(result: dict[str, Any]) -> None:
    """The README's part."""
    m = result["machine"]
    v = m["versions"]
    beside = ", ".join(f"{name} {v[name]}" for name in ("numpy", "scikit-image", "xarray", "dask", "opencv-python-headless") if name in v)
    text = f"{table(result['rows'])}\n{m['cpu']}, {m['cores']} cores; {beside}; revision {m['revision']}, {m['date']}.\n"
    report.README.write_text(report.with_part(report.README.read_text(encoding="utf-8"), BEGIN, text), encoding="utf-8")


def table(rows: list[dict[str, Any]]) -> str:
    """All rows."""
    names = list(dict.fromkeys(n for row in rows for n in row["times"]))
    body = [(f"{row['reduction']} of {row['dtype']}", *(number(row["times"][n]["ms"]) if n in row["times"] else "-" for n in names)) for row in rows]
    return markdown(("2x2 blocks of 4096x4096, ms", *names), body)
