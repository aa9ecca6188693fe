"""The built C library, for the tests of it: `make capi` makes it, and $NUMBAPOOL_CAPI may name another one."""
from __future__ import annotations

import os
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
SHARED = "libnumbapool.so"


def folder() -> Path | None:
    """The folder with include/ and lib/, or None where nothing was built."""
    named = os.environ.get("NUMBAPOOL_CAPI")
    place = Path(named).absolute() if named else ROOT / "build" / "capi"
    there = (place / "include" / "numbapool.h").exists() and (place / "lib" / SHARED).exists()
    if named and not there:
        raise FileNotFoundError(f"NUMBAPOOL_CAPI={named}, but there is no include/numbapool.h and lib/{SHARED} in it")
    return place if there else None


@pytest.fixture(scope="session")
def library() -> Path:
    """The folder with include/ and lib/ of the C library."""
    place = folder()
    if place is None:
        pytest.skip("the C library is not built: make capi")
    return place
