"""A row as arrays: the input, the parameters, what the backward pass is given, and the call of the library on them."""
from __future__ import annotations

import types
from collections.abc import Callable
from functools import lru_cache
from typing import Any

import numpy as np

import numbapool
from numbapool import publish

from .rows import DTYPES, LAST, Row, Window, filled, pools


def numpy_dtype(name: str) -> np.dtype:
    """NumPy's dtype of a name; bfloat16 is ml_dtypes'."""
    if name == "bfloat16":
        from ml_dtypes import bfloat16
        return np.dtype(bfloat16)
    return np.dtype(name)


@lru_cache(2)
def inputs(shape: tuple[int, ...], dtype: str, order: str, positive: bool) -> np.ndarray:
    """Normal numbers, (N, C, ...), in a memory order; the last ones are kept, since neighbouring rows share them."""
    rng = np.random.default_rng(0)
    values = rng.standard_normal(shape, np.float32)
    values = np.abs(values) + np.float32(0.01) if positive else values
    if order == LAST:
        values = np.moveaxis(np.ascontiguousarray(np.moveaxis(values, 1, -1)), -1, 1)
    return values.astype(numpy_dtype(dtype))  # astype keeps the memory order


class Problem:
    """What all contenders of a row work on.

    x, y, grad : arrays in the row's order; own : the pooling's own arguments; window : where windows are; indices : of the forward pass,
    where the row's direction has them.
    """

    def __init__(self, row: Row) -> None:
        self.row, self.pool = row, pools()[row.pool]
        self.window: Window = self.pool.windows_of(row.ndim)[row.window]
        rng = np.random.default_rng(1)
        self.x = inputs(row.shape, row.dtype, row.order, self.pool.positive)
        self.own: dict[str, Any] = {}
        if self.pool.unpools:
            self.x, self.own["indices"] = getattr(numbapool, f"max_pool{row.ndim}d")(self.x, **self.window.arguments, return_indices=True)
        self.own |= {name: make(self.x, rng) for name, make in self.pool.parameters.items()}
        self.indices = None
        self.y = self.forward(numbapool, return_indices=True) if self.indexed else self.forward(numbapool)
        if self.indexed:
            self.y, self.indices = self.y
        self.grad = filled(self.y, rng)

    @property
    def indexed(self) -> bool:
        """Whether the row returns or takes indices."""
        return self.row.direction.endswith("+indices")

    @property
    def backward(self) -> bool:
        """Whether the row is a backward pass."""
        return self.row.direction.startswith("backward")

    def function(self, package: types.ModuleType, backward: bool = False) -> Callable[..., Any]:
        """The public function of a package."""
        where = next(o.where for o in publish.operations(self.pool.name) if o.ndim == self.row.ndim and o.form.prefix == self.window.prefix)
        return getattr(package, where + "_backward" * backward)

    def forward(self, package: types.ModuleType, **more: Any) -> Any:
        """One forward call."""
        return self.function(package)(self.x, **self.own, **self.window.arguments, **more)

    def call(self, package: types.ModuleType) -> Callable[[], Any]:
        """The measured call of a revision of the library, as a user writes it."""
        function, x, grad = self.function(package, self.backward), self.x, self.grad
        arguments = {**self.own, **self.window.arguments}
        if self.backward:
            arguments |= {"indices": self.indices} if self.indexed else {}
            return lambda: function(grad, x, **arguments)
        arguments |= {"return_indices": True} if self.indexed else {}
        return lambda: function(x, **arguments)

    def bytes(self) -> tuple[int, int]:
        """The minimal bytes, read and written."""
        return self.pool.bytes(self.row.direction, self.x.size, self.y.size, DTYPES[self.row.dtype])

    def memory(self) -> list[np.ndarray]:
        """All that a call reads, and free memory of the result's size: what malloc gives to the next call of that size."""
        read = [self.x, self.grad, self.indices, *self.own.values()]
        result = self.x if self.backward else self.y
        return [a for a in read if isinstance(a, np.ndarray)] + [np.empty(result.nbytes, np.uint8)]
