"""The tables that C reads: kernels.h (numbers for poolings, formulas and loops) and kernels.c (what they are, and where each kernel is)."""
from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from numbapool import kernels as python
from numbapool import publish
from numbapool.loops.cpu import order, vote
from numbapool.numeric import DTYPES
from numbapool.parameters import Parameter

from . import functions
from . import kernels as library
from .kernels import LOOPS, SAME, Entry, Formula, entries, fold_name, folds, formula_names, formulas, ignoring, ignoring_folds, module, name_of, own

HEADER = """/* Numbers that tables go by; written by capi/tables.py. */
#ifndef NUMBAPOOL_KERNELS_H
#define NUMBAPOOL_KERNELS_H

"""


SHAPES = ("number", "channel", "position", "channel_position")  # of arrays, by their bits in C


def poolings() -> list[str]:
    """All that C has a number for: the poolings, and those that are parts of others."""
    return [*functions.poolings(), *library.PARTS]


def enum(prefix: str, names: Sequence[str]) -> str:
    """An enum of names in their order."""
    return "enum { " + ", ".join(f"{prefix}_{n.upper()}" for n in (*names, "count")) + " };\n"


def header(processors: Sequence[str]) -> str:
    """kernels.h."""
    return HEADER + enum("POOLING", poolings()) + enum("FORMULA", formula_names()) + enum("LOOP", LOOPS) + (
        f"enum {{ PROCESSORS = {len(processors)}, MOST_TAPS = {order.MOST_TAPS}, VOTES = {vote.MOST_TAPS}, "
        f"INSERTION = {order.INSERTION} }};\n\n#endif\n")


def key(entry: Entry, dtype: str) -> int:
    """C's key of a kernel for a dtype that it serves: formula, direction, dtype, loop; find_kernel in launch.c has the same sum."""
    return ((formula_names().index(entry.formula) * 2 + entry.backward) * 16 + DTYPES.index(dtype)) * 64 + LOOPS.index(entry.loop)


def source(entries: Sequence[Entry], processors: Sequence[str], there: set[str]) -> str:
    """kernels.c; there: the names of all functions that were made."""
    rows, declared = [], []
    for entry, dtype in sorted(((e, d) for e in entries for d in library.served(e)), key=lambda served: key(*served)):
        names = [entry.symbol(p) for p in processors]
        declared += [n for n in names if n in there] if dtype == entry.dtype else []
        rows.append(f"    {{{key(entry, dtype)}, {{{', '.join(n if n in there else 'NULL' for n in names)}}}}},")
    cpus = ", ".join(f'"{p}"' for p in processors)
    return "\n".join([
        "/* Written by capi/tables.py. */", "#include <math.h>", '#include "families.h"', "",
        *(f"extern int32_t {n}(void **, void **, int64_t, int64_t, int64_t, int64_t, int64_t);" for n in declared), "",
        "const kernel_row kernel_rows[] = {", *rows, "};", f"const int kernel_count = {len(rows)};", "",
        f"const char *const processor_names[PROCESSORS] = {{{cpus}}};", "",
        "const formula_info formula_infos[FORMULA_COUNT] = {", *_formula_infos(), "};", "",
        "const pooling_info pooling_infos[POOLING_COUNT] = {", *map(_pooling, poolings()), "};", ""])


def _all_formulas() -> list[Formula]:
    return [f for p in (*own(), *library.PARTS) if folds(p) for f in formulas(p)] + ignoring_folds()


def _formula_infos() -> list[str]:
    dtypes: dict[str, int] = {}
    for e in entries():
        for dtype in library.served(e):
            dtypes[e.formula] = dtypes.get(e.formula, 0) | 1 << DTYPES.index(dtype)
    folds = {f.name: f"{_sizes(f)}, .plain_sum = {str(f.plain_sum).lower()}, "
                     f".common = {str(hasattr(f.module, 'common')).lower()}, " for f in _all_formulas()}
    return [f"    [FORMULA_{n.upper()}] = {{{folds.get(n, '')}.dtypes = {dtypes.get(n, 0)}}}," for n in formula_names()]


def _sizes(f: Formula) -> str:
    sizes = []
    for backward, options in ((False, f.forward), (True, f.backward)):
        accumulators, terms = python._arities(python._names(f.module, backward, options), f.numbers + f.arrays)
        sizes.append(f"{{{accumulators}, {terms}}}")
    return f".way = {{{', '.join(sizes)}}}"


