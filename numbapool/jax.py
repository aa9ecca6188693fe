"""Every pooling with gradients on JAX arrays, in jax.jit, jax.grad and jax.vmap: the functions of numbapool, with its names and arguments.

    from numbapool import jax as nbj
    y = nbj.soft_pool2d(x, 2)                       # numbapool.soft_pool2d(x, 2), which jax.grad sees

Compiled code calls the C library, where that is built (xla.py), or back into the kernels, which run on the CPU.  The call is a primitive of its own
and not jax.pure_callback: that puts arrays on a device before it shows them to the callback, which waits for a thread of the pool on whose threads
callbacks run; two of them with arrays of 120 KB, on two cores, wait forever (jax 0.10; https://github.com/jax-ml/jax/issues/24255).  Here callbacks
get NumPy arrays.
"""
from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from math import prod
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.extend.core import Primitive
from jax.interpreters import ad, batching, mlir

from . import arrays, document, pairs, random, subnormals, xla
from .arrays import Array
from .call import view_of
from .libraries import NUMPY, dense
from .pairs import Pair
from .parameters import flag
from .prepared import Snapshot, Source


class Pooling(Pair):
    """Forward and backward of one function on JAX and NumPy arrays, and what it gives."""

    def seeded(self, values: tuple) -> tuple:
        """Values whose seed is a number: it comes as an array, of two words where the caller gave an int."""
        if self.seed is None or values[self.seed] is None:
            return values
        words = np.asarray(values[self.seed])
        number = int(words) if words.ndim == 0 else int(words[0]) | int(words[1]) << 32
        return (*values[:self.seed], number, *values[self.seed + 1:])

    def results(self, x: Any, given: dict[str, Any], indexed: bool, drawn: bool) -> tuple[jax.ShapeDtypeStruct, ...]:
        """The shapes and dtypes of y, the indices and the windows that are drawn, with all checks that do not need the values of arrays."""
        operation, where, last = self.operation, self.name, given["channels_last"]
        layout = Array(0, x.shape, dense(x.shape), x.dtype.name, NUMPY, None)
        index = jnp.int64 if jax.config.jax_enable_x64 else jnp.int32
        if indexed and index is jnp.int32 and prod(x.shape[-1 - self.ndim:]) >= 1 << 31:
            raise ValueError(f"{where}: return_indices needs jax_enable_x64 for planes of this size")
        if indexed and given.get("training") is False:
            raise ValueError(f"{where}: there are no indices with training=False")
        if drawn and given.get("training") is False:
            raise ValueError(f"{where}: there are no drawn positions outside training")
        if operation.form.name == "sampled" and given["training"] is False:
            given = {**given, "training": True, "seed": 0}  # which makes as many outputs
        window = tuple(given[n] for n in operation.window)
        if hasattr(operation.form, "size"):
            view = view_of(Source(0), x.shape, layout.strides, self.ndim, flag(last, f"{where}: channels_last"), f"{where}: x")
            lead = view.dims[:2] if x.ndim == self.ndim + 2 else view.dims[1:2]
            shape, more = operation.form.size(view.dims[5 - self.ndim:], lead, last, window, where), ()
            shape = (*lead[:-1], *shape, lead[-1]) if last else (*lead, *shape)
        else:
            own = {n: given[n] for n in operation.parameters if n in given and n != "seed"}
            call = operation.begin([layout], window, own, last, where)
            shape, more = call.shape(call.out_dims), call.extras if drawn else ()
            if drawn and not more:
                raise ValueError(f"{where}: {self.extras} does not go with kernel_size")
        found = [jax.ShapeDtypeStruct(shape, x.dtype), *[jax.ShapeDtypeStruct(shape, index)] * indexed]
        return (*found, *(jax.ShapeDtypeStruct(e.shape, index) for e in more))


@functools.cache
def pooling(name: str) -> Pooling:
    """What stands behind a function."""
    return Pooling(*pairs.functions()[name])


# ---------------------------------------------------------------- the primitive

