"""The cffi module of the C library, in API mode: its compilation checks every declaration, struct layouts included, against numbapool.h.

`python -m capi.cffi_module --out DIR` compiles numbapool_capi into DIR; setup.py hands `ffibuilder`, numbapool._capi, to setuptools where
NUMBAPOOL_BUILD_CAPI=1 asks for it.  The library is that of the folder $NUMBAPOOL_CAPI, else of build/capi.
"""
from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

import cffi

ROOT = Path(__file__).resolve().parent.parent
if str(ROOT) not in sys.path:  # setuptools runs this file by itself
    sys.path.insert(0, str(ROOT))
from capi import header  # noqa: E402


def library() -> Path:
    """The folder with the library's include/ and lib/."""
    return Path(os.environ.get("NUMBAPOOL_CAPI") or ROOT / "build/capi").resolve()


def builder(name: str, *rpaths: str) -> cffi.FFI:
    """A module of the given name that looks for the library in `rpaths`."""
    ffi = cffi.FFI()
    ffi.cdef(header.declarations())
    ffi.set_source(name, '#include "numbapool.h"', libraries=["numbapool"], include_dirs=[str(library() / "include")],
                   library_dirs=[str(library() / "lib")], extra_link_args=[f"-Wl,-rpath,{path}" for path in rpaths])
    return ffi


def compiled(folder: Path) -> Path:
    """Compile numbapool_capi into a folder; returns the module's file."""
    folder.mkdir(parents=True, exist_ok=True)
    return Path(builder("numbapool_capi", str(library() / "lib")).compile(tmpdir=str(folder)))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Compile the module numbapool_capi.")
    parser.add_argument("--out", type=Path, required=True, metavar="DIR")
    print(compiled(parser.parse_args().out))
else:
    # beside the library that is installed with it, and in a source tree that is used where it lies
    ffibuilder = builder("numbapool._capi", "$ORIGIN/capi/lib", "$ORIGIN/../build/capi/lib")
