"""Tables and pictures of the experiments' results."""
from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import matplotlib
from matplotlib.figure import Figure

from . import cost, fit

NAMES = ("swap", "sort", "fractional")
BEGIN, END = "<!-- experiments: written by python -m benchmarks.training report -->\n", "<!-- end of experiments -->"


def values(result: dict[str, Any], label: str, what: str) -> list[float]:
    """One number a seed."""
    return [run[what] for run in result["runs"][label]]


def table(result: dict[str, Any]) -> str:
    """Means over seeds with their 95 % intervals, and the difference to another condition, seed by seed."""
    head = f"{result['seeds']} seeds, {result['epochs']} epochs"
    lines = [f"| {head} | accuracy % | cross-entropy | accuracy − that of |", "|---|---|---|---|"]
    for label in result["runs"]:
        accuracy, half = fit.interval(values(result, label, "accuracy"))
        loss, spread = fit.interval(values(result, label, "loss"))
        base = result["bases"][label]
        more, width = fit.difference(values(result, base, "accuracy"), values(result, label, "accuracy"))
        apart = "" if label == base else f"{100 * more:+.2f} ± {100 * width:.2f} ({base})"
        lines.append(f"| {label} | {100 * accuracy:.2f} ± {100 * half:.2f} | {loss:.4f} ± {spread:.4f} | {apart} |")
    return "\n".join(lines)


def draw(name: str, result: dict[str, Any], path: Path) -> None:
    """Accuracies with their intervals, one dot a seed; for SWAP also the sizes of gradients."""
    labels = list(result["runs"])
    sized = [label for label in labels if "gradients" in result["runs"][label][0]]
    with matplotlib.rc_context({"font.family": "DejaVu Sans", "font.size": 9}):
        figure = Figure(figsize=(12 if sized else 7.5, 1.2 + 0.26 * len(labels)), dpi=110, layout="constrained")
        axes = figure.subplots(1, 2) if sized else [figure.subplots()]
        for y, label in enumerate(labels):
            found = [100 * v for v in values(result, label, "accuracy")]
            mean, half = fit.interval(found)
            axes[0].plot(found, [y] * len(found), ".", color="#9db8c4", zorder=2)
            axes[0].errorbar(mean, y, xerr=half, fmt="o", color="#0b6e99", capsize=3, zorder=3)
        axes[0].set_yticks(range(len(labels)), labels)
        axes[0].invert_yaxis()
        axes[0].set_xlabel("test accuracy in %: mean of seeds, its 95 % interval, and the seeds")
        axes[0].grid(axis="x", color="#eceff1")
        if sized:
            gradients(axes[1], result, sized)
        figure.savefig(path)


def gradients(axes: Any, result: dict[str, Any], labels: list[str]) -> None:
    """Boxes from the 25 % to the 75 % quantile, whiskers from 1 % to 99 %, over seeds on average."""
    for y, label in enumerate(labels):
        q = [sum(run["gradients"][i] for run in result["runs"][label]) / result["seeds"] for i in range(7)]
        axes.bxp([{"med": q[3], "q1": q[2], "q3": q[4], "whislo": q[0], "whishi": q[6], "fliers": []}], [y], vert=False, widths=0.5)
    axes.set_yticks(range(len(labels)), labels)
    axes.invert_yaxis()
    axes.set_xscale("symlog", linthresh=1e-4)
    axes.set_xlabel("size of gradients at the first convolution, before training (1, 25, 50, 75, 99 %)")


def write(readme: Path, results: Path) -> None:
    """The README's tables from the committed results."""
    text = readme.read_text(encoding="utf-8")
    head, rest = text.split(BEGIN)
    parts = []
    for name in NAMES:
        result = json.loads((results / f"training-{name}.json").read_text(encoding="utf-8"))
        parts.append(f"\n**{result['title']}** (`python -m benchmarks.training {name}`, {result['seconds']} s)\n\n{table(result)}\n\n"
                     f"![{result['title']}](docs/training-{name}.png)\n")
    result = json.loads((results / "training-cost.json").read_text(encoding="utf-8"))
    parts.append(f"\n**{result['title']}** (`python -m benchmarks.training cost`; {'x'.join(map(str, result['shape']))} float32, one thread of "
                 f"{result['machine']['cpu']})\n\n{cost.table(result['rows'])}\n\n{cost.small_table(result['small'])}\n")
    readme.write_text(head + BEGIN + "".join(parts) + END + rest.split(END, 1)[1], encoding="utf-8")