@dataclass(frozen=True)
class Work:
    """A pass without its arrays; equal ones share what JAX compiles.

    settings : a pooling's values, None for those that are operands; names : of the operands; results : their shapes and dtypes;
    indexed, drawn : what forward returns beside y.
    """

    pooling: Pooling
    settings: tuple
    names: tuple[str, ...]
    results: tuple[jax.ShapeDtypeStruct, ...]
    indexed: bool = False
    drawn: bool = False

    @property
    def backward(self) -> bool:
        """Which of the passes it is."""
        return self.names[0] == "grad"

    @property
    def learned(self) -> list[str]:
        """The operands beside x that have a gradient."""
        return [n for n in self.pooling.learns if n in self.names]

    def run(self, *operands: Any) -> list[Any]:
        """The results of NumPy or JAX arrays, in their library."""
        p, given = self.pooling, dict(zip(self.names, operands, strict=True))
        values = tuple(given.get(n, thawed(v)) for n, v in zip(p.names, self.settings, strict=True))
        if self.backward:
            grad_x, *more = p.run_backward(given["grad"], given["x"], values, given.get("chosen"))
            found = [grad_x, *(g for n, g in zip(p.learns, more, strict=True) if n in given)]
        else:
            y = p.run(given["x"], values, self.indexed, self.drawn)
            found = list(jax.tree.leaves(y))
        return [f if f.dtype == r.dtype else f.astype(r.dtype) for f, r in zip(found, self.results, strict=True)]

    def gradients(self, operands: Sequence[Any]) -> Work:
        """The backward pass of this forward pass, for these operands."""
        wanted = [operands[self.names.index(n)] for n in ("x", *self.learned)]
        return replace(self, names=("grad", *self.names, *("chosen",) * self.indexed), indexed=False, drawn=False,
                       results=tuple(jax.ShapeDtypeStruct(w.shape, w.dtype) for w in wanted))

    # A batch of calls is one call with a longer batch where its arrays have one, and nothing is drawn by a place in it or summed over it.

    @property
    def planes(self) -> set[str]:
        """Operands of x's or y's shape."""
        return {"grad", "x", "chosen", "samples", *self.pooling.planes}

    def joins(self, mapped: set[str]) -> bool:
        """Whether a batch of calls, which differ in these operands, can be one."""
        sums = self.backward and not self.planes.issuperset(self.learned)
        return mapped <= self.planes and "seed" not in self.names and not self.drawn and not sums

    def joined(self, size: int, batched: bool) -> Work:
        """The one call."""
        def longer(shape: tuple[int, ...]) -> tuple[int, ...]:
            return (size * shape[0], *shape[1:]) if batched else (size, *shape)
        return replace(self, results=tuple(jax.ShapeDtypeStruct(longer(r.shape), r.dtype) for r in self.results))


def evaluate(*operands: Any, work: Work) -> list[Any]:
    """Outside of jit: the kernels at once, on JAX's own memory where that is the CPU's."""
    x = operands[work.names.index("x")]
    if all(device.platform == "cpu" for device in jnp.asarray(x).devices()):
        return [jnp.asarray(r) for r in work.run(*operands)]
    return [jnp.asarray(r) for r in work.run(*map(np.asarray, operands))]


def lower(ctx: Any, *operands: Any, work: Work) -> Any:
    """Within jit: a call back."""
    def back(*operands: np.ndarray) -> list[np.ndarray]:
        with subnormals.kept():
            return work.run(*operands)
    return mlir.emit_python_callback(ctx, back, None, list(operands), ctx.avals_in, ctx.avals_out, has_side_effect=False)[0]


def lower_for_cpu(ctx: Any, *operands: Any, work: Work) -> Any:
    """Within jit on a CPU: a call of the C library, where that is built and has the pooling."""
    p = work.pooling
    values = {n: thawed(v) for n, v in zip(p.names, work.settings, strict=True) if n not in work.names}
    attributes = xla.attributes(p, values, work.names, ctx.avals_in, work.learned, indexed=work.indexed, drawn=work.drawn)
    return lower(ctx, *operands, work=work) if attributes is None else jax.ffi.ffi_lowering(xla.TARGET)(ctx, *operands, **attributes)


