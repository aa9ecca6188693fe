"""Max unpooling: y is 0 but where indices put the values of x; the partial inverse of max pooling with its indices.

Source: torch.nn.functional.max_unpool2d, with its default and its range of output sizes.  Where an index occurs twice, the
last value in row-major order stays.

Gradient: dy/dx_i = 1 at its index, as torch's; where an index occurs twice, for the overwritten value too.
"""
from __future__ import annotations

import functools
from math import prod
from typing import Any

from .. import arrays, families
from ..arrays import Array
from ..call import Call, View, order_of, view_of
from ..forms import per_axis
from ..operation import Operation, Way
from ..parameters import REQUIRED, Parameter, flag
from ..prepared import Prepared, Source
from ..sweeps import Axes
from ..windows import fake_axis, sliding

title = "max unpooling"
headline = "Max unpooling"
function = "max_unpool"
family = "unpool"
equation = "y[indexᵢ] = xᵢ, 0 elsewhere"
gradient = "1 at its index"
source = "torch.nn.functional.max_unpool2d"
example = {"indices": "np.broadcast_to(np.arange(x[0, 0].size).reshape(x.shape[2:]), x.shape)"}
parameters = (Parameter("indices", REQUIRED, "indices", "of max pooling: int64, x's shape, flat in the output's plane", leading=True),)


class Unpooled:
    """The output's size by max pooling's arguments."""

    name, prefix = "unpooled", ""
    words = {"output_size": "the spatial size of y, or its whole shape; None: (size - 1) * stride - 2 * padding + kernel_size"}

    def arguments(self, defaults: dict[str, Any]) -> tuple[list, list]:
        """The positional and the keyword-only arguments: name, type hint, default."""
        return [("kernel_size", "int | Sequence[int]", REQUIRED), ("stride", "int | Sequence[int] | None", None),
                ("padding", "int | Sequence[int]", 0), ("output_size", "Sequence[int] | None", None)], []

    @staticmethod
    def spatial_of(given: Any, lead: tuple[int, ...], channels_last: bool, ndim: int, where: str) -> Any:
        """The spatial part of an output_size that is a whole shape, whose other sizes must be x's."""
        if not isinstance(given, list | tuple) or len(given) != ndim + len(lead):
            return given
        given = tuple(given)
        spatial = given[-1 - ndim:-1] if channels_last else given[-ndim:]
        if ((*lead[:-1], *spatial, lead[-1]) if channels_last else (*lead, *spatial)) != given:
            raise ValueError(f"{where}: output_size must have x's batch and channels {lead}, got {given}")
        return spatial

    def size(self, spatial: tuple[int, ...], lead: tuple[int, ...], channels_last: bool, args: tuple, where: str) -> tuple[int, ...]:
        """The spatial size of y; lead: x's batch (if it has one) and channels."""
        ndim = len(spatial)
        kernel = per_axis(args[0], ndim, f"{where}: kernel_size")
        stride = kernel if args[1] is None else per_axis(args[1], ndim, f"{where}: stride")
        padding = per_axis(args[2], ndim, f"{where}: padding", 0)
        usual = tuple((n - 1) * s - 2 * p + k for n, s, p, k in zip(spatial, stride, padding, kernel, strict=True))
        if args[3] is None:
            result = usual
            if min(result) < 1:
                raise ValueError(f"{where}: kernel_size, stride and padding make no output from {spatial}, but {result}")
        else:
            result = per_axis(self.spatial_of(args[3], lead, channels_last, ndim, where), ndim, f"{where}: output_size")
            if any(not u - s < r < u + s for u, s, r in zip(usual, stride, result, strict=True)):
                raise ValueError(f"{where}: output_size must lie less than stride {stride} from {usual}, got {result}")
        if prod(result) * prod(lead) >= 1 << 48:
            raise ValueError(f"{where}: kernel_size, stride and padding make an output of {result}, which is too large")
        return result


def windows_of(kernel: tuple[int, ...], call: Call) -> Axes | None:
    """The windows side by side that the maxima were most likely taken of, where they are as many as these."""
    sizes = (*(1,) * (3 - len(kernel)), *kernel)
    axes = tuple(sliding(n, k, k, 0, 0, 1, False, "one") if n >= k else None for n, k in zip(call.x.dims[2:], sizes, strict=True))
    return axes if [a and a.count.size for a in axes] == list(call.out_dims[2:]) else None  # type: ignore[return-value]


class Unpool(Operation):
    """y has the plane that the indices point into, x the outputs' shape: a call with the roles exchanged."""

    def run(self, way: Way, given: list[Array], settings: tuple, kinds: tuple, seed: int | None = None, out: Array | None = None) -> Any:
        """As every operation's, with the indices as int64."""
        given[1] = arrays.as_int64(given[1])
        return super().run(way, given, settings, kinds, seed, out)

    def prepare(self, way: Way, given: list[Array], settings: tuple, seed: int | None, out: Array | None) -> Prepared:
        """The call whose input is y's plane, and whose outputs are x."""
        where, (*window, channels_last) = way.where, settings
        channels_last, x = flag(channels_last, f"{where}: channels_last"), given[0]
        values = view_of(Source(0), x.shape, x.strides, self.ndim, channels_last, f"{where}: x")
        lead = values.dims[:2] if len(x.shape) == self.ndim + 2 else values.dims[1:2]
        size = self.form.size(values.dims[5 - self.ndim:], lead, channels_last, tuple(window), where)
        plane = View(Source(0), (*values.dims[:2], *(1,) * (3 - self.ndim), *size), values.strides)  # type: ignore[arg-type]
        call = Call(where, self.formula, given, plane, tuple(fake_axis(n) for n in values.dims[2:]), {}, ndim=self.ndim,  # type: ignore[arg-type]
                    channels_last=channels_last, extras=(), target=out)
        call.lanes = call.memory_last = order_of(values.dims, values.strides)[1]  # of single elements x says nothing of y's planes
        index = call.argument(1, "indices", call.out_dims, ("int64",))
        if way.backward:
            return self.prepare_backward_of(call, index)
        kernel, stride, padding = (per_axis(v, self.ndim, where, 0) for v in (window[0], window[0] if window[1] is None else window[1], window[2]))
        beside = kernel == stride and not any(padding) and call.library.index is None
        return self.prepare_forward(call, values, index, windows_of(kernel, call) if beside else None)

    @staticmethod
    def prepare_forward(call: Call, values: View, index: View, axes: Axes | None) -> Prepared:
        """y; `out` may have any strides, a plane's are dense: filled by a copy."""
        scatter = families.of(call).scatter if axes is None else functools.partial(families.scatter, axes=axes)
        if call.target is None:
            return call.prepared([scatter(call, values, index, "replace")])
        y = call.output(call.x.dims)
        if call.library.index is not None:
            return call.prepared([scatter(call, values, index, "replace", target=y)])
        find = call.memory(scatter(call, values, index, "replace").source)

        def copied(made: list[Any]) -> Any:
            target, result = (arrays.borrow(m, call.where) for m in (made[0], find(made)))
            arrays.view(target, writable=True)[...] = arrays.view(result)
            return made[0]
        return call.prepared([copied])

    @staticmethod
    def prepare_backward_of(call: Call, index: View) -> Prepared:
        """grad_x: the elements of grad that the indices name."""
        g = call.argument(2, "grad", call.x.dims, (call.dtype,))
        return call.prepared([families.of(call).read_at(call, g, index)])


operation = Unpool
forms = (Unpooled(),)
