"""numbapool: every pooling of convolutional networks, forward and backward, in 1d, 2d and 3d, on the arrays you have."""
from __future__ import annotations

from importlib import import_module as _import
from typing import Any as _Any

__version__ = "0.1.0"
POOLINGS = (
    "max",
    "min",
    "avg",
    "sum",
    "std",
    "lp",
    "gem",
    "lse",
    "soft",
    "swap",
    "auto",
    "lip",
    "sort",
    "ordinal",
    "rank",
    "median",
    "mode",
    "mixed",
    "gated",
    "ada",
    "idw",
    "blur",
    "max_blur",
    "dpp",
    "stochastic",
    "rank_stochastic",
    "s3",
    "fractional_max",
    "fractional_avg",
    "max_unpool",
)


def __getattr__(name: str) -> _Any:
    """A public function, made when it is first asked for (PEP 562): importing numbapool neither imports Numba nor compiles."""
    if name in ("get_include", "get_library_dirs"):
        return getattr(_import(f"{__name__}.config"), name)
    if name != "__all__" and not name.removesuffix("_backward").endswith(("1d", "2d", "3d")):
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    publish = _import(f"{__name__}.publish")
    value = publish.names(POOLINGS) if name == "__all__" else publish.find(name, POOLINGS)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    publish = _import(f"{__name__}.publish")
    return sorted({*globals(), "get_include", "get_library_dirs", *publish.names(POOLINGS)})
