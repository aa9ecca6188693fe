"""The C interface's text: numbapool.h in C and C++, a function for every pooling, and what the built library exports."""
import os
import re
import shutil
import subprocess
import sys
import types
from pathlib import Path

import cffi
import pytest

import numbapool
from capi import cffi_module, functions, header
from numbapool.forms import FORMS
from numbapool.parameters import Parameter

STRICT = ("-Wall", "-Wextra", "-pedantic", "-Werror")
LANGUAGES = [pytest.param(*c, id=c[1], marks=pytest.mark.skipif(not shutil.which(c[0]), reason=f"needs {c[0]}"))
             for c in (("gcc", "c99", "c"), ("gcc", "c11", "c"), ("g++", "c++11", "cc"), ("g++", "c++20", "cc"), ("clang", "c99", "c"))]
# tensors of forward and of backward, as a C programmer is told them
TENSORS = {
    "ada": ("x beta? y", "grad x beta? grad_x grad_beta?"),
    "avg": ("x y", "grad x grad_x"),
    "blur": ("x y", "grad x grad_x"),
    "dpp": ("x lam alpha weight? y", "grad x lam alpha weight? grad_x grad_lam? grad_alpha? grad_weight?"),
    "fractional_avg": ("x y", "grad x grad_x"),
    "fractional_max": ("x samples? y indices?", "grad x samples? indices? grad_x"),
    "gated": ("x omega y", "grad x omega grad_x grad_omega?"),
    "gem": ("x p? y", "grad x p? grad_x grad_p?"),
    "lip": ("x logit y", "grad x logit grad_x grad_logit"),
    "lp": ("x y", "grad x grad_x"),
    "max": ("x y indices?", "grad x indices? grad_x"),
    "max_blur": ("x y", "grad x grad_x"),
    "max_unpool": ("x indices y", "grad indices grad_x"),
    "min": ("x y indices?", "grad x indices? grad_x"),
    "median": ("x y", "grad x grad_x"),
    "mixed": ("x a? y", "grad x a? grad_x grad_a?"),
    "auto": ("x alpha? y", "grad x alpha? grad_x grad_alpha?"),
    "idw": ("x y", "grad x grad_x"),
    "lse": ("x r? y", "grad x r? grad_x grad_r?"),
    "mode": ("x y indices?", "grad x indices? grad_x"),
    "rank_stochastic": ("x samples? y indices?", "grad x samples? indices? grad_x"),
    "std": ("x y", "grad x grad_x"),
    "ordinal": ("x weight y", "grad x weight grad_x grad_weight?"),
    "rank": ("x y", "grad x grad_x"),
    "s3": ("x y", "grad x grad_x"),
    "soft": ("x y", "grad x grad_x"),
    "sort": ("x weight y", "grad x weight grad_x grad_weight?"),
    "stochastic": ("x samples? y indices?", "grad x samples? indices? grad_x"),
    "sum": ("x y", "grad x grad_x"),
    "swap": ("x y", "grad x grad_x"),
}
# poolings that the C library does not have
PYTHON_ONLY: set[str] = set()
# what DLPack's own header has beside what ours needs, and how it writes it
DLPACK = """
#ifndef DLPACK_DLPACK_H_
#define DLPACK_DLPACK_H_
#include <stddef.h>
#include <stdint.h>
#ifdef __cplusplus
typedef enum : int32_t {
#else
typedef enum {
#endif
  kDLCPU = 1, kDLCUDA = 2
} DLDeviceType;
typedef struct { DLDeviceType device_type; int32_t device_id; } DLDevice;
typedef enum { kDLInt = 0U, kDLUInt = 1U, kDLFloat = 2U, kDLOpaqueHandle = 3U, kDLBfloat = 4U, kDLComplex = 5U, kDLBool = 6U } DLDataTypeCode;
typedef struct { uint8_t code; uint8_t bits; uint16_t lanes; } DLDataType;
typedef struct { void* data; DLDevice device; int32_t ndim; DLDataType dtype; int64_t* shape; int64_t* strides; uint64_t byte_offset; } DLTensor;
typedef struct DLManagedTensor { DLTensor dl_tensor; void* manager_ctx; void (*deleter)(struct DLManagedTensor* self); } DLManagedTensor;
#endif
"""
LAYOUT = "typedef char dltensor_is_48_bytes[sizeof(DLTensor) == 48 ? 1 : -1];\ntypedef char device_is_8_bytes[sizeof(DLDevice) == 8 ? 1 : -1];\n"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A folder with numbapool.h."""
    result = tmp_path_factory.mktemp("include")
    header.write(result / "numbapool.h")
    return result


def compile_text(text, folder, tmp_path, compiler, standard, suffix, *flags):
    source = tmp_path / f"program.{suffix}"
    source.write_text(text + "int main(void) { return 0; }\n")
    done = subprocess.run([compiler, f"-std={standard}", *STRICT, *flags, f"-I{folder}", "-c", source, "-o", tmp_path / "program.o"],
                          capture_output=True, text=True, check=False)
    assert done.returncode == 0 and not done.stderr, done.stderr


# ---------------------------------------------------------------- numbapool.h

@pytest.mark.parametrize(("compiler", "standard", "suffix"), LANGUAGES)
def test_it_compiles_alone(folder, tmp_path, compiler, standard, suffix):
    """Without DLPack, twice, and with every function's address taken as the type that it is declared with."""
    text = "#include <numbapool.h>\n#include <numbapool.h>\n" + LAYOUT
    text += "int (*forward)(const DLTensor *, DLTensor *, const numbapool_params *);\n"
    text += "void f(void);\nvoid f(void) { forward = numbapool_soft_pool; }\n"
    compile_text(text, folder, tmp_path, compiler, standard, suffix)