def batch(operands: Sequence[Any], dims: Sequence[int | None], *, work: Work) -> tuple[list[Any], list[int]]:
    """Within vmap: one call, or one after the other."""
    size = next(v.shape[d] for v, d in zip(operands, dims, strict=True) if d is not None)
    moved = [v if d is None else jnp.moveaxis(v, d, 0) for v, d in zip(operands, dims, strict=True)]
    mapped = {n: v for n, v, d in zip(work.names, moved, dims, strict=True) if d is not None}
    if not work.joins(set(mapped)):
        rest = dict(zip(work.names, operands, strict=True))
        found = jax.lax.map(lambda one: primitive.bind(*({**rest, **one}[n] for n in work.names), work=work), mapped)
        return found, [0] * len(found)
    batched = len(work.results[0].shape) == work.pooling.ndim + 2

    def flat(name: str, v: Any) -> Any:
        if name not in work.planes:
            return v
        v = v if name in mapped else jnp.broadcast_to(v, (size, *v.shape))
        return v.reshape(size * v.shape[1], *v.shape[2:]) if batched else v
    found = primitive.bind(*map(flat, work.names, moved), work=work.joined(size, batched))
    return [f.reshape(size, *r.shape) for f, r in zip(found, work.results, strict=True)], [0] * len(found)


def refuse(primals: Any, tangents: Any, *, work: Work) -> Any:
    """Derivatives of a pass: of forward they are defined by `pooled`."""
    raise NotImplementedError(f"{work.pooling.name} has no {'second' if work.backward else 'forward-mode'} derivatives in JAX")


primitive = Primitive("numbapool")
primitive.multiple_results = True
primitive.def_impl(evaluate)
primitive.def_abstract_eval(lambda *operands, work: [jax.core.ShapedArray(r.shape, r.dtype) for r in work.results])
mlir.register_lowering(primitive, lower)
mlir.register_lowering(primitive, lower_for_cpu, platform="cpu")
batching.primitive_batchers[primitive] = batch
ad.primitive_jvps[primitive] = refuse


@functools.partial(jax.custom_vjp, nondiff_argnums=(0,))
def pooled(work: Work, operands: tuple) -> tuple:
    """The results of a forward pass."""
    return tuple(primitive.bind(*operands, work=work))


def _forward(work: Work, operands: tuple) -> tuple:
    results = pooled(work, operands)
    return results, (operands, results[1:1 + work.indexed])


def _backward(work: Work, kept: tuple, cotangents: tuple) -> tuple:
    (operands, chosen), grad = kept, cotangents[0]
    if grad.dtype == jax.dtypes.float0:  # of integers
        return (None,)
    found = primitive.bind(grad, *operands, *chosen, work=work.gradients(operands))
    by_name = dict(zip(("x", *work.learned), found, strict=True))
    return (tuple(by_name.get(n) for n in work.names),)


pooled.defvjp(_forward, _backward)


# ---------------------------------------------------------------- the functions

def frozen(value: Any, where: str) -> Any:
    """A setting that can be compared and hashed."""
    if isinstance(value, list | tuple):
        return tuple(frozen(v, where) for v in value)
    if isinstance(value, jax.core.Tracer):
        raise TypeError(f"{where} must be known when JAX traces the call, got a tracer")
    if isinstance(value, np.ndarray | jax.Array):
        value = np.asarray(value)
        return Snapshot(value.dtype, value.shape, value.tobytes())
    return value


def thawed(value: Any) -> Any:
    """The setting again."""
    if type(value) is Snapshot:
        return value.array
    return tuple(map(thawed, value)) if type(value) is tuple else value


def operand(p: Pooling, name: str, value: Any) -> Any:
    """An argument as an array that JAX may trace; None where it is a setting."""
    where = f"{p.name}: {name}"
    if name == "seed" and value is not None:
        if not isinstance(value, jax.Array | np.ndarray):
            key = random.key(value, p.name)
            return np.array([key & 0xFFFFFFFF, key >> 32], np.uint32)
        if value.ndim or not jnp.issubdtype(value.dtype, jnp.integer):
            raise TypeError(f"{where} must be an int or an array of one integer, got {value.dtype}{list(value.shape)}")
        return value
    if name not in (*p.tensors, "samples") or not isinstance(value, jax.Array | np.ndarray):
        return None
    integers = name in p.learns and not jnp.issubdtype(value.dtype, jnp.floating)
    return jnp.asarray(value, jnp.result_type(float) if integers and value.dtype != bool else None)


