"""The docstrings of functions and layers, from what the pooling files say."""
from __future__ import annotations

import inspect
from typing import Any

from .. import document
from .pooling import Pooling

NEAR = ("Goes through autograd (twice where the formula is smooth or linear), torch.compile, torch.func and autocast; "
        "channels_last in, channels_last out.")


def kept(p: Pooling) -> str:
    """What a forward pass keeps for the backward pass."""
    more = [f"the {n}" for n in p.tensors] + ["the indices where they are returned"] * p.indexed
    return f"Backward keeps x{''.join(', ' + m for m in more)}, and nothing else of x's size or y's."


def title(p: Pooling) -> str:
    """The first line."""
    return document.docstring(p.forward).split("\n", 1)[0]


def docstring(p: Pooling) -> str:
    """A function's."""
    f, (inside, outside) = p.forward, document.shapes(p.forward)
    arguments = [*p.arguments, *(a for a in f.arguments if a.name.startswith("return_"))]
    words = [document.parameter(a, f).replace("None takes fresh entropy", "None takes one from torch's generator")
             for a in arguments]
    texts = [f"x : Tensor, {inside}\n    On the CPU or a CUDA device, any strides.  {document.HALF_NOTE}.", *words]
    more = "".join(f"; with {a.name} a tuple whose next element they are" for a in arguments if a.name.startswith("return_"))
    return "\n".join([
        f"{title(p)}\n\n{p.operation.formula.equation}\n\n{NEAR}\n{kept(p)}\n",
        document.section("Parameters", "\n".join(texts)),
        document.section("Returns", f"y : Tensor, {outside}\n    In x's memory order{more}."),
        document.section("Raises", "ValueError, TypeError, BufferError\n    As the function of numbapool."),
        document.section("Source", p.operation.formula.source)])


def of_layer(p: Pooling, kind: type, signature: inspect.Signature) -> str:
    """A layer's."""
    inside, outside = document.shapes(p.forward)
    by_name = {a.name: document.parameter(a, p.forward) for a in (*p.arguments, *p.forward.arguments)}
    texts = [by_name[n] + (": the initial value, whose shape the Parameter has" if n in p.learns else "")
             for n in signature.parameters if n in by_name and n not in getattr(kind, "extra", ())]
    own = (kind.__doc__ or "").partition("\n\n")[2] if getattr(kind, "extra", ()) else ""
    takes = [n for n in (*p.tensors, *(n for n in p.names if n in ("seed", "samples", "indices", "sequences"))) if n not in signature.parameters]
    call = f"layer(x{''.join(f', {n}' for n in dict.fromkeys(takes) if n in p.tensors)})"
    return "\n".join([
        f"{title(p)}\n\n{p.operation.formula.equation}\n\nThe function behind it: numbapool.torch.functional.{p.name}.\n",
        document.section("Parameters", "\n".join(texts) + ("\n" + inspect.cleandoc(own) if own else "")),
        document.section("Shapes", f"{call}: x {inside} to {outside}"),
        document.section("Source", p.operation.formula.source)])


HEAD = "# Written by `make docs` from the pooling files; a test keeps it current.\nfrom collections.abc import Callable, Sequence\n" \
    "from typing import Any\n\n"


def stubs() -> dict[str, str]:
    """The texts of the type stubs, by file name."""
    from . import functional, layers
    functions = "".join(f"def {n}({functional.pooling(n).signature}) -> Any: ...\n" for n in functional.names())
    classes = "".join(f"class {name}(nn.Module):\n    def __init__({_constructor(layers.make(name, __name__))}) -> None: ...\n"
                      for name in layers.classes())
    replace = "def replace_pooling(model: nn.Module, to: str | Callable[[nn.Module], nn.Module], " \
        "only: type | tuple[type, ...] = ..., **own: Any) -> list[tuple[str, nn.Module, nn.Module]]: ...\n"
    return {"functional.pyi": f"{HEAD.replace('Callable, ', '')}__all__: list[str]\n\n{functions}",
            "__init__.pyi": f"{HEAD}from torch import nn\n\nfrom . import functional as functional\n\n__all__: list[str]\n\n{replace}{classes}"}


def _constructor(layer: Any) -> str:
    parameters, texts, named = layer.__signature__.parameters.values(), ["self"], False
    for q in parameters:
        if q.kind is q.KEYWORD_ONLY and not named:
            texts.append("*")
            named = True
        texts.append(f"{q.name}: {q.annotation}" + ("" if q.default is q.empty else f" = {q.default!r}"))
    return ", ".join(texts)
