"""Stamping for a GPU, as stamp.py does it for the CPU: a formula, a dtype and a device's primitives are bound into a copy of a loop.

A device is an object with `names(dtype, lanes, wide)` and `jit(function)`: CUDA's here, one in plain Numba in the tests.
"""
from __future__ import annotations

import functools
import types
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from .. import cache, numeric, random
from ..loops.cuda import grid, ground, layout
from ..memory import recast
from ..numeric import real_name, storage_name
from ..stamp import _key, _reads, digest_of, plain

SHAPE = (layout.HEAD, (layout.OPERANDS, layout.RECORD))  # of a kernel's parameters
__all__ = ["CUDA", "SHAPE", "Kernel", "recast"]


class Cuda:
    """numba-cuda's primitives."""

    @staticmethod
    def names(dtype: str, lanes: int, wide: bool) -> dict[str, Any]:
        """The device's names for a dtype, lanes and width of places."""
        from . import intrinsics as i
        storage, real = storage_name(dtype), real_name(dtype)
        place = "int64" if wide else "int32"
        madd, quotient = i.integers(wide)
        return dict(
            i.PLACES, madd=madd, quotient=quotient, read=i.reader(storage), read_again=i.reader(storage, True), write=i.writer(storage),
            read_vector=i.vector_reader(storage, lanes), write_vector=i.vector_writer(storage, lanes), read_int=i.reader("int32"),
            read_real=i.reader(real), take_reals=i.vector_reader(real, lanes), give_reals=i.vector_writer(real, lanes),
            read_place=i.reader(place), write_place=i.writer(place), read_long=i.reader("int64"), write_long=i.writer("int64"),
            read_double=i.reader("float64"), write_double=i.writer("float64"),
            lanes_of=i.stack, half_to_float=i.half_to_float, float_to_half=i.float_to_half, muladd=i.muladd,
            two_to32=i.two_to, cuda=i.cuda, **{f"{a}_bits{n}": i.recast(*k) for n in (32, 64) for a, k in
                                               (("from", (f"int{n}", f"float{n}")), ("to", (f"float{n}", f"int{n}")))})

    @staticmethod
    def jit(function: Callable[..., Any]) -> Any:
        """A device function."""
        from . import intrinsics
        return intrinsics.device_function(function)


def intrinsics_file() -> str:
    """The source of the primitives, which is not imported where numba-cuda is missing."""
    return str(Path(__file__).with_name("intrinsics.py"))


CUDA = Cuda()
_made: dict[tuple, Any] = {}


@dataclass(frozen=True, eq=False)
class Kernel:
    """A loop with what is bound into it; compiled when it is first launched on a device of a kind.

    loop : the function of one task; modules : where it and its formula stand; bound : what their free names are; lanes : elements a task has
    side by side, along the channels if `channel`; wide : places of 64 bits; long_index : whether indices are int64, or places.
    """

    loop: str
    modules: tuple[types.ModuleType, ...]
    dtype: str
    bound: dict[str, Any] = field(default_factory=dict)
    lanes: int = 1
    channel: bool = False
    wide: bool = False
    long_index: bool = True
    sizes: dict[str, int] = field(default_factory=dict)  # of the arrays of a thread, in LANES
    span: int = 1  # elements of a row that a thread holds

    @functools.cached_property
    def name(self) -> str:
        """Its name on the device, which tells what it is and from which sources."""
        files = [m.__file__ for m in (ground, grid, layout, numeric, random, *self.modules)] + [__file__]
        files += [f.__code__.co_filename for f in self.bound.values() if isinstance(f, types.FunctionType)]
        named = sorted((k, v.__qualname__ if isinstance(v, types.FunctionType) else repr(v)) for k, v in self.bound.items())
        digest = digest_of([*files, intrinsics_file()], self.dtype, named, self.lanes, self.channel, self.wide, self.long_index,
                           sorted(self.sizes.items()), self.span)
        return f"numbapool_{self.modules[-1].__name__.rpartition('.')[2]}_{self.loop}_{self.dtype}_{digest}"

    def names(self, device: Any) -> dict[str, Any]:
        """Everything that the loop may read, as plain Python and the device's primitives."""
        real, storage = real_name(self.dtype), storage_name(self.dtype)
        common = numeric.namespace(self.dtype)
        names = {k: v for k, v in plain(random).items() if k not in ("uniforms", "key")} | common
        for module in (layout, ground, *self.modules):
            names |= {k: v for k, v in plain(module).items() if k not in common or module is ground}
        ix = np.int64 if self.wide else np.int32
        own = device.names(self.dtype, self.lanes, self.wide)
        stack, index = own.pop("lanes_of"), "long" if self.long_index else "place"
        none = np.dtype(real).type(np.nan) if real.startswith("float") else 0
        unpacked = {"float16": own["half_to_float"], "bfloat16": ground.unpacked_bfloat}.get(self.dtype, numeric.packed_plain)
        names |= dict(
            own, ix=ix, LANES=self.lanes, CHANNEL=self.channel, SIZE=np.dtype(storage).itemsize, REAL_SIZE=np.dtype(real).itemsize,
            PLACE_SIZE=np.dtype(ix).itemsize, INDEX_SIZE=8 if self.long_index else np.dtype(ix).itemsize, read_index=own[f"read_{index}"],
            write_index=own[f"write_{index}"], unpacked=unpacked, raw_lanes=stack(storage, self.lanes), lanes=stack(real, self.lanes),
            span=stack(real, self.span), places=stack(np.dtype(ix).name, self.lanes), NONE=none)
        if self.dtype == "float16":
            names["packed"] = own["float_to_half"]
        names |= {k: stack(real, n * self.lanes) for k, n in self.sizes.items()}
        return names | self.bound

    def jitted(self, device: Any) -> dict[str, Any]:
        """The namespace of jitted copies of all functions that the loop calls."""
        names = self.names(device) | plain(grid)
        names["task"] = names[self.loop]
        common = dict(names, __builtins__=__builtins__)
        for k in _reads(names["thread"], names) | {"thread", "own_thread", "threads", "block_x", "block_y", "blocks_y"}:
            f = names.get(k)
            if isinstance(f, types.FunctionType):
                key = device, *_key(k, f, names)
                if key in _made:  # reads what its copy in another kernel reads
                    common[k] = _made[key]
                    continue
                copy = types.FunctionType(f.__code__, common, f.__name__, f.__defaults__)
                copy.__qualname__ = f"{k}_{self.name[-20:]}"
                common[k] = _made[key] = device.jit(copy)
        return common

    def ptx(self) -> str:
        """Its PTX, from the disk cache if it is there."""
        from . import intrinsics
        key = f"{self.name} {intrinsics.BASE} {intrinsics.VERSION}"
        found = cache.kept(self.name, key)
        if found is None:
            kernel = types.FunctionType(grid.kernel.__code__, self.jitted(CUDA), self.name)
            found = intrinsics.ptx(kernel, self.name, SHAPE).encode()
            cache.keep(self.name, key, found)
        return found.decode()

    def image(self, capability: tuple[int, int]) -> bytes:
        """Its machine code for a device's capability, from the disk cache if it is there."""
        from . import intrinsics
        key = f"{self.name} {capability} {intrinsics.VERSION}"
        found = cache.kept(self.name, key)
        if found is None:
            found, _ = intrinsics.machine_code(self.ptx(), capability)
            cache.keep(self.name, key, found)
        return found
