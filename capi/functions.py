"""The C functions of every pooling, from what the pooling files say: their declarations, and the source that passes them on to the core."""
from __future__ import annotations

import functools
import re
import textwrap
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numbapool
from numbapool import publish
from numbapool.operation import Operation
from numbapool.parameters import Parameter

DECLARATIONS = Path(__file__).with_name("declarations.h")
FAMILIES = ("fold", "select", "vote", "draw", "order", "unpool", "composed")
WIDTH = 150
# a parameter that is a tensor: its field in the core's request, and whether it and its gradient may be NULL
TENSORS = {"array": ("array", True), "logit": ("logit", False), "weights": ("weight", True), "kernel": ("weight", True), "filters": ("weight", True),
           "samples": ("samples", True), "indices": ("indices_in", False)}
SECOND = "second"  # the request's field of a composed pooling's second array
# what Python passes as one argument of windows, but C as several fields
FIELDS = {"padding": ("padding_mode", "padding", "padding_after"), "samples": (),
          "sequences": ("sequences", "sequence_sizes"), "indices": ("sequences", "sequence_sizes")}
UNPOOLED = {"padding": ("padding",)}  # whose padding is the same on both sides
ASCII = str.maketrans({"Σ": "sum", "ᵢ": "_i", "ᵣ": "_r", "₍": "_(", "₎": ")", "₁": "1", "₂": "2", "²": "^2",
                       "≥": ">=", "≤": "<=", "è": "e", "−": "-", "ε": "eps", "…": "...",
                       "α": "alpha", "β": "beta", "λ": "lambda", "ω": "omega", "√": "sqrt", "∝": "proportional to", "ₖ": "_k", "₊": "_+", "₋": "_-",
                       "⌊": "floor(", "⌋": ")"})


@dataclass(frozen=True)
class Argument:
    """A tensor of a C function: whether it is an input (const), whether it may be NULL, and the request's field that takes it."""

    name: str
    const: bool
    optional: bool = False
    field: str = ""
    doc: str = ""

    @property
    def declared(self) -> str:
        """As it stands in the prototype."""
        return f"{'const ' * self.const}DLTensor *{self.name}"

    @property
    def assigned(self) -> str:
        """As it stands in the request."""
        return f".{self.field or self.name} = {self.name}"


@dataclass(frozen=True)
class Function:
    """A public C function of a pooling.

    direction : "forward", "backward" or "shape".
    arguments : the tensors in order; `params` follows, and after that, for the direction "shape", `int64_t *shape`.
    """

    name: str
    pooling: str
    direction: str
    arguments: tuple[Argument, ...]

    @property
    def prototype(self) -> str:
        """Without the semicolon."""
        pieces = [a.declared for a in self.arguments] + ["const numbapool_params *params"] + ["int64_t *shape"] * (self.direction == "shape")
        return listed(f"int {self.name}(", pieces, ")")

    @property
    def definition(self) -> str:
        """The function in C: it passes on what it got."""
        own = {"shape": [".shape_only = true", ".shape = shape"], "forward": [".backward = false"], "backward": [".backward = true"]}[self.direction]
        pieces = [f".pooling = POOLING_{self.pooling.upper()}", *own, f'.where = "{self.name}"', *(a.assigned for a in self.arguments)]
        pieces.append(".params = params")
        return f"{self.prototype}\n{{\n{listed('    return run(&(request){', pieces, '});')}\n}}\n"


def listed(begin: str, pieces: list[str], end: str) -> str:
    """Text with commas, in lines that are broken after them alone, with room for a NUMBAPOOL_API."""
    text = textwrap.fill(", ".join(p.replace(" ", "\0") for p in pieces) + end, WIDTH - 14, initial_indent=begin, subsequent_indent=" " * 8)
    return text.replace("\0", " ")


def poolings() -> list[str]:
    """The names of the poolings that the C library has, sorted: the order of the core's enum.  A file says `in_c = False` where it has none."""
    found = {name: publish.operations(name)[0].formula for name in numbapool.POOLINGS}
    return sorted(name for name, formula in found.items() if getattr(formula, "in_c", True))


@functools.cache
def params_fields() -> dict[str, str]:
    """The fields of numbapool_params, by name, with their C types."""
    text = re.sub(r"/\*.*?\*/", "", DECLARATIONS.read_text(encoding="utf-8"), flags=re.DOTALL)
    body = next(b for b, name in re.findall(r"typedef struct \{([^{}]*)\} (\w+);", text) if name == "numbapool_params")
    found = re.findall(r"([\w ]+?[ *]+)(\w+)(\[\d+\])?;", body)
    return {name: kind.strip() + (size or "") for kind, name, size in found}


