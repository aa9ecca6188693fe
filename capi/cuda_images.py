"""Images of CUDA kernels for the C library: cubins and PTX of the kernels of a module, packed into one file.

The images of a module are one LZMA stream, since those of two architectures have much in common: a ninth of their size.
"""
from __future__ import annotations

import lzma
import re
import sys
from collections.abc import Sequence
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np

from numbapool.cuda.stamp import Kernel
from numbapool.stamp import digest_of

ARCHITECTURES = (75, 80, 90, 100, 120)  # of cubins, each of which runs on later devices with the same first digits
FILTERS = [{"id": lzma.FILTER_LZMA1, "preset": 9 | lzma.PRESET_EXTREME, "lc": 0, "lp": 0, "pb": 4, "dict_size": 1 << 26}]
Images = tuple[bytes, ...]  # of ARCHITECTURES, then PTX


def merged(texts: Sequence[str]) -> str:
    """One PTX of several kernels, which share nothing but its head."""
    head = [re.search(r"\.version [\d.]+\s+\.target \w+\s+\.address_size 64", text) for text in texts]
    starts = [text.index(".visible .entry") for text in texts]
    for text, found, start in zip(texts, head, starts, strict=True):
        if not found or re.sub(r"(?m)//.*$", "", text[found.end():start]).strip():
            raise ValueError(f"PTX that cannot be merged:\n{text[:start]}")
    bodies = [re.sub(r"(?m)^\s*//.*\n", "", text[start:]) for text, start in zip(texts, starts, strict=True)]
    return f"{head[0][0]}\n" + "\n".join(bodies)  # type: ignore[index]


def compile_module(kernels: Sequence[Kernel], file: Path, architectures: Sequence[int] = ARCHITECTURES) -> None:
    """Compile the kernels of a module, and pack their images into a file; without an architecture's cubin its devices compile the PTX."""
    from numbapool.cuda import intrinsics
    text = merged([k.ptx() for k in kernels])
    codes = [intrinsics.machine_code(text, divmod(a, 10))[0] if a in architectures else b"" for a in ARCHITECTURES]
    store(pack((*codes, text.encode())), file)


def pack(images: Images) -> bytes:
    """Images as C unpacks them: eight sizes, of which the last is that of the stream, and the stream."""
    packed = lzma.compress(b"".join(images), lzma.FORMAT_RAW, filters=FILTERS)
    sizes = np.zeros(8, np.uint64)
    sizes[:len(images)], sizes[-1] = [len(i) for i in images], len(packed)
    return sizes.tobytes() + packed + bytes(-len(packed) % 8)


def store(data: bytes, file: Path) -> None:
    """Write a file as a whole."""
    part = file.with_suffix(".part")
    part.write_bytes(data)
    part.replace(file)


def _compile(arguments: tuple) -> None:
    entries, file, architectures = arguments  # a kernel does not travel from process to process, but what makes it does
    compile_module([e.made() for e in entries], file, architectures)


def compile_modules(modules: dict[str, Sequence[Any]], folder: Path, jobs: int, architectures: Sequence[int] = ARCHITECTURES) -> dict[str, Path]:
    """The packed images of all modules, of which those that are there are not made again; modules : what has `made()`, a kernel, by their names."""
    try:
        from numbapool.cuda import intrinsics
    except ImportError as error:
        raise SystemExit(f"CUDA kernels are compiled by numba-cuda with the toolkit's compilers ({error}): pip install '.[cuda13]'") from error
    folder.mkdir(parents=True, exist_ok=True)
    files, missing = {}, []
    for name, members in modules.items():
        digest = digest_of([__file__], [e.made().name for e in members], tuple(architectures), intrinsics.VERSION, intrinsics.BASE)
        files[name] = folder / f"{name}-{digest}.cuda"
        if not files[name].exists():
            missing.append((members, files[name], architectures))
    with get_context("spawn").Pool(jobs, maxtasksperchild=2) as pool:
        for i, _ in enumerate(pool.imap_unordered(_compile, missing, chunksize=1)):
            print(f"\r{i + 1} of {len(missing)} modules of CUDA kernels", end="", file=sys.stderr, flush=True)
    if missing:
        print(file=sys.stderr)
    return files