@pytest.mark.parametrize(("compiler", "standard", "suffix"), LANGUAGES)
def test_it_takes_the_dlpack_that_was_included(folder, tmp_path, compiler, standard, suffix):
    (tmp_path / "dlpack.h").write_text(DLPACK)
    compile_text(f'#include "dlpack.h"\n#include <numbapool.h>\n{LAYOUT}DLManagedTensor managed;\n', folder, tmp_path, compiler, standard, suffix)


@pytest.mark.parametrize(("compiler", "standard", "suffix"), LANGUAGES)
def test_it_finds_dlpack(folder, tmp_path, compiler, standard, suffix):
    """So that a program may include dlpack.h after it."""
    (tmp_path / "dlpack").mkdir()
    (tmp_path / "dlpack/dlpack.h").write_text(DLPACK)
    compile_text(f"#include <numbapool.h>\n#include <dlpack/dlpack.h>\n{LAYOUT}DLManagedTensor managed;\n", folder, tmp_path, compiler, standard,
                 suffix, f"-I{tmp_path}")


def test_its_text():
    text = header.text()
    assert text.isascii() and max(len(line) for line in text.splitlines() if line.startswith("NUMBAPOOL_API")) <= 150
    assert f'#define NUMBAPOOL_VERSION "{numbapool.__version__}"' in text and f"#define NUMBAPOOL_ABI {header.ABI}\n" in text
    assert "This file" not in text  # which tells of the build
    for words in ("TENSORS are DLPack's", "gem, where no tensor is given", "Generalised mean (GeM) pooling.", "Source: Stergiou et al., ICCV 2021"):
        assert words in text


def test_the_command_writes_it(tmp_path):
    file = tmp_path / "new/numbapool.h"
    subprocess.run([sys.executable, "-m", "capi.header", file], cwd=functions.DECLARATIONS.parent.parent, check=True)
    assert file.read_text() == header.text()


def test_cffi_takes_the_declarations():
    """And sees the struct as the C compiler does."""
    ffi = cffi.FFI()
    ffi.cdef(header.declarations())
    assert ffi.sizeof("DLTensor") == 48
    assert set(functions.params_fields()) == {name for name, _ in ffi.typeof("numbapool_params").fields}


# ---------------------------------------------------------------- functions

