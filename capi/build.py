"""Builds the C library: `python -m capi.build` makes build/capi with include/, lib/ and the generated sources in src/.

Every kernel is compiled by Numba, once for each kind of processor, on all cores; then the C compiler ($CC, else cc) makes the rest and links. What is
unchanged since the last build is not compiled again.
"""
from __future__ import annotations

import argparse
import gc
import importlib.util
import os
import platform
import re
import shlex
import shutil
import subprocess
import sys
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from multiprocessing import get_context
from pathlib import Path

from numbapool.numeric import DTYPES, INTEGERS
from numbapool.stamp import digest_of

from . import ahead, cuda, cuda_images, functions, header, kernels, layout, package, tables

HERE = Path(__file__).parent
DEFAULT = HERE.parent / "build" / "capi"
PROCESSORS = {"x86_64": ("x86-64", "x86-64-v3", "x86-64-v4")}.get(platform.machine(), ("generic",))
FLAGS = ("-std=c11", "-O3", "-fPIC", "-fvisibility=hidden", "-pthread", "-Wall", "-Wextra", "-Wconversion", "-Wsign-conversion", "-Wno-psabi")
GROUP, GROUPS = 14, 12  # kernels that a process takes at a time, and how often: with more it would take more than a gigabyte
HALF = ("__extendhfsf2", "__truncsfhf2")  # what old x86 processors call for float16: only recent compilers' own libraries have them, ours is half.c


def cc() -> list[str]:
    """The C compiler."""
    return os.environ.get("CC", "cc").split()


def run(*command: str | Path) -> None:
    """A command of the toolchain; what it says is shown where it fails."""
    done = subprocess.run([str(c) for c in command], capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"{' '.join(map(str, command[:8]))} ...\n{done.stdout}{done.stderr}")


# ---------------------------------------------------------------- kernels

def wanted(entry: kernels.Entry, processors: Sequence[str]) -> list[str]:
    """The processors that a kernel is compiled for: the oldest has the general ones alone; integers' and what is left over serve the newest, too."""
    left_out = set() if entry.plain else {"x86-64"}
    if len(processors) > 1 and (entry.spare or (entry.plain and entry.dtype in INTEGERS)):
        left_out.add("x86-64-v4")
    return [p for p in processors if p not in left_out]


def compile_group(names: Sequence[str], processors: Sequence[str], folder: Path) -> dict[str, str]:
    """Compile some kernels; returns the files by functions' names."""
    ahead.check_version()
    gc.disable()  # Numba makes many small objects: what can go is looked for once a kernel, among those of this kernel
    machines = {p: ahead.Processor(p, triple()) for p in processors}
    made, entries = {}, {e.name: e for e in kernels.entries()}
    for name in names:
        kernel = entries[name].make()
        digest = digest_of([ahead.__file__], kernel.py_func.__name__)
        files = {p: folder / f"{name}-{digest}-{p}.o" for p in wanted(entries[name], processors)}
        missing = [p for p, file in files.items() if not file.exists()]
        bitcode, function = ahead.front(kernel) if missing else (b"", "")
        for p in missing:
            part = files[p].with_suffix(f".{os.getpid()}")
            part.write_bytes(machines[p].emit(bitcode, function, entries[name].symbol(p)))
            part.replace(files[p])
        made |= {entries[name].symbol(p): str(file) for p, file in files.items()}
        gc.collect()
        gc.freeze()
    return made


def triple() -> str:
    """This machine's kind, as LLVM names it."""
    from llvmlite import binding
    return binding.get_process_triple()


def compile_kernels(entries: Sequence[kernels.Entry], processors: Sequence[str], folder: Path, jobs: int) -> dict[str, str]:
    """All kernels, in groups of mostly one dtype, which share some of the front end; a process does a few: Numba keeps some of what it makes."""
    folder.mkdir(parents=True, exist_ok=True)
    names = [e.name for e in sorted(entries, key=lambda e: (DTYPES.index(e.dtype), e.formula))]
    work = [(names[i:i + GROUP], processors, folder) for i in range(0, len(names), GROUP)]
    made: dict[str, str] = {}
    with get_context("spawn").Pool(jobs, maxtasksperchild=GROUPS) as pool:
        for i, done in enumerate(pool.imap_unordered(compile_some, work, chunksize=1)):
            made |= done
            print(f"\r{len(made)} objects of kernels ({i + 1} of {len(work)} groups)", end="", file=sys.stderr, flush=True)
    print(file=sys.stderr)
    return made


