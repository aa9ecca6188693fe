"""An Operation is what stands behind one public function and its backward: its windows, its formula, its checks."""
from __future__ import annotations

import types
from typing import Any

from . import arrays, forms
from .call import Call, View, view_of
from .families import FAMILIES
from .numeric import FLOATS, INTEGERS
from .parameters import Parameter, check, flag


class Operation:
    """Forward and backward of one pooling with one kind of windows in one number of dimensions."""

    def __init__(self, name: str, formula: types.ModuleType, form: Any, ndim: int) -> None:
        self.name, self.formula, self.form, self.ndim = name, formula, form, ndim
        self.where = f"{form.prefix}{getattr(formula, 'function', name + '_pool')}{ndim}d"
        declared: tuple[Parameter, ...] = getattr(formula, "parameters", ())
        self.parameters = {p.name: p for p in declared if p.forms is None or form.name in p.forms}
        self.share = getattr(formula, "share", lambda own: "inside")
        self.integers = formula.family in ("select", "unpool")  # integers stay what they are
        self.indexed = formula.family in ("select", "draw")  # y are elements, which have positions

    def family(self, own: dict[str, Any]) -> Any:
        """The family of the call; a formula may have another one outside training."""
        other = getattr(self.formula, "inference", None)
        return FAMILIES[other if other and not own["training"] else self.formula.family]

    def begin(self, x: Any, window: tuple, own: dict[str, Any], channels_last: bool, where: str) -> Call:
        """Check what forward and backward share: x, the windows, the parameters."""
        channels_last = flag(channels_last, f"{where}: channels_last")
        array = arrays.borrow(x, f"{where}: x")
        if array.dtype in INTEGERS and not self.integers:
            array = arrays.as_float(array)
        view = view_of(array, self.ndim, channels_last, f"{where}: x")
        own = {name: check(self.parameters[name], value, f"{where}: {name}") for name, value in own.items()}
        axes, extras = self.axes(view, window, own, where)
        return Call(where, self.formula, view, axes, own, ndim=self.ndim, batched=len(array.shape) == self.ndim + 2,
                    channels_last=channels_last, extras=extras)

    def axes(self, view: View, window: tuple, own: dict[str, Any], where: str) -> tuple[forms.Axes, Any]:
        """The windows, and what was drawn for them (None where nothing is)."""
        if hasattr(self.form, "arrange"):
            return self.form.arrange(view, window, where, self.ndim)
        return forms.axes_of(self.form, where, view.dims[5 - self.ndim:], window, self.share(own)), None

    def forward(self, x: Any, window: tuple, own: dict[str, Any], channels_last: bool = False, out: Any = None,
                return_indices: bool = False, return_extras: bool = False) -> Any:
        """y; a tuple with the indices, and with what was drawn, where they are asked for."""
        return_indices = flag(return_indices, f"{self.where}: return_indices")
        return_extras = flag(return_extras, f"{self.where}: {getattr(self.form, 'extras', None)}")
        if return_indices and own.get("training") is False:
            raise ValueError(f"{self.where}: there are no indices with training=False")
        call = self.begin(x, window, own, channels_last, self.where)
        if return_extras and not call.extras:
            raise ValueError(f"{self.where}: {self.form.extras} does not go with kernel_size")
        y, indices = self.family(call.own).forward(call, out, return_indices)
        results = [y if out is None else out] + [indices] * return_indices
        if return_extras:
            results.append(tuple(call.library.from_numpy(e, "int64") for e in call.extras))
        return tuple(results) if len(results) > 1 else results[0]

    def backward(self, grad: Any, x: Any, window: tuple, own: dict[str, Any], channels_last: bool = False,
                 indices: Any = None) -> Any:
        """grad_x; a tuple where other inputs have gradients too."""
        where = f"{self.where}_backward"
        call = self.begin(x, window, own, channels_last, where)
        if indices is None and hasattr(self.form, "repeatable") and not self.form.repeatable(window):
            raise ValueError(f"{where}: pass the seed or the indices, samples or sequences of the forward pass")
        dtypes = FLOATS if call.dtype in INTEGERS else (call.dtype,)
        return self.family(call.own).backward(call, call.given(grad, "grad", call.out_dims, dtypes), indices)
