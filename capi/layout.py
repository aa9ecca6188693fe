"""layout.h: the numbers that planners and kernels share, as C constants, so that none is typed twice."""
from __future__ import annotations

from numbapool import bundles, choices, detail, memory, plan, sweeps
from numbapool.loops import layout
from numbapool.loops.cpu import cells, nine, separate, three, weigh
from numbapool.loops.cpu import detail as details


def constants() -> dict[str, int]:
    """Every constant by its name in C: fields of a plan as AT_..., since N, D or X would be no good names there."""
    fields = {f"AT_{name}": value for name, value in vars(layout).items() if name.isupper() and isinstance(value, int)}
    common = {"OPERANDS": layout.OPERANDS}
    common |= {name: getattr(memory, name) for name in ("ASK_FROM", "ASK_LEAST", "ASK_MOST", "CELLS", "LANES", "VECTOR")}
    for prefix, module in (("WEIGH", weigh), ("DETAIL", details), ("SEPARATE", separate)):
        common |= {f"{prefix}_{name}": value for name, value in vars(module).items() if name.isupper() and isinstance(value, int)}
    common["DETAIL_WORK"] = detail.WORK
    common |= {"BUNDLE_LANES": bundles.LANES, "BUNDLE_ROOM": bundles.ROOM, "SHORT_ROW": plan.SHORT_ROW}
    common |= {f"WIDEST_{name}": value for name, value in bundles.WIDEST.items()}
    common |= {"BAND": three.BAND, "SIDES": nine.SIDES, "SWEEP_STATE": cells.STATE, "CHOICES_LEAST": choices.LEAST, "CHOICES_PLACE": choices.PLACE}
    of_sweeps = "RING", "SHORT", "THREE", "PLANE", "PLANES", "TASKS", "HELD", "TALL", "LEAST", "LONG", "TURN"
    return fields | common | {f"SWEEP_{name}": getattr(sweeps, name) for name in of_sweeps}


def header() -> str:
    """The text of layout.h."""
    lines = [f"    {name} = {value}" for name, value in constants().items()]
    return "\n".join(["/* Written by capi/layout.py from numbapool's loops/layout.py (AT_...), memory.py, sweeps.py (SWEEP_...), three.py, cells.py,",
                      " * nine.py, weigh.py (WEIGH_...), detail.py (DETAIL_...), separate.py (SEPARATE_...), bundles.py (BUNDLE_..., WIDEST_...),",
                      " * plan.py, choices.py. */",
                      "#ifndef NUMBAPOOL_LAYOUT_H", "#define NUMBAPOOL_LAYOUT_H", "", "enum {", ",\n".join(lines), "};", "", "#endif", ""])