@functools.cache
def table() -> list[Function]:
    """Every function of every pooling."""
    return [f for name in poolings() for f in functions(name)]


def operation_of(pooling: str) -> Operation:
    """What stands behind a pooling's first form; the tensors are the same in all forms."""
    return publish.operations(pooling)[0]


def parameters_of(pooling: str) -> list[Parameter]:
    """All parameters of a pooling that the C library has, in the order of their declaration."""
    return [p for p in getattr(operation_of(pooling).formula, "parameters", ()) if p.in_c]


@functools.cache
def functions(pooling: str) -> tuple[Function, ...]:
    """The shape, forward and backward functions of one pooling."""
    check(pooling)
    base = f"numbapool_{getattr(operation_of(pooling).formula, 'function', f'{pooling}_pool')}"
    return (Function(f"numbapool_{pooling}_shape", pooling, "shape", (Argument("x", True),)),
            Function(base, pooling, "forward", tuple(forward(pooling))),
            Function(f"{base}_backward", pooling, "backward", tuple(backward(pooling))))


def check(pooling: str) -> None:
    """Refuse what the C interface has no place for."""
    operation, where = operation_of(pooling), f"pools/{pooling}.py"
    if operation.formula.family not in FAMILIES:
        raise ValueError(f"{where}: the C library has no family {operation.formula.family!r}, only {', '.join(FAMILIES)}")
    taken: dict[str, Parameter] = {}
    for p in parameters_of(pooling):
        other = taken.setdefault(field_of(pooling, p), p) if p.kind in TENSORS else p
        if other is not p:
            raise ValueError(f"{where}: the C library passes one parameter of the kind {other.kind!r}, not both {other.name} and {p.name}")
        if (p.kind not in TENSORS or numbered(p)) and p.name not in params_fields():
            raise ValueError(f"{where}: the {p.kind} {p.name} needs a field of its name in numbapool_params (capi/declarations.h)")
    missing = [f for f in window_fields(pooling) if f not in params_fields()]
    if missing:
        raise ValueError(f"{where}: the windows need {', '.join(missing)} in numbapool_params (capi/declarations.h)")


# ---------------------------------------------------------------- tensors


def numbered(p: Parameter) -> bool:
    """Whether a number of params may stand for an array."""
    return p.kind == "array" and "number" in p.shapes


def nullable(p: Parameter) -> bool:
    """Whether a tensor may be NULL itself."""
    return p.kind == "samples" or numbered(p) or (p.kind == "filters" and p.default is None)


def arrays_of(pooling: str) -> list[Parameter]:
    """Its array parameters, of which composed poolings may have two."""
    return [p for p in parameters_of(pooling) if p.kind == "array"]


def field_of(pooling: str, p: Parameter) -> str:
    """The request's field of a tensor."""
    composed = operation_of(pooling).formula.family == "composed"
    return SECOND if composed and p.kind == "array" and p.name != arrays_of(pooling)[0].name else TENSORS[p.kind][0]


def inputs(pooling: str) -> list[Argument]:
    """The tensors after x that both directions read: parameters, and the uniforms of windows that are drawn."""
    result = [Argument(p.name, True, nullable(p), field_of(pooling, p), doc_of(p)) for p in parameters_of(pooling) if p.kind in TENSORS]
    form = operation_of(pooling).form
    if "samples" in window_arguments(form):
        result.append(Argument("samples", True, True, "samples", form.words["samples"] + "; NULL: drawn from params->seed"))
    return result


def indexed(pooling: str) -> bool:
    """Whether y has indices as a tensor of its shape; s3's are vectors in params."""
    operation = operation_of(pooling)
    return operation.indexed and getattr(operation.form, "extras", None) != "return_indices"


def forward(pooling: str) -> list[Argument]:
    """The tensors of a forward function."""
    chosen = [Argument("indices", False, True, doc="int64, of y's shape: the chosen elements, flat in the unpadded plane")] * indexed(pooling)
    return [Argument("x", True), *inputs(pooling), Argument("y", False), *chosen]


def backward(pooling: str) -> list[Argument]:
    """The tensors of a backward function; of an unpooling's x only the shape counts, which is that of the indices."""
    x = [Argument("x", True)] * (operation_of(pooling).formula.family != "unpool")
    chosen = [Argument("indices", True, True, "indices_in", "of the forward pass; NULL: found again")] * indexed(pooling)
    learnable = [p for p in parameters_of(pooling) if p.learnable]
    gradients = [Argument(f"grad_{p.name}", False, TENSORS[p.kind][1], f"grad_{field_of(pooling, p)}",
                          f"of {p.name}'s shape" + f", one element where {p.name} is NULL" * numbered(p)) for p in learnable]
    return [Argument("grad", True), *x, *inputs(pooling), *chosen, Argument("grad_x", False), *gradients]