def test_every_pooling_has_functions():
    assert functions.poolings() == sorted(set(numbapool.POOLINGS) - PYTHON_ONLY) == sorted(TENSORS)
    for name in functions.poolings():
        shape, forward, backward = functions.functions(name)
        base = "numbapool_max_unpool" if name == "max_unpool" else f"numbapool_{name}_pool"
        assert [f.name for f in (shape, forward, backward)] == [f"numbapool_{name}_shape", base, f"{base}_backward"]
        assert [f.direction for f in (shape, forward, backward)] == ["shape", "forward", "backward"]
        assert tuple(" ".join(a.name + "?" * a.optional for a in f.arguments) for f in (forward, backward)) == TENSORS[name]
        assert [a.name for a in forward.arguments if not a.const] == (["y", "indices"] if TENSORS[name][0].endswith("indices?") else ["y"])
        assert all(a.const == (not a.name.startswith("grad_")) for a in backward.arguments)


def test_each_function_passes_on_its_arguments():
    """Once each, in a field of the request."""
    text = functions.source()
    fields = re.search(r"typedef struct \{([^}]*)\} request;", (functions.DECLARATIONS.parent / "src/families.h").read_text())[1]
    known = set(re.findall(r"\w+(?=[,;])", fields))
    for f in functions.table():
        body = text.split(f"\n{f.prototype}\n")[1].split("\n}\n")[0]
        assigned = dict(re.findall(r"\.(\w+) = (\w+|\"\w+\")", body))
        assert set(assigned) <= known, f.name
        assert sorted(a.name for a in f.arguments) == sorted(set(assigned.values()) & {a.name for a in f.arguments})
        assert assigned["where"] == f'"{f.name}"' and assigned["pooling"] == f"POOLING_{f.pooling.upper()}" and assigned["params"] == "params"


def pretend(monkeypatch, family, *parameters):
    """A pooling "new" with these parameters."""
    formula = types.SimpleNamespace(title="new", family=family, equation="y = Σ xᵢ", gradient="1", source="none", parameters=parameters)
    operation = types.SimpleNamespace(formula=formula, form=FORMS["sliding"], indexed=family == "select")
    monkeypatch.setattr(functions.publish, "operations", lambda name: [operation])
    functions.functions.cache_clear()
    try:
        return functions.functions("new"), functions.comment("new")
    finally:
        functions.functions.cache_clear()


def test_a_new_pooling_gets_its_functions(monkeypatch):
    own = (Parameter("temperature", 1.0, "positive", ""), Parameter("p", 1.0, "array", "an exponent", learnable=True))
    (_, forward, backward), comment = pretend(monkeypatch, "fold", *own)
    assert forward.prototype == "int numbapool_new_pool(const DLTensor *x, const DLTensor *p, DLTensor *y, const numbapool_params *params)"
    assert "DLTensor *grad_x, DLTensor *grad_p" in backward.prototype
    assert ".array = p" in forward.definition and ".grad_array = grad_p" in backward.definition
    assert "temperature, p\n" in comment and "y = sum x_i" in comment and "p (may be NULL): an exponent; NULL: params->p" in comment
    (_, forward, backward), _ = pretend(monkeypatch, "select")
    assert "DLTensor *y, DLTensor *indices" in forward.prototype and "const DLTensor *indices, DLTensor *grad_x" in backward.prototype


@pytest.mark.parametrize(("family", "parameters", "message"), [
    ("fold", [Parameter("delta", 1.0, "positive", "")], "the positive delta needs a field of its name in numbapool_params"),
    ("fold", [Parameter("delta", 1.0, "array", "")], "the array delta needs a field"),
    ("fold", [Parameter("p", 1.0, "array", ""), Parameter("eps", 1.0, "array", "")], "passes one parameter of the kind 'array', not both p and eps"),
    ("composed", [Parameter(n, 1.0, "array", "") for n in ("p", "a", "beta")], "passes one parameter of the kind 'array', not both a and beta"),
    ("composed", [Parameter(n, 1.0, n, "") for n in ("weights", "kernel")], "of the kind 'weights', not both weights and kernel"),
    ("braid", [], "has no family 'braid', only fold"),
])
def test_what_has_no_place_is_refused(monkeypatch, family, parameters, message):
    with pytest.raises(ValueError, match=f"^pools/new.py: .*{message}"):
        pretend(monkeypatch, family, *parameters)


# ---------------------------------------------------------------- the built library

