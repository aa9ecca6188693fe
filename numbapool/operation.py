"""An Operation is what stands behind one public function and its backward: its windows, its formula, its checks."""
from __future__ import annotations

import operator
import types
from collections.abc import Sequence
from typing import Any

from . import arrays, families, forms, random
from .arrays import Array
from .call import Call, View, view_of
from .numeric import FLOATS, INTEGERS, real_name
from .parameters import Parameter, check, flag
from .prepared import CALLS, SMALL, Held, Prepared, Snapshot, Source, exact

READ = ("logit", "indices", "seed")  # kinds of parameters that each call reads anew; on all others the prepared call depends
BY_VALUE = ("array", "weights", "samples")  # of these those that may be arrays
LAYOUT = operator.itemgetter(slice(1, 5))  # of an Array: all but its memory


class Way:
    """Forward or backward of an operation: what its public function passes on, and how messages begin.

    names : of the settings, in order; arrays : of the other arrays after x; by_value : the settings that may be arrays.
    """

    def __init__(self, operation: Operation, backward: bool) -> None:
        self.where, self.backward = operation.where + "_backward" * backward, backward
        own = [p for p in operation.parameters.values() if p.direction in ("both", "backward" if backward else "forward")]
        extras = getattr(operation.form, "extras", None)
        flags = [] if backward else [extras] * bool(extras) + ["return_indices"] * (operation.indexed and extras != "return_indices")
        self.names = (*operation.window, *(p.name for p in own if p.kind not in READ), *flags, "channels_last")
        self.arrays = tuple(p.name for p in own if p.kind in READ and p.kind != "seed")
        self.by_value = tuple((self.names.index(p.name), p) for p in own if p.kind in BY_VALUE)
        self.seeded = any(p.kind == "seed" for p in own)
        self.converted = frozenset() if operation.integers else frozenset(INTEGERS)  # dtypes of x that become others
        self.convert = arrays.as_whole if operation.wide and not backward else arrays.as_float
        self.x, self.grad, self.indices, self.out = (f"{self.where}: {n}" for n in ("x", "grad", "indices", "out"))
        self.heads = [f"{self.where}: {n}" for n in self.arrays]

    def values(self, settings: tuple, kinds: tuple, given: list[Array]) -> tuple[tuple, tuple]:
        """Settings with arrays of any library as snapshots or, large ones, as NumPy's; and their types.  What lies on x's device becomes one of the
        arrays that are given."""
        for place, p in self.by_value:
            if kinds[place] is not float and settings[place] is not p.default:
                where, x = f"{self.where}: {p.name}", given[0]
                held = arrays.beside(settings[place], x, real_name(x.dtype), where) if x.library.index is not None else None
                value: Any
                if held is not None:
                    value = Held(len(given), held.shape, held.strides)
                    given.append(held)
                else:
                    value = arrays.values(settings[place], where)
                if held is None and value.nbytes <= SMALL:
                    value = Snapshot(value.dtype, value.shape, value.tobytes())
                settings, kinds = ((*t[:place], v, *t[place + 1:]) for t, v in ((settings, value), (kinds, type(value))))
        return settings, kinds


