"""The C library in a wheel: what is inside, and that programs are compiled with it by numbapool-config, pkg-config and CMake."""
import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

import numbapool
from capi import package
from numbapool import config

ROOT = Path(numbapool.__file__).parent.parent
SOURCES = ("numbapool", "capi", "setup.py", "setup.cfg", "pyproject.toml", "MANIFEST.in", "README.md", "LICENSE")
PROGRAM = r"""
#include <stdio.h>
#include <numbapool.h>

int main(void)
{
    float x[] = {1, 2, 3, 4, 5, 6, 7, 8}, y[2] = {0, 0};
    int64_t x_shape[] = {1, 2, 2, 2}, y_shape[] = {1, 2, 1, 1};
    DLTensor in = {x, {kDLCPU, 0}, 4, {kDLFloat, 32, 1}, x_shape, NULL, 0}, out = {y, {kDLCPU, 0}, 4, {kDLFloat, 32, 1}, y_shape, NULL, 0};
    numbapool_params params;
    numbapool_params_init(&params, sizeof params);
    params.kernel_size[0] = params.kernel_size[1] = 2;
    if (numbapool_max_pool(&in, &out, NULL, &params) != NUMBAPOOL_OK) {
        fprintf(stderr, "%s\n", numbapool_error_message());
        return 1;
    }
    printf("%s %g %g\n", numbapool_version(), (double)y[0], (double)y[1]);
    return 0;
}
"""
CMAKE = """
cmake_minimum_required(VERSION 3.15)
project(program C)
find_package(numbapool {version} REQUIRED CONFIG)
add_executable(shared program.c)
target_link_libraries(shared numbapool::numbapool)
add_executable(static program.c)
target_link_libraries(static numbapool::static)
"""


def needs(*tools):
    return pytest.mark.skipif(not all(map(shutil.which, tools)), reason=f"needs {' and '.join(tools)}")


def run(*command, **options):
    """What a command prints."""
    done = subprocess.run(list(map(str, command)), capture_output=True, text=True, check=False, **options)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout.strip()


# ---------------------------------------------------------------- without a built library