def declared(text):
    """The names of a header's functions."""
    return set(re.findall(r"^NUMBAPOOL_API [\w ]+[ *](numbapool_\w+)\(", text, re.MULTILINE))


def symbols(*arguments):
    """The names of defined symbols."""
    lines = subprocess.run(["nm", "--defined-only", *arguments], capture_output=True, text=True, check=True).stdout.splitlines()
    return {parts[2] for parts in map(str.split, lines) if len(parts) == 3}


needs_nm = pytest.mark.skipif(not shutil.which("nm"), reason="needs nm")


def test_the_header_is_that_of_the_library(library):
    assert (library / "include/numbapool.h").read_text() == header.text()
    assert len(declared(header.text())) == len(functions.table()) + 9


@needs_nm
def test_the_shared_library_exports_the_interface_alone(library):
    assert symbols("-D", str(library / f"lib/libnumbapool.so.{header.ABI}")) == declared(header.text())


@needs_nm
def test_the_static_library_takes_no_other_names(library):
    """A program may have functions named run, or take."""
    assert symbols("-g", str(library / "lib/libnumbapool.a")) == declared(header.text())


@pytest.mark.skipif(not shutil.which("readelf"), reason="needs readelf")
def test_the_name_that_programs_load(library):
    text = subprocess.run(["readelf", "-d", library / "lib/libnumbapool.so"], capture_output=True, text=True, check=True).stdout
    assert f"soname: [libnumbapool.so.{header.ABI}]" in text
    needed = set(re.findall(r"NEEDED.*\[(.*)\]", text))
    assert needed <= {"libc.so.6", "libm.so.6", "libpthread.so.0", "ld-linux-x86-64.so.2"}, needed


def module(code, library, folder):
    """Run code in a process that has the module numbapool_capi of a folder."""
    return subprocess.run([sys.executable, "-c", f"from numbapool_capi import ffi, lib\n{code}"], capture_output=True, text=True, check=False,
                          env=os.environ | {"NUMBAPOOL_CAPI": str(library), "PYTHONPATH": str(folder)})


def test_the_compiled_module_confirms_the_declarations(library, tmp_path, monkeypatch):
    """Struct layouts, enums and functions, all of which it touches here."""
    monkeypatch.setenv("NUMBAPOOL_CAPI", str(library))
    assert cffi_module.compiled(tmp_path).parent == tmp_path
    done = module(f"""
assert ffi.sizeof("DLTensor") == 48 and ffi.sizeof("numbapool_params") > 0
functions = [getattr(lib, name) for name in {sorted(declared(header.text()))}]
assert lib.NUMBAPOOL_UNSUPPORTED == 5 and lib.kDLBool == 6 and lib.numbapool_abi_version() == {header.ABI}
params = ffi.new("numbapool_params *")
assert lib.numbapool_params_init(params, ffi.sizeof(params[0])) == lib.NUMBAPOOL_OK
assert params.rank == 2 and params.p == 3.0 and params.training == 1
print(ffi.string(lib.numbapool_version()).decode())""", library, tmp_path)
    assert done.returncode == 0 and done.stdout.strip() == numbapool.__version__, done.stderr


def test_the_compiled_module_refuses_another_layout(library, tmp_path, monkeypatch):
    """The check above does check."""
    monkeypatch.setenv("NUMBAPOOL_CAPI", str(library))
    right = header.declarations()
    wrong = re.sub(r"(    double norm_type;[^\n]*\n)(.*?)(    int32_t norm;[^\n]*\n)", r"\3\2\1", right, flags=re.DOTALL)
    assert wrong != right
    monkeypatch.setattr(header, "declarations", lambda: wrong)
    cffi_module.compiled(tmp_path)
    done = module('ffi.sizeof("numbapool_params")', library, tmp_path)
    assert done.returncode and "wrong offset for field" in done.stderr, done.stderr


def test_the_module_is_compiled_by_a_command(library, tmp_path):
    done = subprocess.run([sys.executable, "-m", "capi.cffi_module", "--out", tmp_path], capture_output=True, text=True, check=True,
                          cwd=functions.DECLARATIONS.parent.parent, env=os.environ | {"NUMBAPOOL_CAPI": str(library)})
    assert Path(done.stdout.splitlines()[-1]).parent == tmp_path
