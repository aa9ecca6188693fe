"""Other libraries that compute the same: each is skipped where it is not installed, or has no such pooling."""
from __future__ import annotations

import importlib.util
import os
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from .problem import Problem

Maker = Callable[[Problem], Callable[[], Any] | None]
# relative to the largest number of the result: sums of a few hundred elements in another order, and roots of rounded powers
TOLERANCE = {"float16": 2e-2, "bfloat16": 8e-2, "float32": 1e-4, "float64": 1e-10}


@dataclass(frozen=True)
class Peer:
    """A library: the packages that it needs, and the function here (module.name) that makes its calls.

    all_cores : it cannot be told how many threads to use, so it takes part in rows that use every core alone.
    """

    packages: tuple[str, ...]
    module: str
    function: str
    all_cores: bool = False

    def contender(self) -> Maker | None:
        """Makes the call of a problem; None where a package is missing."""
        if any(importlib.util.find_spec(package) is None for package in self.packages):
            return None
        make = getattr(importlib.import_module(f"{__package__}.{self.module}"), self.function)
        if not self.all_cores:
            return make
        return lambda problem: make(problem) if problem.row.threads == os.cpu_count() else None


PEERS = {
    "torch": Peer(("torch",), "torch_peer", "contender"),
    "torch.compile": Peer(("torch",), "torch_peer", "compiled"),
    "onnxruntime": Peer(("onnxruntime", "onnx"), "more_peers", "onnxruntime"),
    "litert": Peer(("ai_edge_litert", "flatbuffers"), "litert_peer", "contender"),
    "tensorflow": Peer(("tensorflow",), "more_peers", "tensorflow", all_cores=True),
    "jax": Peer(("jax",), "more_peers", "jax", all_cores=True),
    "opencv": Peer(("cv2",), "more_peers", "opencv"),
    "scikit-image": Peer(("skimage",), "more_peers", "scikit_image"),
}
SLOW = ("torch.compile",)  # to compile: only where asked for


def installed(slow: bool = False, only: str | None = None) -> dict[str, Maker]:
    """The peers that can take part, by name; only : names, separated by commas."""
    wanted = [name for name in PEERS if (slow or name not in SLOW) and (only is None or name in only.split(","))]
    found = {name: PEERS[name].contender() for name in wanted}
    return {name: make for name, make in found.items() if make is not None}


def plain(value: Any) -> np.ndarray:
    """Any library's array as a NumPy array; half types, which NumPy is slow with, as float32."""
    if callable(value):  # LiteRT's, whose memory is only looked at between its calls
        value = value()
    if type(value).__module__ == "torch":
        value = value.detach()
        value = (value.float() if value.is_floating_point() and value.element_size() == 2 else value).numpy()
    array = np.asarray(value)
    return array.astype(np.float32) if array.dtype.itemsize == 2 else array


def near(a: np.ndarray, b: np.ndarray, most: float) -> bool:
    """Whether no two elements differ by more, where both are finite."""
    with np.errstate(invalid="ignore"):  # infinity less infinity
        far = ~(np.abs(a - b) <= most)
    return not far.any() or np.array_equal(a[far], b[far], equal_nan=True)


def agree(ours: Any, theirs: Any, dtype: str) -> bool:
    """Whether two results, or tuples of results, are the same but for rounding; theirs may have its channels last."""
    if isinstance(ours, tuple | list) or isinstance(theirs, tuple | list):
        return isinstance(ours, tuple | list) and isinstance(theirs, tuple | list) and len(ours) == len(theirs) and all(
            agree(a, b, dtype) for a, b in zip(ours, theirs, strict=True))
    a, b = plain(ours), plain(theirs)
    if a.shape != b.shape and b.ndim > 2:
        b = np.moveaxis(b, -1, 1)
    if a.shape != b.shape:
        return False
    sums = 100 if a.ndim < 3 else 1  # the gradient of a parameter is a sum over the whole input, whose terms cancel
    return near(a, b, TOLERANCE[dtype] * sums * float(np.abs(a).max(initial=0)))
