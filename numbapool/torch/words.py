"""The docstrings of functions and layers, from what the pooling files say."""
from __future__ import annotations

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
    words = [document.parameter(a, f).replace("of the draws; None takes fresh entropy", "of the draws; None takes one of torch's generator")
             for a in arguments]
    texts = [f"x : Tensor, {inside}\n    On the CPU or a CUDA device, any strides.  {document.HALF_NOTE}.", *words]
    more = "".join(f"; with {a.name} a tuple whose next element they are" for a in arguments if a.name.startswith("return_"))
    return "\n".join([
        f"{title(p)}\n\n{p.operation.formula.equation}\n\n{NEAR}\n{kept(p)}\n",
        document.section("Parameters", "\n".join(texts)),
        document.section("Returns", f"y : Tensor, {outside}\n    In x's memory order{more}."),
        document.section("Raises", "ValueError, TypeError, BufferError\n    As the function of numbapool."),
        document.section("Source", p.operation.formula.source)])
