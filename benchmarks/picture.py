"""The picture of a result: times as multiples of the floor, one line for each pooling and direction."""
from __future__ import annotations

from pathlib import Path
from typing import Any

import matplotlib
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator

from .report import FIRST, LAST, Result, pairs

OURS = "numbapool"
COLOURS = {OURS: "#0b6e99", "torch": "#d9622b", "torch.compile": "#a63d57", "onnxruntime": "#7a5195", "litert": "#5b8c3e", "tensorflow": "#c49a00",
           "jax": "#3b9c8f", "opencv": "#7f7f7f", "scikit-image": "#b07aa1"}
SHAPES = {OURS: "o", "torch": "s", "torch.compile": "D", "onnxruntime": "^", "litert": "v", "tensorflow": ">", "jax": "<", "opencv": "P",
          "scikit-image": "X"}
HEIGHT = 0.24  # inches a line


def points(pair: dict[str, Result]) -> dict[tuple[str, str], float]:
    """Multiples of the floor by (contender, memory order)."""
    found = {}
    for order, row in pair.items():
        bottom = row["times"]["floor"]["ms"]
        found |= {(name, order): t["ms"] / bottom for name, t in row["times"].items() if name in COLOURS}
    return found


def sorted_lines(result: Result) -> list[tuple[str, dict[tuple[str, str], float]]]:
    """The lines, the nearest to the floor first."""
    lines = [(name, points(pair)) for name, pair in pairs(r for r in result["rows"] if "error" not in r).items()]
    return sorted(lines, key=lambda entry: min(v for (who, _), v in entry[1].items() if who == OURS))


def mark(axes: Any, name: str, order: str, x: list[float], y: list[int]) -> None:
    """The markers of one contender in one memory order: full for channels-first, hollow for channels-last."""
    colour = COLOURS[name]
    axes.plot(x, y, SHAPES[name], color=colour, markerfacecolor=colour if order == FIRST else "white", markeredgewidth=1.3,
              markersize=7.5 if name == OURS else 6, zorder=4 if name == OURS else 3, linestyle="none", label=f"{name}, {order}")


def draw(result: Result, path: Path) -> None:
    """Write the picture."""
    lines = sorted_lines(result)
    with matplotlib.rc_context({"font.family": "DejaVu Sans", "font.size": 9.5}):
        figure = Figure(figsize=(9.2, 1.5 + HEIGHT * max(len(lines), 4)), dpi=120, layout="constrained")
        axes = figure.subplots()
        for y, (_, values) in enumerate(lines):
            axes.plot([min(values.values()), max(values.values())], [y, y], color="#d5d9dd", linewidth=1.2, zorder=1)
        for name in COLOURS:
            for order in (FIRST, LAST):
                found = [(values[name, order], y) for y, (_, values) in enumerate(lines) if (name, order) in values]
                if found:
                    mark(axes, name, order, *map(list, zip(*found, strict=True)))
        finish(axes, [name for name, _ in lines])
        path.parent.mkdir(parents=True, exist_ok=True)
        figure.savefig(path)


def finish(axes: Any, names: list[str]) -> None:
    """Axes, labels, and the line at the floor."""
    axes.axvline(1, color="#222222", linewidth=1.2, zorder=2)
    axes.set_xscale("log")
    axes.set_yticks(range(len(names)), names)
    axes.set_ylim(len(names) - 0.4, -0.6)
    axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}×"))
    axes.tick_params(length=0)
    axes.grid(axis="x", color="#eceff1", zorder=0)
    axes.set_axisbelow(True)
    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.set_xlabel("time as a multiple of the floor: reading and writing the same bytes (8x64x112x112 float32, one thread)")
    axes.legend(loc="lower center", bbox_to_anchor=(0.45, 1.0), ncols=4, frameon=False, fontsize=8.5, handletextpad=0.2, columnspacing=1.2)
