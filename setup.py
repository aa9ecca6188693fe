"""What setup.cfg cannot say: with NUMBAPOOL_BUILD_CAPI set, the package carries the C library, and its build needs a C compiler.

NUMBAPOOL_BUILD_CAPI=library (`make wheel`): the library, its header, and what pkg-config and CMake read; for any Python 3 of this platform.
NUMBAPOOL_BUILD_CAPI=1: with them numbapool._capi, the cffi module of the same functions, for this Python.
The library is that of $NUMBAPOOL_CAPI, else of build/capi, which is built first where it is missing (about as long as `make capi` takes).
"""
import os
import shutil
import subprocess
import sys
from pathlib import Path

from setuptools import Distribution, setup
from setuptools.command.build_py import build_py

HERE = Path(__file__).resolve().parent
GIVEN = os.environ.get("NUMBAPOOL_CAPI")
LIBRARY = Path(GIVEN) if GIVEN else HERE / "build/capi"
WANTED = os.environ.get("NUMBAPOOL_BUILD_CAPI", "0")
if WANTED not in ("", "0", "1", "library"):
    raise SystemExit(f"NUMBAPOOL_BUILD_CAPI must be 1, library or 0, got {WANTED!r}")


def built() -> bool:
    """Whether there is a library."""
    return (LIBRARY / "lib/libnumbapool.so").exists()


class BuildWithLibrary(build_py):
    """Puts the library beside the modules."""

    def run(self) -> None:
        """Into an empty folder, as an earlier build's files would go along."""
        sys.path.insert(0, str(HERE))
        from capi import package
        if not built():
            subprocess.run([sys.executable, "-m", "capi.build"], cwd=HERE, check=True)
        if not self.editable_mode:
            shutil.rmtree(self.build_lib, ignore_errors=True)
        super().run()
        if not self.editable_mode:
            package.copy(LIBRARY, Path(self.build_lib, "numbapool/capi"))


class PlatformDistribution(Distribution):
    """For one platform, though no module of Python's is compiled."""

    def has_ext_modules(self) -> bool:
        """Wheels of it name the platform."""
        return True


def with_library() -> dict:
    """The arguments of setup() for a package that carries the library."""
    from setuptools.command.bdist_wheel import bdist_wheel

    class Wheel(bdist_wheel):
        """One wheel for every Python 3: the library knows nothing of Python."""

        def get_tag(self) -> tuple[str, str, str]:
            """py3-none-PLATFORM."""
            return "py3", "none", super().get_tag()[2]

    needs = [] if built() else ["numba>=0.61", "numpy>=1.26"]
    if WANTED == "library":
        return dict(cmdclass={"build_py": BuildWithLibrary, "bdist_wheel": Wheel}, distclass=PlatformDistribution, setup_requires=needs)
    # its declarations come from the pooling files, which import Numba
    return dict(cmdclass={"build_py": BuildWithLibrary}, cffi_modules=["capi/cffi_module.py:ffibuilder"],
                setup_requires=["cffi>=1.16", "numba>=0.61", "numpy>=1.26"])


setup(**(with_library() if WANTED in ("1", "library") else {}))
