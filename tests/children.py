"""Code in a process of its own with a time limit: for what hangs, aborts or kills where it goes wrong."""
from __future__ import annotations

import os
import pathlib
import subprocess
import sys

ROOT = pathlib.Path(__file__).parents[1]
LIMIT = 300  # seconds: only a hang takes so long


def start(code: str, module: str | None = None, **env: str | None) -> subprocess.Popen:
    """Run code after `from module import *`, with two threads also on one core; a None in env removes the variable."""
    path = os.pathsep.join([str(ROOT), str(ROOT / "tests")])
    env = {k: v for k, v in {**os.environ, "PYTHONPATH": path, "NUMBA_NUM_THREADS": "2", **env}.items() if v is not None}
    code = (f"from {module} import *\n" if module else "") + f"if __name__ == '__main__':\n    {code}\n    print('done')"
    return subprocess.Popen([sys.executable, "-c", code], env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def child(code: str, module: str | None = None, **env: str | None) -> str:
    """The output of a child that ended well."""
    process = start(code, module, **env)
    try:
        out, err = process.communicate(timeout=LIMIT)
    finally:
        process.kill()
    assert process.returncode == 0, f"status {process.returncode}\n{err[-3000:]}"
    assert out.endswith("done\n")
    return out
