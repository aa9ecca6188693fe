"""The C library as C, C++ and Rust programs see it: one small program a hazard (capi/tests), the examples, sanitizers, and what it is linked with."""
from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import capi_library
import numpy as np
import pytest
from capi_library import ROOT

library = capi_library.library
PROGRAMS = {n: ROOT / "capi" / "tests" / f"{n}.c" for n in
            ("bad_tensors", "concurrent", "fork", "guard_pages", "host_threads", "reload", "strides", "workspace")}
EXAMPLES = ROOT / "capi" / "examples"
WARNINGS = ("-Wall", "-Wextra", "-Wconversion", "-Wsign-conversion", "-Werror")
LIMIT = 900  # seconds: only a hang takes so long
SMALL = {"guard_pages": ("41",)}  # what a sanitizer or valgrind runs: every 41st case


def compilers() -> list[str]:
    """The C compilers of this machine."""
    named = os.environ.get("CC")
    return [c for c in ([named] if named else ["gcc", "clang"]) if shutil.which(c)]


def run(*command: str | Path, env: dict[str, str] | None = None) -> str:
    """The output of a command that ended well."""
    done = subprocess.run([str(c) for c in command], capture_output=True, text=True, timeout=LIMIT, env=env)
    assert done.returncode == 0, f"{' '.join(map(str, command))}: status {done.returncode}\n{done.stdout[-4000:]}\n{done.stderr[-4000:]}"
    return done.stdout


def bare(folder: Path, **more: str) -> dict[str, str]:
    """An environment in which no Python can be found."""
    empty = folder / "empty"
    empty.mkdir(exist_ok=True)
    return {"PATH": str(empty), **more}


def flags(library: Path, static: bool = False) -> list[str]:
    """How a program is linked, where its library is found, and what that needs itself."""
    lib = library / "lib"
    return [f"-I{library / 'include'}", *([str(lib / "libnumbapool.a")] if static else [f"-L{lib}", f"-Wl,-rpath,{lib}", "-lnumbapool"]),
            "-pthread", "-lm", "-ldl"]


def compiled(compiler: str, source: Path, target: Path, *more: str | Path) -> Path:
    """Compile a program of capi/tests or of the examples."""
    standard = {".cpp": "-std=c++17"}.get(source.suffix, "-std=c99" if source.parent == EXAMPLES else "-std=c11")
    run(compiler, standard, *WARNINGS, "-O1", "-g", source, "-o", target, *more)
    return target


def arguments(name: str, library: Path) -> list[str]:
    """What a program wants to be told."""
    return [str(library / "lib" / "libnumbapool.so")] if name == "reload" else []


@pytest.mark.parametrize("compiler", compilers())
@pytest.mark.parametrize("name", PROGRAMS)
def test_hazard(name, compiler, library, tmp_path):
    needed = [f for f in flags(library) if name != "reload" or f != "-lnumbapool"]  # which loads the library itself, and unloads it
    program = compiled(compiler, PROGRAMS[name], tmp_path / name, *needed)
    assert run(program, *arguments(name, library), env=bare(tmp_path)).startswith(f"{name}: ok")


def needs(isa: str, library: Path) -> None:
    """Skip where the library has no kernels for an instruction set, or the processor has not got it."""
    code = "import ctypes, sys; f = ctypes.CDLL(sys.argv[1]).numbapool_isa; f.restype = ctypes.c_char_p; print(f().decode())"
    found = run(sys.executable, "-c", code, library / "lib" / "libnumbapool.so", env={**os.environ, "NUMBAPOOL_ISA": isa}).strip()
    if found != isa:
        pytest.skip(f"the library runs {found} here, not {isa}")


@pytest.mark.skipif(shutil.which("nm") is None, reason="there is no nm")
def test_kernels_begin_at_lines_of_memory(library):
    """On which their speed depends."""
    rows = [line.split() for line in run("nm", library / "lib" / "libnumbapool.so").splitlines()]
    places = [int(row[0], 16) for row in rows if len(row) == 3 and re.match(r"numbapool_\w+_for_\w+", row[2])]
    assert len(places) > 100 and not any(place % 64 for place in places)


