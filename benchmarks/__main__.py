"""The command line of the benchmarks.

python -m benchmarks [--only REGEX] [--full] [--list]      measure the rows whose labels match
python -m benchmarks --base REV --only REGEX               beside another revision of the library
python -m benchmarks report RESULT.json                    write README.md's table and docs/performance.png
python -m benchmarks cliffs [--quick]                      look for window sizes at which times jump
python -m benchmarks capi [--only REGEX]                   the C library beside Python's calls
python -m benchmarks rasters [--only NAME]                 images in 2x2 blocks, beside what people reduce them with
python -m benchmarks gpu [--only REGEX] [--full]           all poolings on a CUDA device
"""
from __future__ import annotations

import argparse
import json
import os
import re
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from . import compiling, floor, gpu, machine, peers, report, revision, rows, run

RESULTS = Path(__file__).with_name("results")


def options() -> argparse.ArgumentParser:
    """The arguments of all commands."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("command", nargs="?", default="run", choices=["run", "report", "cliffs", "capi", "gpu", "rasters"])
    parser.add_argument("result", nargs="?", type=Path, help="report: the result file")
    parser.add_argument("--only", default="", metavar="REGEX", help="rows whose label it is found in")
    parser.add_argument("--full", action="store_true", help="all rows: hours")
    parser.add_argument("--list", action="store_true", help="print the labels, measure nothing")
    parser.add_argument("--seconds", type=float, default=0.5, help="a row's time, shared by its contenders (default %(default)s)")
    parser.add_argument("--peers", metavar="NAMES", help=f"of {','.join(peers.PEERS)}; all that are installed by default; '' for none")
    parser.add_argument("--compile", action="store_true", help="torch.compile, too")
    parser.add_argument("--first-calls", action="store_true", help="also compile times, each in a process of its own; without --only they are in")
    parser.add_argument("--base", metavar="REV", help="a git revision of the library that takes turns with the working tree")
    parser.add_argument("--json", nargs="?", const="", metavar="PATH", help="write a result file; without PATH named after machine and date")
    parser.add_argument("--report", action="store_true", help="write the report after the run")
    parser.add_argument("--quick", action="store_true", help="cliffs: fewer sizes")
    return parser


def show(found: list[dict[str, Any]], row: dict[str, Any]) -> None:
    """Keep a row and print it at once."""
    found.append(row)
    print(report.line(row), flush=True)


def measure(chosen: list[rows.Row], setting: run.Setting, first_calls: bool) -> dict[str, Any]:
    """A result: the rows, first calls, and the machine."""
    print(f"{len(chosen)} rows; beside numbapool: {', '.join(setting.peers) or 'no peers'}\n{report.HEAD}")
    measured: list[dict[str, Any]] = []
    compiled: list[dict[str, Any]] = []
    for row in run.measured(chosen, setting):
        show(measured, row)
    for row in compiling.rows() if first_calls else ():
        for state in compiling.measure(row):
            show(compiled, state)
    return {"machine": machine.described(), "peers": list(setting.peers), "rows": measured, "first_calls": compiled}


def save(result: dict[str, Any], path: str, suffix: str = "") -> None:
    """Write a result file; an empty path stands for one by machine and date."""
    target = Path(path) if path else RESULTS / f"{machine.short_name(result['machine'])}{suffix}.json"
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    print(f"wrote {target.name}")


def benchmark(given: argparse.Namespace) -> int:
    """The command run."""
    every = rows.full_rows() if given.full else rows.default_rows()
    chosen = [row for row in every if re.search(given.only, str(row)) and row.threads <= (os.cpu_count() or 1)]
    if given.list:
        print("\n".join(map(str, chosen)))
        return 0
    begin = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        base = revision.load(given.base, folder) if given.base else None
        setting = run.Setting(peers.installed(given.compile, given.peers), given.seconds, base)
        result = measure(chosen, setting, given.first_calls or not given.only)
    failed = sum("error" in row for row in result["rows"])
    print(f"{len(chosen)} rows in {time.monotonic() - begin:.0f} s" + f", {failed} failed" * bool(failed))
    if given.json is not None:
        save(result, given.json)
    if given.report:
        report.write(result)
    return 1 if failed else 0


def sweep(given: argparse.Namespace) -> int:
    """The command cliffs."""
    from . import cliffs  # which needs torch
    result = {"machine": machine.described(), **cliffs.sweep(given.quick, given.only)}
    print(cliffs.summary(result))
    if given.json is not None:
        save(result, given.json, "-cliffs")
    return 0


def c_library(given: argparse.Namespace) -> int:
    """The command capi."""
    from . import capi  # which needs the library
    result = {"machine": machine.described(), **capi.sweep(given.only, given.seconds)}
    if given.json is not None:
        save(result, given.json, "-capi")
    return 0


def images(given: argparse.Namespace) -> int:
    """The command rasters."""
    from . import rasters
    result = {"machine": machine.described(), **rasters.sweep(given.only, given.seconds)}
    if given.json is not None:
        save(result, given.json, "-rasters")
    if given.report:
        rasters.write(result)
    return 0


def main(arguments: list[str] | None = None) -> int:
    """Run a command line."""
    parser = options()
    given = parser.parse_args(arguments)
    if given.command == "report":
        if given.result is None:
            parser.error("report needs a result file")
        report.write(json.loads(given.result.read_text(encoding="utf-8")))
        return 0
    if not given.list and floor.compiler() is None:
        parser.error("the floor is C: no compiler (cc, gcc, clang) was found")
    return {"cliffs": sweep, "capi": c_library, "gpu": gpu.main, "rasters": images}.get(given.command, benchmark)(given)


if __name__ == "__main__":
    sys.exit(main())