def _variants(f: Formula, parameters: dict[str, Parameter]) -> list[str]:
    p = parameters[f.parameter]
    values = [list(p.choices).index(str(v)) for v in f.values] if p.kind == "option" else f.values  # C's enums count the choices
    is_double = str(p.kind != "option").lower()
    return [f"{{offsetof(numbapool_params, {p.name}), {is_double}, {v}, FORMULA_{f.name.upper()}, {str(f.only_backward).lower()}}}" for v in values]


def _numbers(names: Sequence[Parameter]) -> str:
    return ", ".join(f'{{"{p.name}", offsetof(numbapool_params, {p.name}), {str(p.kind == "positive").lower()}}}' for p in names)


def _array(p: Parameter) -> str:
    """An array parameter: its name, the number that stands for it, its bound and its shapes."""
    offset = f"offsetof(numbapool_params, {p.name})" if functions.numbered(p) else "0"
    above = p.above if math.isfinite(p.above) else "-INFINITY"
    return f'{{"{p.name}", {offset}, {above}, {sum(1 << SHAPES.index(s) for s in p.shapes)}}}'


def _fields(pooling: str) -> dict[str, Any]:
    """A pooling's fields but for its family's."""
    formula = module(pooling)
    form = formula.forms[0]
    defaults = getattr(formula, "defaults", {})
    if not isinstance(form, str):
        defaults = {n: d for n, _, d in form.arguments({})[0] if isinstance(d, int)} | defaults
    kind = "REGULAR" if isinstance(form, str) else {"fractional": "FIXED_OR_FRACTIONAL" if getattr(form, "fixed", False) else "FRACTIONAL",
                                                    "sampled": "SAMPLED", "unpooled": "UNPOOLED"}.get(form.name, form.name.upper())
    return {
        "name": f'"{pooling}"', "family": f"FAMILY_{formula.family.upper()}", "windows": kind,
        "forms": sum(1 << ("sliding", "adaptive", "global").index(f) for f in formula.forms if isinstance(f, str)) or 1,
        "kernel_size": defaults.get("kernel_size") or 0, "stride": defaults.get("stride") or 0, "padding": defaults.get("padding") or 0,
        "filter_size": defaults.get("filter_size") or 0,
        "integers": str(publish.operations(pooling)[0].integers).lower(),
    }


def _pooling(pooling: str) -> str:
    fields = _fields(pooling)
    kernel, constants = SAME.get(pooling, (pooling, ()))
    formula = module(kernel)
    parameters = {p.name: p for p in getattr(formula, "parameters", ())}
    if folds(kernel):
        base, *others = formulas(kernel)
        numbers = [p for p in parameters.values() if p.kind in ("number", "positive")]
        arrays = [p for p in parameters.values() if p.kind == "array"]
        fields |= {"formula": f"FORMULA_{fold_name(kernel).upper()}", "elements": getattr(formula, "elements", 1),
                   "learns": str(base.learns).lower(), "n_numbers": len(constants) or len(numbers)}
        if constants:
            fields["constants"] = f"{{{', '.join(map(repr, constants))}}}, .fixed = true"
        elif numbers:
            fields["numbers"] = f"{{{_numbers(numbers)}}}"
        if arrays:
            fields["array"] = _array(arrays[0])
        variants = [v for f in others for v in _variants(f, parameters)]
        if variants and not constants:
            fields["variants"] = f"{{{', '.join(variants)}}}, .n_variants = {len(variants)}"
    if formula.family == "composed":
        fields |= dict(zip(("array", "second"), map(_array, functions.arrays_of(pooling)), strict=False))
        weights = [p.name for p in parameters.values() if p.kind in ("kernel", "filters")]
        fields |= {"weight": f'"{weights[0]}"'} if weights else {}
    if formula.family not in ("fold", "unpool", "composed"):
        fields["chooses"] = f"FORMULA_{kernel.upper()}"
    if getattr(formula, "by_rank", False):  # outside training it is a pooling by rank
        fields["formula"] = "FORMULA_SORT"
    for field, divided in (("ignoring", False), ("ignoring_divided", True)):
        if found := ignoring(pooling, divided):
            fields[field] = f"FORMULA_{name_of(found).upper()}"
    return f"    [POOLING_{pooling.upper()}] = {{{', '.join(f'.{k} = {v}' for k, v in fields.items())}}},"