def doc_of(p: Parameter) -> str:
    """What a tensor parameter holds."""
    instead = {"array": f"params->{p.name}", "samples": "drawn from params->seed"}.get(p.kind)
    doc = p.doc.replace("; None:", "; NULL:")
    return f"{doc}; NULL: {instead}" if instead and nullable(p) else doc


# ---------------------------------------------------------------- comments


def window_arguments(form: Any) -> list[str]:
    """The names of a form's arguments."""
    positional, keyword = form.arguments({})
    return [name for name, *_ in (*positional, *keyword)]


def window_fields(pooling: str) -> list[str]:
    """The fields of numbapool_params that say where the windows are."""
    forms, unpool = [o.form for o in publish.operations(pooling)], operation_of(pooling).formula.family == "unpool"
    names = dict.fromkeys(name for form in forms for name in window_arguments(form))
    fields = [f for name in names for f in (UNPOOLED if unpool else {}).get(name, FIELDS.get(name, (name,)))]
    return ["rank", "channels_last", *["form"] * (len({f.name for f in forms}) > 1), *dict.fromkeys(fields)]


def own_fields(pooling: str, direction: str) -> list[str]:
    """The fields of a pooling's own that only one direction reads, or ("both") both."""
    own = [p for p in parameters_of(pooling) if p.kind not in TENSORS or numbered(p)]
    return [p.name for p in own if p.direction == direction and p.name in params_fields()]


def ascii_of(text: str) -> str:
    """A formula without letters that a C compiler's locale may not know."""
    return text.replace("₍ᵣ₎", "_(r)").translate(ASCII)


def comment(pooling: str) -> str:
    """What a pooling computes, and from what."""
    formula = operation_of(pooling).formula
    title = getattr(formula, "headline", f"{formula.title[0].upper()}{formula.title[1:]} pooling")
    lines = [f"{title}.  {formula.equation}", f"dy/dx_i: {formula.gradient}", f"Source: {formula.source}"]
    one_way = [f"{name} ({way})" for way in ("forward", "backward") for name in own_fields(pooling, way)]
    lines.append(f"params: {', '.join(dict.fromkeys([*window_fields(pooling), *own_fields(pooling, 'both'), *one_way]))}")
    documented = {}
    for f in functions(pooling):
        for a in f.arguments:
            if a.doc:
                documented.setdefault(a.doc, (a.name + " (may be NULL)" * a.optional, f.direction))
    ways = {"forward": "", "backward": " in the backward pass"} if indexed(pooling) else {"forward": "", "backward": ""}
    lines += [f"{name}{ways[way] if name.startswith('indices') else ''}: {doc}" for doc, (name, way) in documented.items()]
    filled = [textwrap.fill(ascii_of(line), WIDTH, initial_indent=" * ", subsequent_indent=" *     ", break_long_words=False) for line in lines]
    return "/*" + "\n".join(filled)[2:] + " */\n"


def declarations() -> str:
    """The declarations of all poolings' functions, with a comment each."""
    return "\n".join(comment(name) + "".join(f"{f.prototype};\n" for f in functions(name)) for name in poolings())


def jax_tables() -> str:
    """jax_tables.h: what jax.cc finds functions and fields by."""
    taken = "\n".join(f'    {{"{f.name}", reinterpret_cast<void *>({f.name}), "{" ".join(a.name for a in f.arguments)}"}},'
                      for f in table() if f.direction != "shape")
    kinds = {"int32_t": "i", "int64_t": "l", "double": "d"}
    fields = [(n, *re.fullmatch(r"([\w ]+?)(?:\[(\d+)\])?", kind).groups()) for n, kind in params_fields().items() if "*" not in kind]
    fields = [(n, kinds[kind], count or 1) for n, kind, count in fields if kind in kinds]
    listed = "\n".join(f"    {{\"{n}\", offsetof(numbapool_params, {n}), '{kind}', {count}}}," for n, kind, count in fields)
    return (f"/* Written by the build (capi/functions.py). */\nstatic const function_entry functions[] = {{\n{taken}\n}};\n\n"
            f"static const field_entry fields[] = {{\n{listed}\n}};\n")


def source() -> str:
    """functions.c: every public function of a pooling, each of which is one call of the core."""
    head = '/* Written by the build (capi/functions.py). */\n#include "internal.h"\n#include "families.h"\n'
    return "\n".join([head, *(f.definition for f in table())])
