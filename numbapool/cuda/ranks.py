"""Poolings by rank on a GPU: where their weights come from, and their gradient."""
from __future__ import annotations

from collections.abc import Callable
from math import prod
from typing import Any

import numpy as np

from .. import arrays, families
from ..call import Call, View
from ..loops.cuda import layout as at
from ..numeric import real_name
from ..parameters import Parameter
from ..prepared import Held, Source
from . import kernels
from .operands import Varying, add, header, located
from .plan import Header, Tables, Task, slices_of
from .stamp import Kernel

NONE = (0,) * 5  # distances of what a kernel sees as a row of numbers


class Order:
    """y weighs the elements by their rank."""

    def forward(self, call: Call, indexed: bool) -> list[Any]:
        """y."""
        y = call.output()
        ranks = Ranks(call)

        def build(vectors: bool) -> tuple[list[Task], Tables]:
            head = header(call, Tables())
            return [*ranks.filling(head), ranks.weighing(head, "order_forward", {at.X: call.x, at.Y: y}, "outputs")], head.tables
        add(call, build)
        return [y]

    def backward(self, call: Call, grad: View, index: View | None) -> list[Any]:
        """The gradients of x and of the weights."""
        result = call.empty(call.x.dims, call.dtype)
        ranks = Ranks(call)
        learn = ranks.learning(grad) if ranks.given else None

        def build(vectors: bool) -> tuple[list[Task], Tables]:
            head = header(call, Tables())
            tasks = ranks.filling(head)
            tasks.append(ranks.weighing(head, "order_gather", {at.X: call.x, at.Y: grad, at.GRAD_X: result}, "inputs", covers=True))
            return tasks + (learn[1](head) if learn else []), head.tables
        add(call, build)
        return [result, call.memory(learn[0])] if learn else [result]


class Ranks:
    """The weights of a call by rank: a table, a row for each number of elements that its windows have.

    Those that are learned are made on the device from what is `given`; the others are known.
    """

    def __init__(self, call: Call) -> None:
        self.call, self.formula, self.real = call, call.formula, real_name(call.dtype)
        self.counts, self.row = families.Order.counts(call)
        self.given: Varying | None = None
        self.table: Any
        if hasattr(self.formula, "rank_gradient"):
            self.given = self.learned(self.formula.parameters[0])
            self.channels, self.range = self.given.dims[1], self.given.dims[4]
            self.ranks = min(self.range, self.counts[-1])
            self.table = call.made_by(call.library.maker((self.channels * len(self.counts) * self.ranks,), self.real))
        else:
            self.table = families.Order.setup(call)[1]
            self.channels, self.range, self.ranks = 1, 0, self.table.shape[2]
        self.fields = {at.RANKS: self.ranks, at.RANK_CHANNEL: 0 if self.channels == 1 else len(self.counts) * self.ranks}

    def learned(self, p: Parameter) -> Varying:
        """The parameter, (K,) or (C, K)."""
        call, given = self.call, self.call.own[p.name]
        if not isinstance(given, Held):
            values = families.Order.setup(call)[0].astype(self.real)
            (channels, ranks), shape = values.shape, np.shape(arrays.values(given, p.name))
            return Varying(p, values, (1, channels, 1, 1, ranks), (0, ranks * (channels > 1), 0, 0, 1), shape)
        if len(given.shape) not in (1, 2) or given.shape[-1] < 1 or (len(given.shape) == 2 and given.shape[0] != call.out_dims[1]):
            raise ValueError(f"{call.where}: {p.name} must have shape (pool_range,) or ({call.out_dims[1]}, pool_range), got {given.shape}")
        channels, channel = (1, 0) if len(given.shape) == 1 or given.shape[0] == 1 else (given.shape[0], given.strides[0])
        return Varying(p, Source(given.number), (1, channels, 1, 1, given.shape[-1]), (0, channel, 0, 0, given.strides[-1]), given.shape)

    def weighing(self, head: Header, loop: str, operands: dict[int, Any], over: str, **more: Any) -> Task:
        """A launch that reads the table."""
        kernel = kernels.order_kernel(loop, self.call.dtype, self.call.lanes, head.wide({k: v.strides for k, v in operands.items()}))
        tables: dict[int, Any] = {at.RANK_ROW: (self.row, np.int32)}
        if self.given:
            return head.task(kernel, located(operands), over, fields=self.fields, sources={at.WEIGHTS: self.table}, tables=tables, **more)
        return head.task(kernel, located(operands), over, fields=self.fields, tables={at.WEIGHTS: (self.table, self.table.dtype), **tables}, **more)

    def apart(self, head: Header, kernel: Kernel, operands: dict[int, Any], items: int, **more: int) -> Task:
        """A launch over a few numbers, which belong to no plane."""
        assert self.given
        fields = {**self.fields, at.PLANES: 1, at.GROUPS: len(self.counts), at.RANK_RANGE: self.range, **{getattr(at, n): v for n, v in more.items()}}
        task = head.task(kernel, operands, "outputs", items=items, fields=fields, tables={at.RANK_COUNT: (np.array(self.counts), np.int32)})
        self.given.put(task, head.tables, at.PARAM)
        return task

    def filling(self, head: Header) -> list[Task]:
        """What makes a table that is not known."""
        if not self.given:
            return []
        kernel = kernels.rank_kernel("order_weights", self.formula, self.call.dtype)
        return [self.apart(head, kernel, {at.WORK: (self.table, NONE)}, self.channels * len(self.counts))]

    def learning(self, grad: View) -> tuple[Source, Callable[[Header], list[Task]]]:
        """The gradient of what is given, and what makes it."""
        assert self.given
        call, shape = self.call, self.given.shape
        block, planes = len(self.counts) * self.ranks, prod(call.out_dims[:2])
        slices = slices_of(planes * block, prod(call.outputs))
        result = call.made_by(call.library.maker(shape, self.real))
        sums, totals = (call.made_by(call.library.maker((n * block,), "float64")) for n in (planes * slices, self.channels))

        def build(head: Header) -> list[Task]:
            flat = header(call, head.tables, False)
            operands = {at.X: call.x, at.Y: grad, at.WORK: (sums, NONE)}
            wide = flat.wide({at.X: call.x.strides, at.Y: grad.strides})
            first = flat.task(kernels.order_kernel("order_sums", call.dtype, call.lanes, wide), located(operands), "outputs", items=slices * block,
                              fields={**self.fields, at.SLICES: slices, at.GROUPS: len(self.counts)}, tables={at.RANK_ROW: (self.row, np.int32)})
            joining = kernels.order_kernel("order_totals", call.dtype, False, False)
            second = self.apart(flat, joining, {at.WORK: (sums, NONE), at.PARTS: (totals, NONE)}, self.channels * block, SLICES=slices)
            operands = {at.PARTS: (totals, NONE), at.GRAD_PARAM: (result, (0, self.range * (self.channels > 1), 0, 0, 1))}
            third = self.apart(flat, kernels.rank_kernel("order_learn", self.formula, call.dtype), operands, self.channels * self.range)
            return [first, second, third]
        return result, build
