"""Where the C library is: for builds in Python get_include() and get_library_dirs(), for others the command numbapool-config."""
from __future__ import annotations

import argparse
import os
import shlex
from collections.abc import Sequence
from pathlib import Path

from . import __version__

STATIC_NEEDS = ("-lm", "-lpthread", "-ldl")  # what a program that links libnumbapool.a has to link, too


def prefix() -> Path:
    """The folder with the C library's include/ and lib/: $NUMBAPOOL_CAPI, what is installed with this package, or the source tree's build/capi."""
    here = Path(__file__).resolve().parent
    given = os.environ.get("NUMBAPOOL_CAPI")
    tried = [Path(given).resolve()] if given else [here / "capi", here.parent / "build/capi"]
    for folder in tried:
        if (folder / "include/numbapool.h").is_file():
            return folder
    raise FileNotFoundError(f"numbapool: there is no C library in {' or '.join(map(str, tried))}.  In the source tree `make capi` builds it, and "
                            "`make wheel` a wheel that has it; NUMBAPOOL_CAPI names the folder of a library that is elsewhere")


def get_include() -> str:
    """The folder of numbapool.h."""
    return str(prefix() / "include")


def get_library_dirs() -> list[str]:
    """The folders of libnumbapool, for the linker and for programs' rpath."""
    return [str(prefix() / "lib")]


def linked(static: bool) -> list[str]:
    """What links a program with the library.  Programs find the shared one where it is now, as no loader looks into Python's folders."""
    lib = prefix() / "lib"
    return [str(lib / "libnumbapool.a"), *STATIC_NEEDS] if static else [f"-L{lib}", f"-Wl,-rpath,{lib}", "-lnumbapool"]


ANSWERS = {
    "version": ("the version of numbapool", lambda static: [__version__]),
    "prefix": ("the folder with include/ and lib/", lambda static: [str(prefix())]),
    "includedir": ("the folder of numbapool.h", lambda static: [get_include()]),
    "libdir": ("the folder of the libraries", lambda static: get_library_dirs()),
    "cmakedir": ("the folder of the CMake package, for numbapool_DIR", lambda static: [str(prefix() / "lib/cmake/numbapool")]),
    "cflags": ("what compiles a program", lambda static: [f"-I{get_include()}"]),
    "libs": ("what links it", linked),
}


def main(arguments: Sequence[str] | None = None) -> int:
    """The command numbapool-config: prints, in one line, what is asked for."""
    parser = argparse.ArgumentParser("numbapool-config", allow_abbrev=False,
                                     description="What a compiler needs to know of numbapool's C library: "
                                                 "cc program.c $(numbapool-config --cflags --libs)")
    for name, (words, _) in ANSWERS.items():
        parser.add_argument(f"--{name}", action="store_true", help=words)
    parser.add_argument("--static", action="store_true", help="with --libs: the static library")
    asked = parser.parse_args(arguments)
    answers = [answer for name, (_, answer) in ANSWERS.items() if getattr(asked, name)]
    if not answers:
        parser.error("nothing is asked for: see --help")
    try:
        print(*(shlex.quote(word) for answer in answers for word in answer(asked.static)))
    except FileNotFoundError as error:
        parser.exit(1, f"{error}\n")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
