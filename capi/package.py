"""What other builds need to find the library: numbapool.pc for pkg-config, and CMake's package.  No file names a folder, so all can be moved."""
from __future__ import annotations

import re
import shutil
from pathlib import Path

import numbapool
from numbapool.config import STATIC_NEEDS

ABI = 1  # of the shared library: counts up when a program compiled against an older header no longer works
SHARED = f"libnumbapool.so.{ABI}"
JAX = "lib/libnumbapool_jax.so"  # which is there only where JAX was when the library was built

PKG_CONFIG = """\
prefix=${{pcfiledir}}/../..
includedir=${{prefix}}/include
libdir=${{prefix}}/lib

Name: numbapool
Description: Every pooling of convolutional networks, forward and backward, in 1d, 2d and 3d
Version: {version}
Cflags: -I${{includedir}}
Libs: -L${{libdir}} -Wl,-rpath,${{libdir}} -lnumbapool
Libs.private: {needs}
"""

CMAKE = """\
# Imported targets: numbapool::numbapool, the shared library, and numbapool::static.
get_filename_component(_numbapool_prefix "${{CMAKE_CURRENT_LIST_DIR}}/../../.." ABSOLUTE)
if(NOT TARGET numbapool::numbapool)
  add_library(numbapool::numbapool SHARED IMPORTED)
  set_target_properties(numbapool::numbapool PROPERTIES
    IMPORTED_LOCATION "${{_numbapool_prefix}}/lib/{shared}"
    IMPORTED_SONAME "{shared}"
    INTERFACE_INCLUDE_DIRECTORIES "${{_numbapool_prefix}}/include")
  add_library(numbapool::static STATIC IMPORTED)
  set_target_properties(numbapool::static PROPERTIES
    IMPORTED_LOCATION "${{_numbapool_prefix}}/lib/libnumbapool.a"
    IMPORTED_LINK_INTERFACE_LANGUAGES "C"
    INTERFACE_INCLUDE_DIRECTORIES "${{_numbapool_prefix}}/include"
    INTERFACE_LINK_LIBRARIES "{needs}")
endif()
unset(_numbapool_prefix)
"""

# below 1.0 a new minor version may change what a program relies on
CMAKE_VERSION = """\
set(PACKAGE_VERSION "{version}")
set(PACKAGE_VERSION_COMPATIBLE FALSE)
set(PACKAGE_VERSION_EXACT FALSE)
if("${{PACKAGE_FIND_VERSION}}" STREQUAL "" OR (NOT PACKAGE_FIND_VERSION VERSION_GREATER PACKAGE_VERSION AND
   "${{PACKAGE_FIND_VERSION}}." MATCHES "^{compatible}[.]"))
  set(PACKAGE_VERSION_COMPATIBLE TRUE)
endif()
if(PACKAGE_FIND_VERSION VERSION_EQUAL PACKAGE_VERSION)
  set(PACKAGE_VERSION_EXACT TRUE)
endif()
if(CMAKE_SIZEOF_VOID_P AND NOT CMAKE_SIZEOF_VOID_P EQUAL 8)
  set(PACKAGE_VERSION_UNSUITABLE TRUE)
endif()
"""


def write(prefix: Path) -> None:
    """Write prefix/lib/pkgconfig and prefix/lib/cmake."""
    version = numbapool.__version__
    major, minor = re.match(r"(\d+)\.(\d+)", version).groups()  # type: ignore[union-attr]
    texts = {
        "pkgconfig/numbapool.pc": PKG_CONFIG.format(version=version, needs=" ".join(STATIC_NEEDS)),
        "cmake/numbapool/numbapool-config.cmake": CMAKE.format(shared=SHARED, needs=";".join(STATIC_NEEDS)),
        "cmake/numbapool/numbapool-config-version.cmake": CMAKE_VERSION.format(
            version=version, compatible=f"{major}[.]{minor}" if major == "0" else major),
    }
    for name, text in texts.items():
        path = prefix / "lib" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="ascii")


def copy(build: Path, prefix: Path) -> None:
    """Put a built library and all that belongs to it into a wheel's folder.

    A wheel cannot hold symbolic links.  There libnumbapool.so, which `-lnumbapool` looks for, is a linker script that names the file whose
    name programs then load; a copy would double the wheel's size, and a process that loads both would have two sets of threads.
    """
    shutil.rmtree(prefix, ignore_errors=True)
    for name in ("include/numbapool.h", f"lib/{SHARED}", "lib/libnumbapool.a"):
        (prefix / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(build / name, prefix / name)
    if (build / JAX).exists():
        shutil.copy2(build / JAX, prefix / JAX)
    (prefix / "lib/libnumbapool.so").write_text(f"INPUT({SHARED})\n", encoding="ascii")
    write(prefix)
