"""What becomes of a result: lines on the screen, the README's table of times, and the picture."""
from __future__ import annotations

import math
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from .rows import FIRST, LARGE, LAST

ROOT = Path(__file__).parents[1]
README, PICTURE = ROOT / "README.md", ROOT / "docs" / "performance.png"
BEGIN, END = "<!-- performance: written by make bench -->\n", "<!-- end -->"
Result = dict[str, Any]

# ---------------------------------------------------------------- the screen

HEAD = f"{'':<78}{'ms':>9} {'GB/s':>6} {'/floor':>7} {'/torch':>7} {'extra MB':>9}"


def number(value: float | None) -> str:
    """Three figures; a dash for what was not measured."""
    if value is None:
        return "-"
    return f"{value:.0f}" if value >= 100 else f"{value:.{2 if value == 0 else max(0, 2 - math.floor(math.log10(value)))}f}"


def line(row: Result) -> str:
    """A row on the screen; /floor and /torch are ratios of times, so less is faster."""
    if "error" in row:
        return f"{row['label']:<78} {row['error'].splitlines()[0][:100]}"
    if "first_ms" in row:
        return f"{row['label']:<78}{number(row['first_ms']):>9}   import {number(row['import_ms'])}, second call {number(row['second_ms'])}"
    others = ", ".join(f"{name} {number(t['ms'])}" for name, t in row["times"].items() if name not in ("numbapool", "floor"))
    base = f"  /base {number(row['to_base'])}" if "to_base" in row else ""
    odd = "".join(f"  {name}: {'another result' if how is False else how}" for name, how in row["agrees"].items() if how is not True)
    return (f"{row['label']:<78}{number(row['times']['numbapool']['ms']):>9} {number(row['gb_s']):>6} {number(row['to_floor']):>7} "
            f"{number(row.get('to_torch')):>7} {number(row['extra_bytes'] / 1e6):>9}{base}  {others}{odd}")


# ---------------------------------------------------------------- the README


def name_of(row: Result) -> str:
    """What is computed, without where and on what."""
    return f"{row['pool']} {row['direction']}"


def is_main(row: Result) -> bool:
    """Whether a row belongs to the comparison of all poolings: non-overlapping windows of two, large, float32, one thread."""
    usual = row["window"] in ("2x2/s2", "k2", "k2/r0.7", "r1.41", "default")
    return usual and tuple(row["shape"]) == LARGE and row["dtype"] == "float32" and row["threads"] == 1


def pairs(rows: Iterable[Result]) -> dict[str, dict[str, Result]]:
    """The main rows by name, then by memory order."""
    found: dict[str, dict[str, Result]] = {}
    for row in filter(is_main, rows):
        found.setdefault(name_of(row), {})[row["order"]] = row
    return found


def markdown(head: tuple[str, ...], body: Iterable[tuple[str, ...]]) -> str:
    """A table whose first column is text and whose others are numbers."""
    lines = ["| " + " | ".join(head) + " |", "|---|" + "---:|" * (len(head) - 1)]
    return "\n".join(lines + ["| " + " | ".join(cells) + " |" for cells in body]) + "\n"


def cells(row: Result | None) -> tuple[str, ...]:
    """ms, GB/s and the two ratios of a row."""
    if row is None:
        return ("-",) * 4
    return number(row["times"]["numbapool"]["ms"]), number(row["gb_s"]), number(row["to_floor"]), number(row.get("to_torch"))


def introduction(result: Result) -> str:
    """Where and with what it was measured, and how to read it."""
    machine = result["machine"]
    v, floors = machine["versions"], machine["floor_gb_s"]
    beside = [f"{name} {v[package]}" for name, package in ((n, package_of(n, v)) for n in result["peers"]) if package]
    caches = ", ".join(f"{name} {size}" for name, size in machine["caches"].items())
    speeds = ", ".join(f"{speed} GB/s with {t[:-1]} thread" + "s" * (t != "1t") for t, speed in floors.items())
    return (f"{machine['cpu']}, {machine['cores']} cores ({caches}), {machine['os']}, Python {v['python']}, Numba {v.get('numba')}, "
            f"NumPy {v.get('numpy')}{''.join(f', {b}' for b in beside)}; revision {machine['revision']}, {machine['date']}. The floor is "
            f"measured in the same run: it reads and writes the same bytes and computes nothing ({speeds}). Both ratios are of times, less is "
            "faster: 1 is the floor's time, or torch's. Poolings that torch lacks are composed of its functions.\n")


def package_of(peer: str, versions: dict[str, str]) -> str | None:
    """The installed package behind a peer's name."""
    return next((name for name in versions if name == peer or name.startswith(f"{peer}-") or name.endswith(f"-{peer}")), None)


def tables(result: Result) -> str:
    """The README's part: all poolings at one size, then the other rows, folded, then first calls."""
    rows = [row for row in result["rows"] if "error" not in row]
    head = ("8x64x112x112 float32, 1 thread", *("ms", "GB/s", "× floor", "× torch") * 2)
    main = markdown(head, [(name, *cells(p.get(FIRST)), *cells(p.get(LAST))) for name, p in pairs(rows).items()])
    rest = markdown(("row", "ms", "GB/s", "× floor", "× torch"), [(row["label"], *cells(row)) for row in rows if not is_main(row)])
    text = (f"{introduction(result)}\n![Times as multiples of the floor](docs/performance.png)\n\n"
            f"The four columns on the left are channels-first, those on the right channels-last memory.\n\n{main}\n"
            f"<details><summary>Other windows, sizes, dtypes and threads</summary>\n\n{rest}\n</details>\n")
    return text + first_calls(result.get("first_calls", []))


def first_calls(rows: list[Result]) -> str:
    """The table of compile times."""
    if not rows:
        return ""
    found: dict[str, dict[str, float]] = {}
    for row in rows:
        found.setdefault(f"{name_of(row)} {row['dtype']}", {})[row["state"]] = row["first_ms"]
    body = [(name, number(times["cold"] / 1e3), number(times["cached"])) for name, times in found.items()]
    return "\n" + markdown(("first call in a process", "compiled, s", "from the disk cache, ms"), body)


def with_tables(readme: str, result: Result) -> str:
    """The README with its performance part made anew."""
    return with_part(readme, BEGIN, tables(result))


def with_part(readme: str, begin: str, text: str) -> str:
    """The README with what follows a line, up to the end that is marked, in its place."""
    if begin not in readme:
        raise ValueError(f"the README has no line {begin.strip()}")
    head, rest = readme.split(begin, 1)
    return head + begin + text + END + rest.split(END, 1)[1]


def write(result: Result, readme: Path = README, picture: Path = PICTURE) -> None:
    """Both, from a result."""
    from .picture import draw
    readme.write_text(with_tables(readme.read_text(encoding="utf-8"), result), encoding="utf-8")
    draw(result, picture)