@pytest.mark.full
@pytest.mark.parametrize("isa", ["x86-64", "x86-64-v3", "x86-64-v4"])
def test_guard_pages_of_every_instruction_set(isa, library, tmp_path):
    needs(isa, library)
    program = compiled(compilers()[0], PROGRAMS["guard_pages"], tmp_path / "guard_pages", *flags(library))
    assert run(program, "1", env=bare(tmp_path, NUMBAPOOL_ISA=isa)).startswith("guard_pages: ok")


# ---------------------------------------------------------------- examples

def pixels(file: Path) -> np.ndarray:
    """The image of a binary PPM file."""
    kind, width, height, most, data = file.read_bytes().split(maxsplit=4)
    assert (kind, most) == (b"P6", b"255")
    return np.frombuffer(data, np.uint8).reshape(int(height), int(width), 3).astype(float)


@pytest.mark.parametrize("static", [False, True], ids=["shared", "static"])
def test_photo(static, library, tmp_path):
    program = compiled(compilers()[0], EXAMPLES / "photo.c", tmp_path / "photo", *flags(library, static))
    run(program, "-", tmp_path / "a.ppm", env=bare(tmp_path))
    windows = pixels(tmp_path / "a.ppm").reshape(30, 2, 40, 2, 3)
    for pooling in ("soft", "avg", "gem", "max"):
        run(program, tmp_path / "a.ppm", tmp_path / "b.ppm", pooling, env=bare(tmp_path))
        found = pixels(tmp_path / "b.ppm")
        assert found.shape == (30, 40, 3)
        assert ((found >= windows.min((1, 3))) & (found <= windows.max((1, 3)))).all()
        if pooling in ("avg", "max"):
            assert abs(found - getattr(np, {"avg": "mean"}.get(pooling, pooling))(windows, (1, 3))).max() <= 0.51
    wrong = subprocess.run([program, tmp_path / "none.ppm", tmp_path / "c.ppm"], capture_output=True, text=True)
    assert wrong.returncode == 1
    assert "none.ppm" in wrong.stderr


@pytest.mark.parametrize("static", [False, True], ids=["shared", "static"])
def test_cpp(static, library, tmp_path):
    compiler = os.environ.get("CXX", "c++")
    if not shutil.which(compiler):
        pytest.skip(f"there is no {compiler}")
    program = compiled(compiler, EXAMPLES / "pool.cpp", tmp_path / "pool", *flags(library, static))
    assert "all as expected" in run(program, env=bare(tmp_path))


def test_readme(library, tmp_path):
    text = (ROOT / "capi" / "README.md").read_text()
    (tmp_path / "a.c").write_text(re.search(r"```c\n(.*?)```", text, re.DOTALL)[1])
    expected = re.search(r"It prints `(.*?)`", text)[1]
    assert run(compiled(compilers()[0], tmp_path / "a.c", tmp_path / "a", *flags(library)), env=bare(tmp_path)) == expected + "\n"


def test_rust(library, tmp_path):
    if not shutil.which("rustc"):
        pytest.skip("there is no rustc")
    program = tmp_path / "pool"
    run("rustc", "-D", "warnings", "-L", library / "lib", "-l", "numbapool", "-o", program, EXAMPLES / "pool.rs")
    assert "of shape [1, 1, 1, 1]" in run(program, env=bare(tmp_path, LD_LIBRARY_PATH=str(library / "lib")))


# ---------------------------------------------------------------- what users link with

def test_needs_only_the_c_library(library):
    needed = set(re.findall(r"^\s*(\S+)", run("ldd", library / "lib" / "libnumbapool.so"), re.MULTILINE))
    allowed = re.compile(r"(linux-vdso|libc|libm|libpthread|ld-linux[-\w]*)\.so(\.\d+)?$|musl")
    assert {n for n in needed if not allowed.search(n)} == set()


def test_exports_only_the_interface(library):
    names = set(re.findall(r" [A-Z] (\w+)", run("nm", "-D", "--defined-only", library / "lib" / "libnumbapool.so")))
    declared = set(re.findall(r"\b(numbapool_\w+)\(", (library / "include" / "numbapool.h").read_text())) - {"numbapool_body"}
    assert names - {"_init", "_fini"} == declared