def compile_some(arguments: tuple) -> dict[str, str]:
    """compile_group, for a pool that passes on one argument."""
    return compile_group(*arguments)


def merge_kernels(made: dict[str, str], processors: Sequence[str], folder: Path) -> list[Path]:
    """One object a processor, of which only the kernels' names are left.

    Each kernel begins at a line of 64 bytes, as a just-in-time one does: the same code 16 bytes further on took up to a quarter longer.
    """
    merged, script = [], folder / "lines.ld"
    script.write_text("SECTIONS { .text : SUBALIGN(64) { *(.text .text.* .ltext .ltext.*) } }\n")
    for processor in processors:
        files = [f for f in made.values() if f.endswith(f"-{processor}.o")]
        if not files:
            continue
        target = folder / f"kernels-{processor}.o"
        (folder / "list").write_text("\n".join(files))
        run("ld", "-r", "-T", script, "-o", target, f"@{folder / 'list'}")
        run("objcopy", "--discard-all", "--wildcard", "--strip-symbol=.const.*", *(f"--redefine-sym={s}=numbapool{s}" for s in HALF), target)
        merged.append(target)
    return merged


# ---------------------------------------------------------------- C

def write(file: Path, text: str) -> None:
    """Write a file, unless it says that already."""
    if not file.exists() or file.read_text() != text:
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)


def write_sources(entries: Sequence[kernels.Entry], processors: Sequence[str], there: set[str], prefix: Path,
                  on_cuda: Sequence[cuda.Entry] = (), images: dict[str, Path] | None = None) -> None:
    """The generated sources."""
    write(prefix / "include" / "numbapool.h", header.text())
    for name, text in {"layout.h": layout.header(), "kernels.h": tables.header(processors), "functions.c": functions.source(),
                       "kernels.c": tables.source(entries, processors, there), "cuda_kernels.h": cuda.header(),
                       "cuda_kernels.c": cuda.source(on_cuda, images or {}), "jax_tables.h": functions.jax_tables()}.items():
        write(prefix / "src" / name, text)


def c_sources(prefix: Path) -> list[Path]:
    """Every C file of the library."""
    return [*sorted((HERE / "src").glob("*.c")), *(prefix / "src" / f"{name}.c" for name in ("functions", "kernels", "cuda_kernels"))]


def c_flags(prefix: Path) -> list[str]:
    """Where headers are, and what the sources want to be told."""
    return [f"-I{HERE / 'src'}", f"-I{prefix / 'src'}", f"-I{prefix / 'include'}", f'-DNUMBAPOOL_VERSION_TEXT="{header.version()}"']


def compile_c(prefix: Path, folder: Path, jobs: int) -> list[Path]:
    """The objects of the C sources."""
    def compiled(source: Path) -> Path:
        made = folder / f"{source.stem}.o"
        run(*cc(), *FLAGS, *c_flags(prefix), "-c", source, "-o", made)
        return made
    with ThreadPoolExecutor(jobs) as pool:
        return list(pool.map(compiled, c_sources(prefix)))


def link(objects: Sequence[Path], merged: Sequence[Path], prefix: Path) -> None:
    """The shared and the static library, and one of the kernels alone, which sanitised builds of the sources use."""
    lib = prefix / "lib"
    lib.mkdir(parents=True, exist_ok=True)
    shared = lib / f"libnumbapool.so.{package.ABI}"
    run(*cc(), "-shared", "-pthread", f"-Wl,-soname,{shared.name}", "-Wl,--no-undefined", "-Wl,-z,noexecstack", "-Wl,-z,relro", "-o", shared,
        *objects, *merged, "-lm", "-ldl")
    plain = lib / "libnumbapool.so"
    plain.unlink(missing_ok=True)
    plain.symlink_to(shared.name)
    whole = merged[0].with_name("whole.o")  # one object: what only the sources share is no name for the program that it is linked into
    run("ld", "-r", "-o", whole, *objects, *merged)
    run("objcopy", "--localize-hidden", whole)
    for name, parts in (("libnumbapool.a", [whole]), ("libnumbapool_kernels.a", merged)):
        (lib / name).unlink(missing_ok=True)
        run("ar", "rcs", lib / name, *parts)


