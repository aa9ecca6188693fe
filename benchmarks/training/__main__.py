"""The command line of the experiments.

python -m benchmarks.training swap         max, average and SWAP pooling at four learning rates
python -m benchmarks.training sort         sort pooling of 1 to 4 elements on cluttered digits
python -m benchmarks.training fractional   max against fractional max pooling with more layers
python -m benchmarks.training cost         time and memory of a step by kernel size
python -m benchmarks.training report       write the README's section from the results

Each writes benchmarks/results/training-NAME.json and docs/training-NAME.png.
"""
from __future__ import annotations

import argparse
import importlib
import json
import multiprocessing
import os
import time
from concurrent.futures import ProcessPoolExecutor, as_completed
from pathlib import Path
from typing import Any

from tqdm import tqdm

from .. import machine
from . import cost, report

ROOT = Path(__file__).parents[2]
RESULTS, PICTURES = ROOT / "benchmarks/results", ROOT / "docs"


def trained(name: str, seeds: int, epochs: int | None) -> dict[str, Any]:
    """All trainings of an experiment, on all cores."""
    experiment = importlib.import_module(f"{__package__}.{name}")
    epochs = epochs or experiment.EPOCHS
    runs: dict[str, list[Any]] = {label + more: [None] * seeds for label in experiment.CONDITIONS for more in experiment.parts(label)}
    with ProcessPoolExecutor(os.cpu_count(), multiprocessing.get_context("spawn")) as pool:
        waiting = {pool.submit(experiment.run, label, seed, epochs): (label, seed) for seed in range(seeds) for label in experiment.CONDITIONS}
        for done in tqdm(as_completed(waiting), total=len(waiting), unit="training"):
            label, seed = waiting[done]
            for more, found in zip(experiment.parts(label), done.result(), strict=True):
                runs[label + more][seed] = found
    return {"title": experiment.TITLE, "bases": {label: experiment.base(label) for label in runs}, "epochs": epochs, "seeds": seeds, "runs": runs}


def main() -> int:
    """Run a command."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.training", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("experiment", choices=["swap", "sort", "fractional", "cost", "report"])
    parser.add_argument("--seeds", type=int, default=5, help="trainings of each condition (default %(default)s)")
    parser.add_argument("--epochs", type=int, help="of each training; by default the experiment's own number")
    parser.add_argument("--out", type=Path, help="the result file, instead of benchmarks/results/training-NAME.json; no picture then")
    given = parser.parse_args()
    if given.experiment == "report":
        report.write(ROOT / "README.md", RESULTS)
        return 0
    begin = time.monotonic()
    result = {"title": cost.TITLE, "shape": cost.SHAPE, "rows": cost.rows(), "small": cost.small()} if given.experiment == "cost" else \
        trained(given.experiment, given.seeds, given.epochs)
    result |= {"machine": {k: v for k, v in machine.described().items() if k != "floor_gb_s"}, "seconds": round(time.monotonic() - begin)}
    target = given.out or RESULTS / f"training-{given.experiment}.json"
    target.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    print(f"{cost.table(result['rows'])}\n\n{cost.small_table(result['small'])}" if given.experiment == "cost" else report.table(result))
    if given.out is None and given.experiment != "cost":
        report.draw(given.experiment, result, PICTURES / f"training-{given.experiment}.png")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
