"""What is written from the pooling files is current."""
from __future__ import annotations

from pathlib import Path

import numpy as np

import numbapool
from numbapool import document, publish

ROOT = Path(numbapool.__file__).parent


def test_the_stub_is_current():
    assert (ROOT / "__init__.pyi").read_text() == document.stub([f for name in numbapool.POOLINGS for f in publish.functions(name)])


def test_the_stubs_for_torch_are_current():
    from numbapool.torch import words
    for name, text in words.stubs().items():
        assert (ROOT / "torch" / name).read_text() == text


def test_the_table_of_the_readme_is_current():
    readme = (ROOT.parent / "README.md").read_text()
    assert document.with_table(readme, numbapool.POOLINGS) == readme
    assert all(f"`{name}" in readme for name in numbapool.POOLINGS)


def test_the_quick_start_runs():
    """Every Python block of the README that stands alone."""
    blocks = (ROOT.parent / "README.md").read_text().split("```python\n")[1:]
    start = blocks[0].split("```")[0]
    scope: dict = {}
    exec(start, scope)
    assert scope["grad_x"].shape == scope["x"].shape
    images = next(b for b in blocks if b.startswith("photo = ")).split("```")[0]
    exec(images, scope)
    assert scope["small"].shape == (160, 214, 3) and scope["labels"].dtype == np.uint8 and not np.isnan(scope["spread"]).any()