@pytest.fixture
def prefix(tmp_path, monkeypatch):
    """A folder that looks like a library's; with a space in its name."""
    folder = tmp_path / "a library"
    for name in ("include/numbapool.h", "lib/libnumbapool.so.1", "lib/libnumbapool.a"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(name)
    (folder / "lib/libnumbapool.so").symlink_to("libnumbapool.so.1")
    monkeypatch.setenv("NUMBAPOOL_CAPI", str(folder))
    return folder


def test_paths(prefix):
    assert numbapool.get_include() == f"{prefix}/include" and numbapool.get_library_dirs() == [f"{prefix}/lib"]
    assert {"get_include", "get_library_dirs"} <= set(dir(numbapool))


@pytest.mark.parametrize(("flags", "words"), [
    (["--version"], [numbapool.__version__]),
    (["--prefix"], ["{}"]),
    (["--includedir", "--libdir", "--cmakedir"], ["{}/include", "{}/lib", "{}/lib/cmake/numbapool"]),
    (["--libs", "--cflags"], ["-I{}/include", "-L{}/lib", "-Wl,-rpath,{}/lib", "-lnumbapool"]),
    (["--libs", "--static"], ["{}/lib/libnumbapool.a", "-lm", "-lpthread", "-ldl"]),
])
def test_the_command(prefix, capsys, flags, words):
    """One line that a shell takes apart into the right words."""
    assert config.main(flags) == 0
    line = capsys.readouterr().out
    assert line.count("\n") == 1
    assert run("sh", "-c", f"printf '%s\\n' {line}").splitlines() == [w.format(prefix) for w in words]


def test_the_command_without_a_library(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("NUMBAPOOL_CAPI", str(tmp_path))
    for function in (numbapool.get_include, numbapool.get_library_dirs):
        with pytest.raises(FileNotFoundError, match="there is no C library in .*`make capi` builds it"):
            function()
    with pytest.raises(SystemExit) as left:
        config.main(["--libs"])
    assert left.value.code == 1 and str(tmp_path) in capsys.readouterr().err
    assert config.main(["--version"]) == 0
    with pytest.raises(SystemExit) as left:
        config.main([])
    assert left.value.code == 2


def test_a_wheel_s_folder_holds_no_links(prefix, tmp_path):
    target = tmp_path / "numbapool/capi"
    (target / "lib").mkdir(parents=True)
    (target / "lib/libnumbapool.so.0").write_text("of an earlier build")
    package.copy(prefix, target)
    files = {str(f.relative_to(target)) for f in target.rglob("*") if f.is_file()}
    assert files == {"include/numbapool.h", "lib/libnumbapool.so", "lib/libnumbapool.so.1", "lib/libnumbapool.a", "lib/pkgconfig/numbapool.pc",
                     "lib/cmake/numbapool/numbapool-config.cmake", "lib/cmake/numbapool/numbapool-config-version.cmake"}
    assert not any(f.is_symlink() for f in target.rglob("*"))
    (prefix / package.JAX).write_text("")
    package.copy(prefix, target)
    assert files | {package.JAX} == {str(f.relative_to(target)) for f in target.rglob("*") if f.is_file()}
    assert not any(str(tmp_path) in f.read_text() for f in target.rglob("*") if f.is_file())  # so that it can be moved


@needs("cmake")
@pytest.mark.parametrize(("wanted", "found"), [("", True), ("{0}.{1}", True), ("{0}.{1}.{2} EXACT", True), ("{0}", False), ("{0}.{1}.99", False),
                                               ("{0}.99", False), ("99", False), ("{0}.{1}.{2}.1 EXACT", False)])
def test_cmake_s_versions(prefix, tmp_path, wanted, found):
    """Below 1.0 another minor version is another interface."""
    package.write(prefix)
    numbers = numbapool.__version__.split(".")
    (tmp_path / "CMakeLists.txt").write_text("cmake_minimum_required(VERSION 3.15)\nproject(none NONE)\n"
                                             f"find_package(numbapool {wanted.format(*numbers)} QUIET CONFIG)\n"
                                             'message(STATUS "found: ${numbapool_FOUND}.")\n')
    text = run("cmake", "-S", tmp_path, "-B", tmp_path / "made", f"-Dnumbapool_DIR={prefix}/lib/cmake/numbapool")
    assert f"found: {int(found)}." in text


def test_an_unknown_wish_is_refused():
    done = subprocess.run([sys.executable, "setup.py", "--version"], cwd=ROOT, env=os.environ | {"NUMBAPOOL_BUILD_CAPI": "yes"}, capture_output=True,
                          text=True, check=False)
    assert done.returncode == 1 and done.stderr == "NUMBAPOOL_BUILD_CAPI must be 1, library or 0, got 'yes'\n"


# ---------------------------------------------------------------- wheels

@pytest.fixture(scope="module")
def tree(tmp_path_factory):
    """A copy of the sources, as a build writes beside them."""
    folder = tmp_path_factory.mktemp("sources")
    for name in SOURCES:
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__", "*.so"))
        else:
            shutil.copy(ROOT / name, folder / name)
    return folder


def wheel(tree, library, wanted):
    """Build a wheel; it compiles nothing but what `wanted` asks for."""
    out = tree / f"dist-{wanted}"
    environment = os.environ | {"NUMBAPOOL_CAPI": str(library.resolve()), "NUMBAPOOL_BUILD_CAPI": wanted} | ({} if wanted == "1" else {"CC": "false"})
    run(sys.executable, "-m", "pip", "wheel", "--no-index", "--no-build-isolation", "--no-deps", "--wheel-dir", out, tree, env=environment)
    (made,) = out.iterdir()
    return made


@pytest.fixture(scope="module")
def wheels(tree, library):
    """The three kinds, one after the other in the same tree: nothing of one may get into the next."""
    return {wanted: wheel(tree, library, wanted) for wanted in ("1", "library", "0")}


def installed(made, folder):
    """A fresh environment with a wheel and nothing else; returns its Python."""
    run(sys.executable, "-m", "venv", folder)
    run(folder / "bin/python", "-m", "pip", "install", "--no-index", "--no-deps", made)
    return folder / "bin/python"


@pytest.fixture(scope="module")
def python(wheels, tmp_path_factory):
    """The Python of an environment with the wheel of `make wheel`."""
    return installed(wheels["library"], tmp_path_factory.mktemp("environment"))


@pytest.fixture(scope="module")
def moved(python, tmp_path_factory):
    """The installed library in another place."""
    folder = tmp_path_factory.mktemp("moved") / "numbapool"
    shutil.copytree(run(python.parent / "numbapool-config", "--prefix", env=bare()), folder)
    return folder


def bare():
    """An environment that does not tell where the library is."""
    return {k: v for k, v in os.environ.items() if k not in ("NUMBAPOOL_CAPI", "LD_LIBRARY_PATH", "PYTHONPATH")}


def program(folder, *flags):
    """Compile PROGRAM and run it."""
    (folder / "program.c").write_text(PROGRAM)
    run("cc", "-std=c99", "-Wall", "-Wextra", "-pedantic", "-Werror", "program.c", "-o", "program", *flags, cwd=folder)
    return run(folder / "program", env=bare())


EXPECTED = f"{numbapool.__version__} 4 8"


@pytest.mark.full
def test_contents(wheels):
    names = {wanted: zipfile.ZipFile(file).namelist() for wanted, file in wheels.items()}
    c = [sorted(n for n in names[w] if n.startswith("numbapool/capi/")) for w in ("1", "library", "0")]
    assert len([n for n in c[0] if "_jax" not in n]) == 7 and c[0] == c[1] and c[2] == []  # JAX may be missing where it was built
    assert [sum("_capi." in n for n in names[w]) for w in ("1", "library", "0")] == [1, 0, 0]
    head = f"numbapool-{numbapool.__version__}"
    assert wheels["0"].name == f"{head}-py3-none-any.whl"
    assert wheels["library"].name.startswith(f"{head}-py3-none-") and "any" not in wheels["library"].name
    assert wheels["1"].name.startswith(f"{head}-cp{sys.version_info[0]}{sys.version_info[1]}-")
    modules = [{n for n in names[w] if n.endswith((".py", ".pyi", ".typed"))} for w in names]
    assert modules[0] == modules[1] == modules[2]


@pytest.mark.full
def test_without_the_library(wheels, tmp_path):
    python = installed(wheels["0"], tmp_path / "environment")
    done = subprocess.run([python.parent / "numbapool-config", "--libs"], capture_output=True, text=True, check=False, env=bare())
    assert done.returncode == 1 and "there is no C library" in done.stderr


@pytest.mark.full
def test_an_archive_of_the_sources_has_all(tree, tmp_path):
    run(sys.executable, "-c", f"from setuptools import build_meta; build_meta.build_sdist({str(tmp_path)!r})", cwd=tree, env=bare())
    text = run("tar", "tf", next(tmp_path.glob("*.tar.gz")))
    for name in ("capi/declarations.h", "capi/src/internal.h", "capi/build.py", "setup.py", "numbapool/py.typed"):
        assert f"/{name}\n" in text + "\n"


@pytest.mark.full
@needs("cc")
@pytest.mark.parametrize("static", [[], ["--static"]], ids=["shared", "static"])
def test_by_numbapool_config(python, tmp_path, static):
    flags = run(python.parent / "numbapool-config", "--cflags", "--libs", *static, env=bare())
    assert str(python.parent.parent) in flags
    assert program(tmp_path, *flags.split()) == EXPECTED


@pytest.mark.full
@needs("cc")
def test_by_the_python_functions(python, tmp_path):
    text = run(python, "-c", "import numbapool as n; print(n.get_include(), *n.get_library_dirs())", env=bare(), cwd=tmp_path)
    include, lib = text.split()
    assert program(tmp_path, f"-I{include}", f"-L{lib}", f"-Wl,-rpath,{lib}", "-lnumbapool") == EXPECTED


@pytest.mark.full
@needs("cc", "pkg-config")
def test_by_pkg_config(moved, tmp_path):
    flags = run("pkg-config", "--cflags", "--libs", "numbapool", env=bare() | {"PKG_CONFIG_PATH": f"{moved}/lib/pkgconfig"})
    assert program(tmp_path, *flags.split()) == EXPECTED
    assert run("pkg-config", "--modversion", f"{moved}/lib/pkgconfig/numbapool.pc") == numbapool.__version__


@pytest.mark.full
@needs("cc", "cmake")
@pytest.mark.parametrize("target", ["shared", "static"])
def test_by_cmake(moved, tmp_path, target):
    (tmp_path / "program.c").write_text(PROGRAM)
    (tmp_path / "CMakeLists.txt").write_text(CMAKE.format(version=numbapool.__version__))
    run("cmake", "-S", tmp_path, "-B", tmp_path / "made", f"-DCMAKE_PREFIX_PATH={moved}", env=bare())
    run("cmake", "--build", tmp_path / "made", "--target", target, env=bare())
    assert run(tmp_path / "made" / target, env=bare()) == EXPECTED


@pytest.mark.full
@needs("cc")
@pytest.mark.parametrize("where", ["the build folder", "the wheel"])
def test_the_program_loads_the_file_by_its_name(library, moved, tmp_path, where):
    """The one of the linker's name is a link or a script, which no program needs."""
    lib = (library if where == "the build folder" else moved) / "lib"
    assert program(tmp_path, f"-I{lib.parent}/include", f"-L{lib}", f"-Wl,-rpath,{lib}", "-lnumbapool") == EXPECTED
    if shutil.which("readelf"):
        assert "[libnumbapool.so.1]" in run("readelf", "-d", tmp_path / "program")


@pytest.mark.full
def test_the_installed_cffi_module(wheels, tmp_path):
    """numbapool._capi finds the library that was installed beside it."""
    python, cffi = installed(wheels["1"], tmp_path / "environment"), pytest.importorskip("cffi")
    needed = tmp_path / "needed"
    needed.mkdir()
    for file in Path(cffi.__file__).parent.parent.glob("*cffi*"):
        (needed / file.name).symlink_to(file)
    code = "from numbapool._capi import ffi, lib; print(ffi.string(lib.numbapool_version()).decode(), lib.numbapool_abi_version())"
    assert run(python, "-c", code, env=bare() | {"PYTHONPATH": str(needed)}, cwd=tmp_path) == f"{numbapool.__version__} {package.ABI}"
