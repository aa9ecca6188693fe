"""CUDA kernels for the C library: which ones it holds, and the table through which C finds them.

A kernel is known to C by a key of small numbers (`KEY`): what cuda/kernels.py binds into it.  Kernels of one formula and dtype are one module,
which is unpacked and loaded when one of them is first called.
"""
from __future__ import annotations

import functools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from numbapool.cuda import families as python_families
from numbapool.cuda import kernels as python
from numbapool.cuda import operands
from numbapool.cuda import plan as python_plan
from numbapool.cuda.stamp import Kernel
from numbapool.loops.cuda import layout
from numbapool.numeric import DTYPES, FLOATS, HALVES, storage_name

from . import kernels
from .cuda_images import ARCHITECTURES

COMPOSED = ("each_blend", "each_split", "each_distance", "each_sum", "each_zero", "each_sigmoid", "weigh_windows", "weigh_sums", "weigh_learn",
            "detail_forward", "detail_backward")
CONVERTED = ("each_wide", "each_half")  # of half types
LOOPS = ("fold_forward", "strip_forward", "fold_parts", "fold_terms", "fold_gather", "select_forward", "strip_select", "select_parts",
         "index_gather", "index_scatter", "index_read", "draw_forward", "order_forward", "order_gather", "fold_disjoint", "strip_disjoint",
         "vote_forward", "draw_ranked", "order_weights", "order_sums", "order_totals", "order_learn",
         *COMPOSED, *CONVERTED)
KEY = {"formula": 6, "loop": 6, "backward": 1, "dtype": 4, "lanes": 4, "channel": 1, "wide": 1, "uniform": 1, "cut": 1, "rows": 1, "apart": 1,
       "values": 1, "indexed": 1, "long_index": 1, "per_plane": 1, "sampled": 1, "adding": 1, "kernel": 3, "stride": 2, "left": 3, "whole": 1}  # bits
FEW_ARCHITECTURES = (90, 120)  # of the cubins of a library to test with
COMMON = ("avg", "soft", "max")  # poolings with loops for windows side by side in every floating dtype
SELDOM = ("std", "idw", "nanavg", "nansum", "nanstd", "nanmax", "nanmin")  # which have elements side by side in float32 alone, or not at all


@dataclass(frozen=True)
class Entry:
    """One kernel by the fields of its key; rows: long windows are summed row by row; apart: each window by its own reference."""

    formula: str
    loop: str
    dtype: str
    lanes: int = 1
    channel: bool = False
    backward: bool = False
    wide: bool = False
    uniform: bool = False
    cut: bool = False
    rows: bool = False
    apart: bool = False
    values: bool = False
    indexed: bool = False
    long_index: bool = False
    per_plane: bool = False
    sampled: bool = False
    adding: bool = False
    kernel: int = 0
    stride: int = 0
    left: int = 0
    whole: bool = False

    @property
    def key(self) -> int:
        """C's key."""
        numbers = {"formula": kernels.formula_names().index(self.formula), "loop": LOOPS.index(self.loop), "dtype": DTYPES.index(self.dtype)}
        found = 0
        for name, bits in KEY.items():
            number = int(numbers.get(name, getattr(self, name)))
            assert 0 <= number < 1 << bits, name
            found = found << bits | number
        return found

    @property
    def module(self) -> str:
        """What its kernel is loaded together with."""
        return f"{self.formula}_{self.dtype}"

    @property
    def name(self) -> str:
        """What --only looks at: formula, direction, dtype, loop."""
        return f"numbapool_{self.formula}_{'backward' if self.backward else 'forward'}_{self.dtype}_{self.loop}"

    def made(self) -> Kernel:
        """The kernel."""
        strip = python.Strip(self.kernel, self.stride, self.left, self.whole) if self.kernel else None
        if "fold" in self.loop or self.loop in ("strip_forward", "strip_disjoint"):
            f = formulas()[self.formula]
            if f.only_backward and self.loop not in ("fold_gather", "fold_disjoint", "strip_disjoint"):  # an option that these loops do not read
                f = formulas()[kernels.fold_name(f.module.__name__.rpartition(".")[2])]
            return python.fold_kernel(self.loop, f.module, self.backward, self.dtype, f.numbers, f.arrays, f.backward if self.backward else f.forward,
                                      self.lanes, self.channel, self.wide, uniform=self.uniform, apart=self.apart, cut=self.cut, long=self.rows,
                                      strip=strip)
        if "index" in self.loop:
            return python.index_kernel(self.loop, self.dtype, self.lanes, self.channel, self.wide, long_index=self.long_index, adding=self.adding
                                       or self.loop != "index_scatter")
        chosen = dict(values=self.values, indexed=self.indexed, long_index=self.long_index)
        if self.loop in COMPOSED + CONVERTED:
            return python.composed_kernel(self.loop, self.dtype, self.channel, self.wide)
        if self.loop in ("order_weights", "order_learn"):
            return python.rank_kernel(self.loop, kernels.module(self.formula), self.dtype)
        if "order" in self.loop:
            return python.order_kernel(self.loop, self.dtype, self.channel, self.wide)
        if self.loop == "vote_forward":
            return python.vote_kernel(self.dtype, self.channel, self.wide, **chosen)
        if "draw" in self.loop:
            return python.draw_kernel(kernels.module(self.formula), self.dtype, self.channel, self.wide, sampled=self.sampled, **chosen)
        return python.select_kernel(self.loop, module_of(self.formula), self.dtype, self.lanes, self.channel, self.wide,
                                    per_plane=self.per_plane, cut=self.cut, strip=strip, **chosen)