def link_jax(prefix: Path) -> None:
    """The handler through which XLA calls the library, where JAX and a C++ compiler are."""
    target, jaxlib = prefix / package.JAX, importlib.util.find_spec("jaxlib")
    target.unlink(missing_ok=True)
    compiler = os.environ.get("CXX") or shutil.which("g++") or shutil.which("clang++")
    if jaxlib is None or compiler is None:
        print(f"no handler for JAX: there is no {'jax' if jaxlib is None else 'C++ compiler'}", file=sys.stderr)
        return
    include = Path(jaxlib.submodule_search_locations[0]) / "include"  # type: ignore[index]
    run(*shlex.split(compiler), "-std=c++17", "-O2", "-fPIC", "-shared", "-fvisibility=hidden", "-Wall", "-Wextra", "-isystem", include,
        *c_flags(prefix), HERE / "src" / "jax.cc", "-o", target, f"-L{prefix / 'lib'}", "-lnumbapool", "-Wl,-rpath,$ORIGIN")


# ---------------------------------------------------------------- all

def build(prefix: Path = DEFAULT, chosen: Sequence[kernels.Entry] | None = None, processors: Sequence[str] = PROCESSORS,
          jobs: int = os.cpu_count() or 1, on_cuda: Sequence[cuda.Entry] = (), architectures: Sequence[int] = cuda_images.ARCHITECTURES) -> Path:
    """Build a library of some kernels, or of all, into `prefix`; returns that.  on_cuda : kernels for CUDA devices of some architectures."""
    ahead.check_version()
    begun, folder = time.perf_counter(), prefix / "objects"
    common = prefix.parent / "objects"  # shared by libraries of other kernels
    entries = kernels.entries() if chosen is None else chosen
    made = compile_kernels(entries, processors, common, jobs)
    images = cuda_images.compile_modules(cuda.modules(on_cuda), common, jobs, architectures) if on_cuda else {}
    write_sources(entries, processors, set(made), prefix, on_cuda, images)
    folder.mkdir(parents=True, exist_ok=True)
    link(compile_c(prefix, folder, jobs), merge_kernels(made, processors, folder), prefix)
    link_jax(prefix)
    package.write(prefix)
    size = (prefix / "lib" / f"libnumbapool.so.{package.ABI}").stat().st_size
    print(f"{prefix}: {len(entries)} kernels, {size / 1e6:.1f} MB, {time.perf_counter() - begun:.0f} s", file=sys.stderr)
    return prefix


def install(built: Path, prefix: Path) -> None:
    """Copy what users need to a prefix such as /usr/local."""
    for folder in ("include", "lib"):
        shutil.copytree(built / folder, prefix / folder, symlinks=True, dirs_exist_ok=True, ignore=shutil.ignore_patterns("*_kernels.a"))


def this_processor() -> str:
    """The best of PROCESSORS that this machine is."""
    if len(PROCESSORS) == 1:
        return PROCESSORS[0]
    flags = Path("/proc/cpuinfo").read_text() if Path("/proc/cpuinfo").exists() else ""
    has = {level: all(re.search(rf"\b{f}\b", flags) for f in names) for level, names in
           {"x86-64-v4": ("avx512f", "avx512bw", "avx512cd", "avx512dq", "avx512vl"), "x86-64-v3": ("avx2", "bmi2", "fma", "f16c")}.items()}
    return next((level for level, there in has.items() if there), "x86-64")


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(prog="python -m capi.build", description=__doc__)
    parser.add_argument("--out", type=Path, default=DEFAULT, help="where to build (default: build/capi)")
    parser.add_argument("--prefix", type=Path, help="where to install headers and libraries afterwards, as /usr/local")
    parser.add_argument("--only", default="", metavar="PATTERN", help="kernels whose names match, instead of all")
    parser.add_argument("--few", action="store_true", help="the kernels that tests need, instead of all")
    parser.add_argument("--cuda", action="store_true", help="with kernels for CUDA devices (needs the extra cuda13)")
    parser.add_argument("--native", action="store_true", help="for this machine's kind of processor alone")
    parser.add_argument("--processor", action="store_true", help="only tell this machine's kind of processor")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="processes that compile")
    arguments = parser.parse_args()
    if arguments.processor:
        print(this_processor())
        return
    chosen = [e for e in (kernels.few() if arguments.few else kernels.entries()) if re.search(arguments.only, e.name)]
    on_cuda = [e for e in (cuda.few() if arguments.few else cuda.entries()) if re.search(arguments.only, e.name)] if arguments.cuda else []
    build(arguments.out.absolute(), chosen, (this_processor(),) if arguments.native else PROCESSORS, arguments.jobs, on_cuda,
          cuda.FEW_ARCHITECTURES if arguments.few else cuda_images.ARCHITECTURES)
    if arguments.prefix:
        install(arguments.out.absolute(), arguments.prefix)


if __name__ == "__main__":
    main()
