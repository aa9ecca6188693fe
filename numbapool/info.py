"""`python -m numbapool info`: what a report of a problem should say."""
from __future__ import annotations

import importlib.metadata
import platform
import re

import numba
from llvmlite import binding

from . import __version__, cache, threads

PACKAGES = ("numba", "llvmlite", "numpy", "torch", "jax", "cupy-cuda13x", "cupy-cuda12x", "numba-cuda", "nvidia-nvvm", "nvidia-cuda-nvcc-cu12",
            "nvidia-nvjitlink", "nvidia-nvjitlink-cu12", "cuda-bindings", "ml_dtypes", "matplotlib", "pillow")
FEATURES = "avx2", "fma", "f16c", "avx512f", "avx512bw", "avx512fp16", "neon", "sve"  # those that decide how wide a kernel's vectors are


def versions() -> list[str]:
    """Names and versions of what is installed and matters, read from the packages' metadata: nothing is imported."""
    found = []
    for name in PACKAGES:
        try:
            found.append(f"{name} {importlib.metadata.version(name)}")
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def processor() -> str:
    """The CPU as LLVM calls it, with its model where the system tells, and the features that kernels use."""
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as file:
            model = re.search(r"^model name\s*:\s*(.+)$", file.read(), re.MULTILINE)
    except OSError:
        model = None
    words = model[1] if model else platform.processor() or platform.machine()
    try:
        features = binding.get_host_cpu_features()
    except RuntimeError:  # LLVM cannot tell on this system
        features = {}
    return f"{words} (LLVM: {binding.get_host_cpu_name()}), {' '.join(f for f in FEATURES if features.get(f)) or 'no known features'}"


def entries() -> str:
    """The cache folder, what it holds, and what this process did with it."""
    folder = cache.folder()
    if folder is None:
        return "no folder to write to: kernels are compiled in every process"
    sizes = [path.stat().st_size for path in folder.glob("*.nbp")]
    counts = cache.stats()
    trouble = f", trouble: {counts['trouble']}" if counts["trouble"] else ""
    return f"{folder}, {len(sizes)} kernels, {sum(sizes) / 1e6:.1f} MB; hits {counts['hits']}, misses {counts['misses']}{trouble}"


def devices() -> str:
    """The CUDA driver and its devices, or why there are none; the compilers stand among the packages, GPU kernels in the cache."""
    from .cuda.driver import CudaError, driver
    try:
        d = driver()
        found = [f"device {i}: {d.name(i)}, capability {'.'.join(map(str, d.capability(i)))}" for i in range(d.devices())]
    except CudaError as error:
        return str(error)
    return "; ".join([f"driver {d.version // 1000}.{d.version % 1000 // 10}", *found])


def report() -> str:
    """All of it, line by line."""
    jit = "off (NUMBA_DISABLE_JIT)" if numba.config.DISABLE_JIT else "on"
    lines = {
        "numbapool": __version__,
        "python": f"{platform.python_version()} ({platform.python_implementation()}), {platform.platform()}",
        "packages": ", ".join(versions()),
        "cpu": processor(),
        "threads": f"{threads.usable()} of {numba.config.NUMBA_NUM_THREADS}, threading layer {threads.layer()}",
        "jit": jit,
        "cuda": devices(),
        "cache": entries(),
    }
    return "\n".join(f"{name:<10} {value}" for name, value in lines.items())
