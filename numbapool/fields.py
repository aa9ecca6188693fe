"""A public function's arguments as the C library takes them: the fields of numbapool_params."""
from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from .forms import listed
from .operation import Operation

FORMS = ("sliding", "adaptive", "global")
PADDINGS = ("valid", "same", "same_lower")  # by their numbers, the first of which says that the padding is given
AXES = ("kernel_size", "stride", "dilation", "output_size", "grid_size", "pooling_ratio", "output_ratio", "filter_size")  # a number for each axis
PAD_MODES = ("reflect", "replicate", "constant")  # by their numbers
Field = int | float | Sequence[int] | Sequence[float]


def of(operation: Operation, values: dict[str, Any]) -> dict[str, Field]:
    """The fields that the values of a call set; those of tensors, and None, set none.

    values : by the names of the public function's arguments
    """
    found: dict[str, Field] = {"rank": operation.ndim, "form": FORMS.index(operation.form.name) if operation.form.name in FORMS else 0}
    if "stride" in values and values["stride"] is None and values.get("kernel_size") is not None:
        values = {**values, "stride": values["kernel_size"]}  # also where a pooling has a default of its own
    for name, value in values.items():
        p = operation.parameters.get(name)
        if value is None:
            continue
        if name == "padding":
            found |= _padding(value, operation.ndim)
        elif name in AXES:
            each = list(value) if listed(value) else [value] * operation.ndim
            found[name] = [0 if v is None else v for v in each]
        elif name == "pad_mode":
            found[name] = PAD_MODES.index(value)
        elif p is not None and p.kind == "option":
            found[name] = list(p.choices).index(value)
        elif isinstance(value, bool | np.bool_):
            found[name] = int(value)
        elif np.ndim(value) == 0:
            found[name] = np.asarray(value).item()
    return found


def _padding(value: Any, ndim: int) -> dict[str, Field]:
    """Explicit paddings, or a mode."""
    mode, value = (PADDINGS.index(value), 0) if isinstance(value, str) else (0, value)
    each = list(value) if listed(value) else [value] * ndim
    pairs = [tuple(v) if listed(v) else (v, v) for v in each]
    return {"padding_mode": mode, "padding": [b for b, _ in pairs], "padding_after": [a for _, a in pairs]}