@functools.cache
def formulas() -> dict[str, kernels.Formula]:
    """The formulas of folds by their names."""
    found = [f for p in (*kernels.own(), *kernels.PARTS) if kernels.folds(p) for f in kernels.formulas(p) if len(f.values) < 2]
    return {f.name: f for f in (*found, *kernels.ignoring_folds())}


def apart(f: kernels.Formula) -> bool:
    """Whether a formula takes each window by its own reference, for there is none that all share."""
    return not (f.plain_sum or hasattr(f.module, "common"))


def module_of(formula: str) -> Any:
    """The file of a choice."""
    return next((m for m in kernels.ignoring_formulas() if kernels.name_of(m) == formula), None) or kernels.module(formula)


# ---------------------------------------------------------------- which kernels

def shapes(most: int, dtype: str) -> list[dict[str, Any]]:
    """Elements side by side: one, one channel, as many channels as one access reads."""
    lanes = min(most, operands.VECTOR_BYTES // np.dtype(storage_name(dtype)).itemsize)
    return [{}, {"channel": True}, *([{"channel": True, "lanes": lanes}] if lanes > 1 else [])]


def strips(most: int, dtype: str) -> Iterator[dict[str, Any]]:
    """Windows side by side: 2x2 and 3x3 ones at the usual distances."""
    lanes = min(most, operands.VECTOR_BYTES // np.dtype(storage_name(dtype)).itemsize)
    if lanes > 1:
        for kernel, stride, left, whole in ((2, 2, 0, True), (2, 2, 0, False), (3, 2, 1, True), (3, 2, 1, False), (3, 1, 1, True)):
            yield dict(lanes=lanes, kernel=kernel, stride=stride, left=left, whole=whole)


def fold(f: kernels.Formula, dtype: str) -> Iterator[Entry]:
    """The kernels of a fold.  Those of places of 64 bits sum row by row, and serve every call."""
    most = operands.most_lanes(f.module)
    all_shapes = shapes(most if f.name not in SELDOM or dtype == "float32" else 1, dtype)
    vectors = [s for s in all_shapes if s.get("lanes", 1) > 1 or not s]
    uniforms = (False, True) if f.name == "avg" else (False,)  # of the others, few read the divisor at all
    last = {"wide": True, "rows": True}
    together = not apart(f)

    def entry(loop: str, *more: dict[str, Any], backward: bool = False) -> Entry:
        return Entry(f.name, loop, dtype, backward=backward, apart=not together, **{k: v for m in more for k, v in m.items()})
    if not together:  # which is summed row by row
        for loop, backward in (("fold_forward", False), ("fold_terms", True), ("fold_disjoint", True), ("fold_gather", True)):
            yield from (entry(loop, s, backward=backward) for s in (*all_shapes, *[{"wide": True}] * (loop != "fold_disjoint")))
        return
    if not f.only_backward:
        for uniform in uniforms:
            yield from (entry("fold_forward", s, {"uniform": uniform}) for s in all_shapes)
            yield from (entry("fold_forward", s, {"uniform": uniform, "cut": True}) for s in vectors)
            if f.name in COMMON or (dtype == "float32" and f.name not in SELDOM):
                yield from (entry("strip_forward", s, {"uniform": uniform}) for s in strips(most, dtype))
        yield from (entry("fold_forward", s) for s in ({"rows": True}, last))
        yield from (entry("fold_parts", s) for s in vectors)
    if not f.plain_sum:
        yield from (entry("fold_terms", s, backward=True) for s in (*all_shapes, {"rows": True}, last, *({**s, "cut": True} for s in vectors)))
        yield from (entry("fold_parts", s, backward=True) for s in vectors)
        yield from (entry("fold_disjoint", s, backward=True) for s in all_shapes)
        if f.name in COMMON or (dtype == "float32" and f.name not in SELDOM):
            pairs = python_families.PAIRS._asdict()
            yield from (entry("strip_disjoint", s, backward=True) for s in strips(most, dtype) if pairs.items() <= s.items())
    for uniform in uniforms:
        yield from (entry("fold_gather", s, {"uniform": uniform}, backward=True) for s in all_shapes)
    yield entry("fold_gather", {"wide": True}, backward=True)


def select(pooling: str, dtype: str) -> Iterator[Entry]:
    """The kernels of a choice: of values, of values and places, and of floats' places alone, for the backward pass."""
    all_shapes = shapes(operands.MOST_LANES if pooling not in SELDOM or dtype == "float32" else 1, dtype)
    wanted = [{"values": True}, {"values": True, "indexed": True, "long_index": True}] + [{"indexed": True}] * (dtype in FLOATS)
    for what in wanted:
        for s in all_shapes if dtype in FLOATS or dtype == "uint8" else all_shapes[:2]:
            yield Entry(pooling, "select_forward", dtype, **what, **s)
            if dtype in FLOATS and s != all_shapes[1]:
                yield Entry(pooling, "select_forward", dtype, **what, **s, cut=True)
        if pooling == "max":  # drawn windows
            yield Entry(pooling, "select_forward", dtype, **what, per_plane=True)
            if dtype in FLOATS or dtype == "uint8":
                yield from (Entry(pooling, "strip_select", dtype, **what, **s) for s in strips(operands.MOST_LANES, dtype))
        yield Entry(pooling, "select_forward", dtype, **what, wide=True)
    if dtype in FLOATS:
        yield from (Entry(pooling, "select_parts", dtype, **s) for s in all_shapes if s != all_shapes[1])
    else:  # places alone, for the gradient
        yield from (Entry(pooling, "select_forward", dtype, indexed=True, wide=wide) for wide in (False, True))


def indexed(dtype: str) -> Iterator[Entry]:
    """The kernels that follow indices, of no formula."""
    def entry(loop: str, **more: Any) -> Entry:
        return Entry("index", loop, dtype, **more)
    if dtype in FLOATS:
        for long_index in (False, True):
            yield from (entry("index_gather", long_index=long_index, **s) for s in (*shapes(operands.MOST_LANES, dtype), {"wide": True}))
            yield from (entry("index_scatter", long_index=long_index, adding=True, wide=wide) for wide in (False, True))
    yield from (entry("index_scatter", long_index=True, wide=wide) for wide in (False, True))
    yield from (entry("index_read", long_index=True, **s) for s in ({}, {"channel": True}, {"wide": True}))


def vote(pooling: str, dtype: str) -> Iterator[Entry]:
    """The kernels of a vote."""
    for what in ({"values": True}, {"values": True, "indexed": True, "long_index": True}, {"indexed": True}):
        yield from (Entry(pooling, "vote_forward", dtype, **what, **s) for s in ({}, {"channel": True}, {"wide": True}))


def draw(pooling: str, dtype: str) -> Iterator[Entry]:
    """The kernels of a draw."""
    loop = "draw_ranked" if getattr(kernels.module(pooling), "by_rank", False) else "draw_forward"
    for what in ({"values": True}, {"values": True, "indexed": True, "long_index": True}, {"indexed": True}):
        for sampled in (False, True):
            yield from (Entry(pooling, loop, dtype, **what, **s, sampled=sampled) for s in ({}, {"channel": True}, {"wide": True}))


def order(pooling: str, dtype: str) -> Iterator[Entry]:
    """The kernels of a pooling by rank, and of the poolings that share them."""
    for loop in ("order_forward", "order_gather", "order_sums"):
        yield from (Entry(pooling, loop, dtype, **s) for s in ({}, {"channel": True}, {"wide": True}))
    yield Entry(pooling, "order_totals", dtype)
    for name in (p for p in (pooling, *kernels.SAME) if hasattr(kernels.module(p), "portion")):
        yield from (Entry(name, loop, dtype) for loop in ("order_weights", "order_learn"))


def composed() -> Iterator[Entry]:
    """The kernels of composed poolings, of no formula; half types are widened before."""
    for dtypes, loops in ((kernels.WIDE, COMPOSED), (HALVES, CONVERTED)):
        for dtype in dtypes:
            for loop in loops:
                few = ({},) if loop == "weigh_learn" else ({}, {"wide": True}) if loop == "weigh_sums" else ({}, {"channel": True}, {"wide": True})
                yield from (Entry("weigh", loop, dtype, **s) for s in few)


@functools.cache
def entries() -> tuple[Entry, ...]:
    """Every kernel of a full library."""
    found = [e for dtype in DTYPES for e in indexed(dtype)] + list(composed())
    families: dict[str, Any] = {"select": select, "vote": vote, "draw": draw, "order": order}
    for f in formulas().values():
        widened = (f.parameter and not f.only_backward) or f.name in kernels.PARTS
        found += [e for dtype in FLOATS if dtype not in HALVES or not widened for e in fold(f, dtype)]
    for pooling in kernels.own():
        make = families.get(kernels.module(pooling).family)
        found += [e for dtype in (DTYPES if make in (select, vote) else FLOATS) for e in make(pooling, dtype)] if make else []
    ignoring = [kernels.name_of(m) for m in kernels.ignoring_formulas() if m.family == "select"]
    return (*found, *(e for name in ignoring for dtype in FLOATS for e in select(name, dtype)))


def few() -> list[Entry]:
    """A handful: average and max pooling of float32 in channels-first memory, by the general loops."""
    return [e for e in entries() if e.dtype == "float32" and e.formula in ("avg", "max", "index") and (e.loop in (
        "fold_forward", "fold_gather", "select_forward", "index_gather")) and not (e.channel or e.cut or e.wide or e.rows or e.per_plane)]


def homes(chosen: Sequence[Entry]) -> dict[str, str]:
    """The module of each kernel by its name: kernels that formulas share are in the first one's."""
    found: dict[str, str] = {}
    for e in chosen:
        found.setdefault(e.made().name, e.module)
    return found


def modules(chosen: Sequence[Entry]) -> dict[str, list[Entry]]:
    """Entries by the modules that hold their kernels, each kernel once."""
    found: dict[str, list[Entry]] = {}
    home, done = homes(chosen), set()
    for e in chosen:
        name = e.made().name
        if name not in done:
            found.setdefault(home[name], []).append(e)
            done.add(name)
    return found


# ---------------------------------------------------------------- C

def constants() -> dict[str, int]:
    """The numbers that planners and kernels share, by their names in C."""
    at = {f"CU_{name}": value for name, value in vars(layout).items() if name.isupper()}
    common = {name: getattr(python_plan, name) for name in ("BLOCK", "MOST_BLOCKS", "LARGE", "MOST_PARTS", "PART", "SCATTERERS", "MOST_SLICES")}
    common |= {name: getattr(operands, name) for name in ("MOST_LANES", "VECTOR_BYTES", "FEW_LANES", "MOST_STRIDE", "MOST_KERNEL")}
    common["MOST_TILE"] = python_families.MOST_TILE
    return at | {f"CU_{k}": v for k, v in common.items()} | {f"CU_{name.upper()}": i for i, name in enumerate(LOOPS)}


def header() -> str:
    """cuda_kernels.h."""
    return "\n".join([
        "/* Written by capi/cuda.py from numbapool's loops/cuda/layout.py, cuda/plan.py and cuda/families.py. */",
        "#ifndef NUMBAPOOL_CUDA_KERNELS_H", "#define NUMBAPOOL_CUDA_KERNELS_H", "", "#include <stdint.h>", "",
        "enum {", ",\n".join(f"    {k} = {v}" for k, v in constants().items()), "};", "",
        f"enum {{ CU_ARCHITECTURES = {len(ARCHITECTURES)} }};", "",
        "/* What a kernel is known by. */", "typedef struct {", *(f"    int {name};" for name in KEY), "} kernel_key;", "",
        "static inline uint64_t packed_key(const kernel_key *k)", "{", "    uint64_t packed = 0;",
        *(f"    packed = packed << {bits} | (uint64_t)k->{name};" for name, bits in KEY.items()), "    return packed;", "}", "", "#endif", ""])


def source(chosen: Sequence[Entry], files: dict[str, Path]) -> str:
    """cuda_kernels.c: the table of kernels, and the packed images of their modules, whose files the assembler takes in."""
    numbers, home = {name: i for i, name in enumerate(files)}, homes(chosen)
    names = {e.key: e.made().name for e in chosen}
    rows = [f'    {{{key}ULL, "{names[key]}", {numbers[home[names[key]]]}}},' for key in sorted(names)]
    images = [f"numbapool_images_{i}" for i in range(len(files))]
    texts = [f'    ".balign 8\\n{name}:\\n.incbin \\"{file}\\"\\n"' for name, file in zip(images, files.values(), strict=True)]
    lines = ["/* Written by capi/cuda.py. */", '#include "cuda.h"', ""]
    if files:
        lines += ['__asm__(".pushsection .rodata\\n"', *texts, '    ".popsection\\n");', ""]
        lines += [*(f"extern const unsigned char {n}[];" for n in images), ""]
    return "\n".join([
        *lines, "const cuda_row cuda_rows[] = {", *(rows or ["    {0, NULL, 0},"]), "};", f"const int cuda_row_count = {len(rows)};", "",
        f"const unsigned char *const cuda_images[] = {{{', '.join(images) or 'NULL'}}};", f"const int cuda_image_count = {len(files)};",
        f"const int cuda_architectures[CU_ARCHITECTURES] = {{{', '.join(map(str, ARCHITECTURES))}}};", "",
        *_marks("cuda_crowded", [f.name for f in formulas().values() if operands.most_lanes(f.module) < operands.MOST_LANES]),
        *_marks("cuda_apart", [f.name for f in formulas().values() if apart(f)])])


def _marks(name: str, chosen: Sequence[str]) -> list[str]:
    return [f"const bool {name}[FORMULA_COUNT] = {{", *(f"    [FORMULA_{n.upper()}] = true," for n in chosen), "};", ""]
