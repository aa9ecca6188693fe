"""Another revision of the library beside the working tree, as a package of another name: its imports are all relative."""
from __future__ import annotations

import importlib
import io
import subprocess
import sys
import tarfile
import types
from pathlib import Path

ROOT, NAME = Path(__file__).parents[1], "numbapool_base"


def load(revision: str, folder: str) -> types.ModuleType:
    """Import a revision's numbapool from an empty folder, which must outlive its use."""
    packed = subprocess.run(["git", "-C", str(ROOT), "archive", revision, "numbapool"], capture_output=True, check=True).stdout
    with tarfile.open(fileobj=io.BytesIO(packed)) as archive:
        archive.extractall(folder, filter="data")
    (Path(folder) / "numbapool").rename(Path(folder) / NAME)
    sys.path.insert(0, folder)
    try:
        return importlib.import_module(NAME)
    finally:
        sys.path.remove(folder)