class Operation:
    """Forward and backward of one pooling with one kind of windows in one number of dimensions."""

    def __init__(self, name: str, formula: types.ModuleType, form: Any, ndim: int, where: str | None = None) -> None:
        self.name, self.formula, self.form, self.ndim = name, formula, form, ndim
        self.where = where or f"{form.prefix}{getattr(formula, 'function', name + '_pool')}{ndim}d"
        declared: tuple[Parameter, ...] = getattr(formula, "parameters", ())
        self.parameters = {p.name: p for p in declared if p.forms is None or form.name in p.forms}
        self.share = getattr(formula, "share", lambda own: "inside")
        self.integers = formula.family in ("select", "vote", "unpool")  # integers stay what they are
        self.wide = getattr(formula, "wide_integers", False)  # they are summed as int64
        self.indexed = formula.family in ("select", "vote", "draw")  # y are elements, which have positions
        positional, keyword = form.arguments(getattr(formula, "defaults", {}))
        self.window = tuple(name for name, *_ in (*positional, *keyword))
        self.ways = Way(self, False), Way(self, True)

    # ---------------------------------------------------------------- calls

    def forward(self, x: Any, settings: tuple, kinds: tuple, others: tuple = (), seed: int | None = None, out: Any = None) -> Any:
        """y; a tuple with the indices, and with what was drawn, where they are asked for.

        settings : the values of `way.names`; kinds : their types; others : the values of `way.arrays`.
        """
        way = self.ways[0]
        given = [arrays.borrow(x, way.x)]
        if others:
            given += map(arrays.borrow, others, way.heads)
        return self.run(way, given, settings, kinds, seed, None if out is None else arrays.offered(out, way.out))

    def backward(self, grad: Any, x: Any, settings: tuple, kinds: tuple, others: tuple = (), seed: int | None = None, indices: Any = None) -> Any:
        """grad_x; a tuple where other inputs have gradients too."""
        way = self.ways[1]
        given = [arrays.borrow(x, way.x), *map(arrays.borrow, others, way.heads), arrays.borrow(grad, way.grad)]
        if indices is not None:
            given.append(arrays.as_int64(arrays.borrow(indices, way.indices)))
        return self.run(way, given, settings, kinds, seed)

    def settings(self, backward: bool, **values: Any) -> tuple[tuple, tuple]:
        """The settings of a call by these values and else the parameters' defaults, and their types: for operations that call others."""
        values = {**{n: p.default for n, p in self.parameters.items()}, "return_indices": False, "channels_last": False, **values}
        found = tuple(values[n] for n in self.ways[backward].names)
        return found, tuple(map(type, found))

    def run(self, way: Way, given: list[Array], settings: tuple, kinds: tuple, seed: int | None = None, out: Array | None = None) -> Any:
        """Run a call as one that was alike, or prepare it."""
        if given[0][3] in way.converted:
            given[0] = way.convert(given[0])
        if way.by_value:
            settings, kinds = way.values(settings, kinds, given)
        key = (way, kinds, settings, seed is None, out and out[1:5], *map(LAYOUT, given))  # kinds first: those of equal keys are equal
        try:
            call = CALLS.young.get(key)
        except TypeError:  # a list, an array
            call = None
        if call is None:
            call = self.find(key, given, out, seed)
        if way.seeded:
            seed = random.key(seed, way.where) if call.draws or seed is not None else None  # checked also where nothing is drawn
        return call.run(given, seed, out)

    # ---------------------------------------------------------------- their preparation

    def find(self, key: tuple, given: list[Array], out: Array | None, seed: int | None) -> Prepared:
        """The prepared call of a key, which is kept, if it may be."""
        way, kinds, settings, *rest = key
        try:
            key = (way, kinds, exact(kinds, settings), *rest)
            call = CALLS.get(key)
        except TypeError:  # a setting that may change, such as an object with __index__
            return self.prepare(way, list(map(arrays.layout, given)), settings, seed, out and arrays.layout(out))
        if call is None:
            call = self.prepare(way, list(map(arrays.layout, given)), settings, seed, out and arrays.layout(out))
            if not hasattr(self.form, "arrange"):  # which draws windows
                CALLS.keep(key, call)
        return call

    def prepare(self, way: Way, given: list[Array], settings: tuple, seed: int | None, out: Array | None) -> Prepared:
        """Check all that layouts and settings decide, and choose the kernels."""
        values = {n: v.array if type(v) is Snapshot else v for n, v in zip(way.names, settings, strict=True)}
        window = tuple(values[n] for n in self.window)
        own = {n: values[n] for n in self.parameters if n in values} | ({"seed": seed} if way.seeded else {})
        if seed is not None and own.get("samples") is not None:
            raise ValueError(f"{way.where}: samples do not go with a seed")
        if way.backward:
            indexed = len(given) - sum(type(v) is Held for v in settings) > 2 + len(way.arrays)
            return self.prepare_backward(way, given, window, own, values["channels_last"], indexed)
        extras = getattr(self.form, "extras", None)
        wanted = {n: flag(values[n], f"{way.where}: {n}") for n in ("return_indices", extras) if n in values}
        drawn, indexed = wanted.pop(extras, False), wanted.get("return_indices", False)
        if indexed and own.get("training") is False:
            raise ValueError(f"{way.where}: there are no indices with training=False")
        call = self.begin(given, window, own, values["channels_last"], way.where, out)
        if drawn and not call.extras:
            raise ValueError(f"{way.where}: {extras} does not go with kernel_size")
        results = self.family(call).forward(call, indexed)
        return call.prepared([*results, call.drawn] if drawn else results)

    def prepare_backward(self, way: Way, given: list[Array], window: tuple, own: dict[str, Any], channels_last: bool, indexed: bool) -> Prepared:
        """The same for backward."""
        call = self.begin(given, window, own, channels_last, way.where)
        place = 1 + len(way.arrays)
        if not indexed and hasattr(self.form, "repeatable") and not self.form.repeatable(window):
            raise ValueError(f"{way.where}: pass the seed or the indices, samples or sequences of the forward pass")
        grad = call.argument(place, "grad", call.out_dims, FLOATS if call.dtype in INTEGERS else (call.dtype,))
        index = call.argument(place + 1, "indices", call.out_dims, ("int64",)) if indexed else None
        return call.prepared(self.family(call).backward(call, grad, index))

    def family(self, call: Call) -> Any:
        """The family of the call; a formula may have another one outside training."""
        other = getattr(self.formula, "inference", None)
        return families.of(call).FAMILIES[other if other and not call.own["training"] else self.formula.family]

    def begin(self, given: Sequence[Array], window: tuple, own: dict[str, Any], channels_last: bool, where: str, out: Array | None = None) -> Call:
        """Check what forward and backward share: the shape of x, the windows, the parameters."""
        channels_last = flag(channels_last, f"{where}: channels_last")
        view = view_of(Source(0), given[0].shape, given[0].strides, self.ndim, channels_last, f"{where}: x")
        own = {n: check(self.parameters[n], value, f"{where}: {n}") for n, value in own.items()}
        axes, extras = self.axes(view, given[0], window, own, where)
        formula = self.formula_of(own, given[0].dtype)
        return Call(where, formula, given, view, axes, own, ndim=self.ndim, channels_last=channels_last, extras=extras, target=out)

    def result(self, dtype: str) -> str:
        """The dtype of y for an x of a dtype."""
        return dtype if self.integers or dtype in FLOATS else "int64" if self.wide else arrays.float_name(dtype)

    def formula_of(self, own: dict[str, Any], dtype: str) -> types.ModuleType:
        """The formula of a call: NaN, which only floats have, may be left out."""
        return self.formula.ignoring_nan(own) if own.get("ignore_nan") and dtype in FLOATS else self.formula

    def axes(self, view: View, x: Array, window: tuple, own: dict[str, Any], where: str) -> tuple[forms.Axes, Any]:
        """The windows, and what was drawn for them (None where nothing is)."""
        if hasattr(self.form, "arrange"):
            return self.form.arrange(view, x, window, where, self.ndim)
        return forms.axes_of(self.form, where, view.dims[5 - self.ndim:], window, self.share(own)), None
