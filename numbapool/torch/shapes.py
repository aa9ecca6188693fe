"""Shapes and strides of results without their values: for tracing, where sizes may be symbols (torch.SymInt)."""
from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from .. import windows
from ..call import axis_order, order_of, view_of
from ..libraries import dense
from ..prepared import Source


def outputs(form: str, spatial: Sequence[Any], given: dict[str, Any]) -> list[Any]:
    """The number of outputs along each axis, from packed arguments."""
    if form == "sliding":
        kernel, stride, pads = given["kernel_size"], given["stride"] or given["kernel_size"], given["padding"]
        return [windows.outputs_of(n, k, s, pads[2 * i], pads[2 * i + 1], d, given["ceil_mode"])
                for i, (n, k, s, d) in enumerate(zip(spatial, kernel, stride, given["dilation"], strict=True))]
    if form in ("adaptive", "unpooled"):
        return list(given["output_size"])
    if form == "global":
        return [1] * len(spatial)
    if form == "blurred":
        return [-(-n // s) for n, s in zip(spatial, given["stride"], strict=True)]
    if form == "max_blurred":
        return [-(-(n - k + 1) // s) for n, k, s in zip(spatial, given["kernel_size"], given["stride"], strict=True)]
    if form == "halved":
        return [n // 2 for n in spatial]
    if form == "sampled":
        if given["indices"] is not None:
            return [i.shape[0] for i in given["indices"]]
        return [n // k for n, k in zip(spatial, given["kernel_size"], strict=True)]
    if given.get("kernel_size") is not None:
        ratios = given["output_ratio"] or [0.0] * len(spatial)
        return given["output_size"] or [int(n * r) for n, r in zip(spatial, ratios, strict=True)]
    if given["sequences"] is not None:
        return [s.shape[0] - 1 for s in given["sequences"]]
    return [math.floor(np.float32(int(n)) / np.float32(r)) for n, r in zip(spatial, given["pooling_ratio"] or (), strict=True)]


def spatial_of(shape: Sequence[Any], ndim: int, channels_last: bool) -> Sequence[Any]:
    """The spatial part of x's shape."""
    return shape[-1 - ndim:-1] if channels_last else shape[len(shape) - ndim:]


def empty(x: torch.Tensor, sizes: Sequence[Any], ndim: int, channels_last: bool, where: str, dtype: torch.dtype | None = None) -> torch.Tensor:
    """A result of the given spatial size in x's memory order, as Call.empty makes it."""
    view = view_of(Source(0), tuple(x.shape), x.stride(), ndim, channels_last, f"{where}: x")
    last = order_of.__wrapped__(view.dims, view.strides)[1]
    batched = x.dim() == ndim + 2
    lead = (view.dims[0],) if batched else ()
    shape = (*lead, *sizes, view.dims[1]) if channels_last else (*lead, view.dims[1], *sizes)
    return x.new_empty_strided(shape, dense(shape, axis_order(ndim, batched, channels_last, bool(last))), dtype=dtype or x.dtype)