def test_pkg_config(library, tmp_path):
    if not shutil.which("pkg-config"):
        pytest.skip("there is no pkg-config")
    found = run("pkg-config", "--cflags", "--libs", "numbapool", env={**os.environ, "PKG_CONFIG_PATH": str(library / "lib" / "pkgconfig")}).split()
    program = compiled(compilers()[0], EXAMPLES / "photo.c", tmp_path / "photo", *found, f"-Wl,-rpath,{library / 'lib'}")
    assert "soft pooling: 80 x 60 from 160 x 120" in run(program, "-", tmp_path / "a.ppm", env=bare(tmp_path))


def test_cmake(library, tmp_path):
    if not shutil.which("cmake"):
        pytest.skip("there is no cmake")
    (tmp_path / "CMakeLists.txt").write_text(f"""cmake_minimum_required(VERSION 3.13)
project(photo C)
find_package(numbapool REQUIRED)
add_executable(photo {EXAMPLES / 'photo.c'})
target_link_libraries(photo numbapool::numbapool)
""")
    run("cmake", "-S", tmp_path, "-B", tmp_path / "build", f"-DCMAKE_PREFIX_PATH={library}")
    run("cmake", "--build", tmp_path / "build")
    assert "soft pooling" in run(tmp_path / "build" / "photo", "-", tmp_path / "a.ppm", env=bare(tmp_path))


# ---------------------------------------------------------------- sanitizers and valgrind

def sanitised(name: str, kind: str, library: Path, folder: Path) -> Path:
    """A program with the C sources of the library compiled by a sanitizer, and the kernels as they are."""
    sources = [*(ROOT / "capi" / "src").glob("*.c"), *(library / "src").glob("*.c")]
    program = folder / f"{name}-{kind.replace(',', '-')}"
    run("gcc", "-std=gnu11", "-O1", "-g", f"-fsanitize={kind}", "-fno-sanitize-recover=all", '-DNUMBAPOOL_VERSION_TEXT="test"',
        f"-I{ROOT / 'capi' / 'src'}", f"-I{library / 'src'}", f"-I{library / 'include'}", PROGRAMS[name], *sources,
        library / "lib" / "libnumbapool_kernels.a", "-pthread", "-lm", "-ldl", "-o", program)
    return program


# AddressSanitizer's allocator does not survive a fork among threads, and reload is about a library that is not linked
@pytest.mark.full
@pytest.mark.parametrize("name", [n for n in PROGRAMS if n not in ("fork", "reload")])
def test_address_and_undefined_behaviour(name, library, tmp_path):
    run(sanitised(name, "address,undefined", library, tmp_path), *SMALL.get(name, ()), env=bare(tmp_path))


@pytest.mark.full
@pytest.mark.parametrize("name", ["concurrent", "host_threads", "workspace"])
def test_threads(name, library, tmp_path):
    program = sanitised(name, "thread", library, tmp_path)
    plain = [setarch, "-R"] if (setarch := shutil.which("setarch")) else []  # ThreadSanitizer wants addresses that are not too random
    run(*plain, program, env=bare(tmp_path))


# loops that choose compute whole vectors, beyond the last column, and drop what comes of memory that was never set: addresses and leaks alone
@pytest.mark.full
@pytest.mark.parametrize("name", ["bad_tensors", "strides"])
def test_valgrind(name, library, tmp_path):
    valgrind = shutil.which("valgrind")
    if not valgrind:
        pytest.skip("there is no valgrind")
    needs("x86-64-v3", library)  # valgrind does not know AVX-512
    program = compiled("gcc", PROGRAMS[name], tmp_path / name, *flags(library))
    run(valgrind, "-q", "--undef-value-errors=no", "--error-exitcode=9", "--leak-check=full", program,
        env={**os.environ, "NUMBAPOOL_ISA": "x86-64-v3"})


@pytest.mark.parametrize("compiler", compilers())
def test_sources_without_warnings(compiler, library):
    """The library's own C, as strictly as its programs."""
    for source in [*sorted((ROOT / "capi" / "src").glob("*.c")), *sorted((library / "src").glob("*.c"))]:
        run(compiler, "-std=c11", "-O2", *WARNINGS, "-fsyntax-only", f"-I{ROOT / 'capi' / 'src'}", f"-I{library / 'src'}", f"-I{library / 'include'}",
            '-DNUMBAPOOL_VERSION_TEXT="x"', source)