def call(p: Pooling, x: Any, values: tuple, indexed: bool = False, drawn: bool = False) -> Any:
    """What a function does with its arguments."""
    if not isinstance(x, jax.Array | np.ndarray):
        raise TypeError(f"{p.name}: x must be a JAX array, got {type(x).__name__}; numbapool.{p.name} takes other arrays")
    if p.undecided(values):
        instead = " or ".join(p.names[i] for i in (p.seed, *p.instead))
        raise ValueError(f"{p.name}: pass {instead}; a seed may be an int or an array of one integer, such as jax.random.bits(key)")
    x, indexed, drawn = jnp.asarray(x), flag(indexed, f"{p.name}: return_indices"), flag(drawn, f"{p.name}: {p.extras}")
    arrays.name_of(x.dtype, f"{p.name}: x")
    if not p.operation.integers and not jnp.issubdtype(x.dtype, jnp.floating):
        x = x.astype(jnp.float64 if x.dtype.itemsize == 8 else jnp.float32)
    operands, settings, stand_ins = {"x": x}, [], {}
    for name, value in zip(p.names, values, strict=True):
        array = operand(p, name, value)
        if array is not None:
            operands[name], stand_ins[name] = array, 0 if name == "seed" else np.broadcast_to(0.5, array.shape)
        settings.append(None if array is not None else frozen(value, f"{p.name}: {name}"))
    results = p.results(x, {**dict(zip(p.names, values, strict=True)), **stand_ins}, indexed, drawn)
    y, *more = pooled(Work(p, tuple(settings), tuple(operands), results, indexed, drawn), tuple(operands.values()))
    windows = [tuple(more[indexed:])] if drawn else []
    return (y, *more[:indexed], *windows) if more else y


def docstring(p: Pooling) -> str:
    """A function's."""
    f, (inside, outside) = p.forward, document.shapes(p.forward)
    words = [document.parameter(a, f).replace("int64, flat", "integers, flat").replace(
        "None takes fresh entropy", "an int or an array of one integer, which may be traced; needed where nothing takes its place")
        for a in (*p.arguments, *p.returns)]
    kept = "".join(f", the {n}" for n in p.tensors) + ", the indices where they are returned" * p.indexed
    more = "".join(f"; with {a.name} a tuple whose next element they are" for a in p.returns)
    return "\n".join([
        f"{document.docstring(f).partition(chr(10))[0]}\n\n{p.operation.formula.equation}\n\n"
        f"Goes through jax.jit, jax.grad (once, in reverse) and jax.vmap; runs on the CPU.\nBackward keeps x{kept}.\n",
        document.section("Parameters", "\n".join([f"x : Array, {inside}\n    {document.HALF_NOTE}.", *words])),
        document.section("Returns", f"y : Array, {outside}{more}."),
        document.section("Raises", "ValueError, TypeError\n    As the function of numbapool; within jax.jit, where values of arrays are wrong,\n"
                                   "    jax.errors.JaxRuntimeError, which quotes them."),
        document.section("Source", p.operation.formula.source)])


def make(name: str) -> Callable[..., Any]:
    """The function of a name."""
    p = pooling(name)
    flags = f"{'return_indices' if p.indexed else False}, {p.extras or False}"
    text = f"def {name}({p.signature}) -> Any:\n    return _call(x, ({', '.join(p.names)},), {flags})\n"
    scope = dict(_call=functools.partial(call, p), Any=Any, Sequence=Sequence, __name__=__name__)
    exec(compile(text, f"<{__name__}.{name}>", "exec", dont_inherit=True), scope)  # noqa: S102
    scope[name].__doc__ = docstring(p)
    return scope[name]


__getattr__, __dir__ = pairs.when_asked(globals(), make)
