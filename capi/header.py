"""numbapool.h, from declarations.h and the functions of the poolings.  `python -m capi.header FILE` writes it."""
from __future__ import annotations

import re
import sys
from pathlib import Path

import numbapool

from . import functions
from .package import ABI

POOLINGS = "/* poolings: the build puts the functions of every pooling here */"
DLPACK = re.compile(r"/\* dlpack: begin \*/\n(.*?)/\* dlpack: end \*/\n", re.DOTALL)
PROTOTYPE = re.compile(r"^(?!typedef)(?=[\w ]+[ *]numbapool_\w+\()", re.MULTILINE)  # begins in the first column
ABOUT_THE_FILE = re.compile(r" \* This file is the one source.*?\n \*\n", re.DOTALL)

OPENING = """\
#ifndef NUMBAPOOL_H
#define NUMBAPOOL_H

#include <stddef.h>
#include <stdint.h>

#define NUMBAPOOL_VERSION "{version}"
#define NUMBAPOOL_VERSION_MAJOR {major}
#define NUMBAPOOL_VERSION_MINOR {minor}
#define NUMBAPOOL_VERSION_PATCH {patch}
#define NUMBAPOOL_ABI {abi}

/* On Windows define NUMBAPOOL_STATIC to link the static library. */
#if defined(_WIN32)
#if defined(NUMBAPOOL_STATIC)
#define NUMBAPOOL_API
#elif defined(NUMBAPOOL_BUILD)
#define NUMBAPOOL_API __declspec(dllexport)
#else
#define NUMBAPOOL_API __declspec(dllimport)
#endif
#elif defined(__GNUC__)
#define NUMBAPOOL_API __attribute__((visibility("default")))
#else
#define NUMBAPOOL_API
#endif

/* DLPack's own header, where it was included before or is found; else the part of it that is used here, in the same layout.
 * One that the compiler finds under another name has to be included before this file. */
#if !defined(DLPACK_DLPACK_H_) && defined(__has_include)
#if __has_include(<dlpack/dlpack.h>)
#include <dlpack/dlpack.h>
#endif
#endif
#if !defined(DLPACK_DLPACK_H_)
{dlpack}#endif

#ifdef __cplusplus
extern "C" {{
#endif
"""
CLOSING = """
#ifdef __cplusplus
}
#endif

#endif
"""


def version() -> str:
    """What numbapool_version returns, and NUMBAPOOL_VERSION is."""
    return numbapool.__version__


def declarations() -> str:
    """declarations.h with the functions of every pooling; cffi takes it as it is."""
    text = functions.DECLARATIONS.read_text(encoding="utf-8")
    if text.count(POOLINGS) != 1:
        raise ValueError(f"capi/declarations.h must hold the line {POOLINGS} once")
    return text.replace(POOLINGS + "\n", functions.declarations())


def text() -> str:
    """The text of numbapool.h."""
    about, dlpack, rest = DLPACK.split(declarations())
    about, found = ABOUT_THE_FILE.subn("", about)
    if found != 1:
        raise ValueError("capi/declarations.h must begin with a comment that says what the file is")
    major, minor, patch = re.match(r"(\d+)\.(\d+)\.(\d+)", version()).groups()  # type: ignore[union-attr]
    opening = OPENING.format(version=version(), major=major, minor=minor, patch=patch, abi=ABI, dlpack=dlpack)
    return about + opening + PROTOTYPE.sub("NUMBAPOOL_API ", rest) + CLOSING


def write(path: Path) -> None:
    """Write numbapool.h; in ASCII, which every compiler reads."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text(), encoding="ascii")


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit("usage: python -m capi.header FILE")
    write(Path(sys.argv[1]))
