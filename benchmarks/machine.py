"""What a result was measured on, without anything that names the machine's owner: no path, no host."""
from __future__ import annotations

import datetime
import importlib.metadata
import os
import platform
import re
import subprocess
from pathlib import Path
from typing import Any

from numbapool import threads

from . import floor, timing

ROOT = Path(__file__).parents[1]
PACKAGES = ("numba", "llvmlite", "numpy", "torch", "jax", "onnxruntime", "ai-edge-litert", "tensorflow", "tensorflow-cpu",
            "opencv-python", "opencv-python-headless", "scikit-image", "xarray", "dask")


def text(path: str) -> str:
    """A file's text; empty where it is missing."""
    try:
        return Path(path).read_text(encoding="utf-8").strip()
    except OSError:
        return ""


def processor() -> str:
    """The CPU's model."""
    model = re.search(r"^model name\s*:\s*(.+)$", text("/proc/cpuinfo"), re.MULTILINE)
    return model[1] if model else platform.processor() or platform.machine()


def caches() -> dict[str, str]:
    """The caches that the first core sees, such as {"L1 Data": "32K"}."""
    found = {}
    for folder in sorted(Path("/sys/devices/system/cpu/cpu0/cache").glob("index*")):
        level, kind, size = (text(str(folder / name)) for name in ("level", "type", "size"))
        found[f"L{level}" + ("" if kind == "Unified" else f" {kind}")] = size
    return found


def memory() -> float | None:
    """Main memory in GB."""
    total = re.search(r"MemTotal:\s*(\d+) kB", text("/proc/meminfo"))
    return round(int(total[1]) * 1024 / 1e9, 1) if total else None


def versions() -> dict[str, str]:
    """The packages that take part."""
    found = {"python": platform.python_version()}
    for name in PACKAGES:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def git(*arguments: str) -> str:
    """What git says about this checkout; empty where there is no git."""
    try:
        return subprocess.run(["git", "-C", str(ROOT), *arguments], capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return ""


def revision() -> str:
    """The commit, marked where the library differs from it."""
    commit = git("rev-parse", "--short", "HEAD") or "unknown"
    return commit + (" with changes" if git("status", "--porcelain", "numbapool") else "")


def floors() -> dict[str, float]:
    """GB/s of the floor that reads and writes 64 MB each, by the number of threads."""
    size, found = 64 << 20, {}
    for count in sorted({1, os.cpu_count() or 1}):
        times = timing.interleaved(floor.contenders(size, size, count, True), 0.5)
        found[f"{count}t"] = round(2 * size / min(t.median for t in times.values()) / 1e9, 2)
    return found


def described() -> dict[str, Any]:
    """All of it."""
    libc = " ".join(platform.libc_ver())
    return {
        "cpu": processor(), "cores": os.cpu_count(), "caches": caches(), "memory_gb": memory(),
        "os": f"{platform.system()} {platform.release().split('-')[0]}, {libc}".strip(" ,"),
        "versions": versions(), "threading_layer": threads.layer(), "revision": revision(),
        "date": datetime.date.today().isoformat(), "floor_gb_s": floors(),
    }


def short_name(machine: dict[str, Any]) -> str:
    """Of a result file: CPU and date."""
    cpu = re.sub(r"[^a-z0-9]+", "-", re.sub(r"\((r|tm)\)|@.*|cpu|processor", " ", machine["cpu"].lower())).strip("-")
    return f"{cpu}-{machine['date']}"
