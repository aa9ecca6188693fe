"""The words of the public functions: docstrings, the type stub, and the README's table, all from what the pooling files say."""
from __future__ import annotations

import importlib
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from . import publish

if TYPE_CHECKING:
    from .publish import Argument, Function

AXES = {1: "L", 2: "H, W", 3: "D, H, W"}
HALF_NOTE = "float16 and bfloat16 are computed in float32"
WORDS = {
    "kernel_size": "elements of a window, one number or one an axis",
    "stride": "distance of two windows; None means kernel_size",
    "padding": 'positions added on both sides that never hold a value: a number, one an axis, a (before, after) pair an axis, or\n'
               '    "valid", "same" (surplus after), "same_lower" (surplus before); at most dilation * (kernel_size - 1)',
    "dilation": "distance of two elements of a window",
    "ceil_mode": "round the number of outputs up, with a cut window at the end",
    "output_size": "outputs, one number or one an axis; None keeps an axis as it is",
    "channels_last": "whether the axes of x are (N, ..., C)",
    "out": "a NumPy array or torch tensor for y",
    "return_indices": "also return the positions of the chosen elements, int64, flat in the unpadded plane",
    "indices": "the indices of the forward pass; without them they are found again",
}


def parameter(a: Argument, f: Function) -> str:
    """An argument's entry in a docstring."""
    words = a.doc or getattr(f.operation.form, "words", {}).get(a.name) or WORDS.get(a.name, "")
    return f"{a.name} : {a.hint}\n    {words}"


def shapes(f: Function) -> tuple[str, str]:
    """The shapes of x and y."""
    inside, outside = AXES[f.operation.ndim], ", ".join(f"{a}out" for a in AXES[f.operation.ndim].split(", "))
    return f"(N, C, {inside}) or (C, {inside})", f"(N, C, {outside})"


def returns_of(f: Function) -> str:
    """What a backward returns, by name."""
    names = ["grad_x", *(f"grad_{p.name}" for p in f.operation.parameters.values() if p.learnable)]
    return names[0] if len(names) == 1 else f"({', '.join(names)})"


def _returns(f: Function, shape: str) -> str:
    if f.backward:
        return f"{returns_of(f)}\n    Gradients in the shapes of their inputs, of the caller's library."
    names = [a.name for a in f.arguments if a.name.startswith("return_")]
    more = "".join(f"; with {n} a tuple whose next element they are" for n in names)
    return f"y : {shape}\n    Of the caller's library and in x's memory order{more}."


def _example(f: Function) -> str:
    operation = f.operation
    shape = {1: "2, 4, 16", 2: "2, 4, 16, 16", 3: "2, 4, 8, 8, 8"}[operation.ndim]
    given = getattr(operation.formula, "example", {})
    values = {"kernel_size": "2", "output_size": "3", **given}
    call = [values[a.name] if not a.keyword else f"{a.name}={values[a.name]}" for a in f.arguments
            if a.name in values and (a.default.__class__ is object or a.name in given)]
    head = f">>> import numpy as np, numbapool as nbp\n>>> x = np.random.default_rng(0).random(({shape}), np.float32)"
    forward = f"{operation.where}({', '.join(['x', *call])})"
    if not f.backward:
        return f"{head}\n>>> y = nbp.{forward}"
    gradient = f"nbp.{operation.where}_backward({', '.join(['np.ones_like(y)', 'x', *call])})"
    return f"{head}\n>>> y = nbp.{forward}\n>>> gradient = {gradient}"


def section(title: str, text: str) -> str:
    """A section of a docstring."""
    return f"{title}\n{'-' * len(title)}\n{text}\n"


def docstring(f: Function) -> str:
    """The NumPy-style docstring of a public function."""
    formula, operation = f.operation.formula, f.operation
    kinds = {"": "over sliding windows", "adaptive_": "over windows that divide the input evenly", "global_": "over the whole input"}
    inside, outside = shapes(f)
    title = f"{formula.title[0].upper()}{formula.title[1:]} pooling {kinds[operation.form.prefix]} in {operation.ndim}d"
    title = getattr(formula, "headline", title)
    equation = f"dy/dx_i: {formula.gradient}" if f.backward else formula.equation
    become = "int64" if operation.wide and not f.backward else "float32 (64-bit ones to float64)"
    integers = "Integers and bool keep their dtype." if operation.integers else f"Integers and bool are copied to {become}."
    first = f"x : array, {inside}\n    NumPy, torch (CPU) or JAX array, or any with DLPack; any strides, never written.  {HALF_NOTE}.  {integers}"
    texts = [first] + [parameter(a, f) for a in f.arguments if a.name not in ("grad", "x")]
    if f.backward:
        texts = [f"grad : array, {outside}\n    The gradient of y, of x's dtype."] + texts
    parts = [
        f"{title}{', backward' if f.backward else ''}.\n\n{equation}\n",
        section("Parameters", "\n".join(texts)),
        section("Returns", _returns(f, outside)),
        section("Raises", "ValueError\n    A value that makes no sense, such as a window without elements.\nTypeError\n    A wrong type or dtype.\n"
                 "BufferError\n    Memory that cannot be borrowed: another device, a tensor that autograd tracks."),
        section("Source", formula.source),
        section("Examples", _example(f)),
    ]
    return "\n".join(parts)


def stub(functions: list[Function]) -> str:
    """The text of __init__.pyi."""
    head = ("# Written by `make docs` from the pooling files; a test keeps it current.\n"
            "from collections.abc import Sequence\nfrom typing import Any\n\n__version__: str\nPOOLINGS: tuple[str, ...]\n__all__: list[str]\n\n"
            "def get_include() -> str: ...\ndef get_library_dirs() -> list[str]: ...\n")
    return head + "".join(f"def {f.name}({f.signature}) -> Any: ...\n" for f in functions)


def table(poolings: Sequence[str]) -> str:
    """The README's table of poolings."""
    lines = ["| functions | y | dy/dxᵢ | own parameters | windows | backward returns | dtypes | source |", "|---|---|---|---|---|---|---|---|"]
    for name in poolings:
        forward, backward = publish.functions(name)[:2]
        formula, operation = forward.operation.formula, forward.operation
        extra = [a.name for a in forward.arguments if a.name in getattr(operation.form, "words", {}) and not a.name.startswith("return_")]
        own = ", ".join(f"`{n}`" for n in [*operation.parameters, *extra] if n != "kernel_size") or "none"
        windows = ", ".join(getattr(x, "name", x) for x in formula.forms)
        dtypes = "floats, integers" if operation.integers or operation.wide else "floats"
        cells = (f"`{operation.where.replace('1d', '')}{{1,2,3}}d`", formula.equation, formula.gradient, own, windows, returns_of(backward), dtypes,
                 formula.source)
        lines.append("| " + " | ".join(c.replace("|", "\\|") for c in cells) + " |")
    return "\n".join(lines) + "\n"


def with_table(readme: str, poolings: Sequence[str]) -> str:
    """The README with its table made anew."""
    begin, end = "<!-- poolings: written by make docs -->\n", "<!-- end -->"
    head, rest = readme.split(begin)
    return head + begin + table(poolings) + end + rest.split(end, 1)[1]


def write() -> None:
    """Write the type stubs and the README's table (`make docs`, which needs torch)."""
    here = Path(__file__).parent
    poolings = importlib.import_module(__package__).POOLINGS
    for name, text in importlib.import_module(f"{__package__}.torch.words").stubs().items():
        (here / "torch" / name).write_text(text)
    (here / "__init__.pyi").write_text(stub([f for name in poolings for f in publish.functions(name)]))
    readme = here.parent / "README.md"
    readme.write_text(with_table(readme.read_text(), poolings))
