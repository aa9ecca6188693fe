"""What numba-cuda must be told: memory access by address, integers of one width, conversions, compiling to PTX and to machine code.

All of numba-cuda's and the toolkit's interfaces that this library uses are in this file.  Importing it needs numba-cuda and no GPU.
"""
from __future__ import annotations

import contextlib
import functools
import importlib.metadata
import re
import threading
import types as python
from collections.abc import Callable, Iterator
from typing import Any

import numba.cuda.dispatcher
import numpy as np
from llvmlite import ir
from numba import cuda
from numba.cuda import cgutils, types
from numba.cuda.extending import intrinsic

_WHEELS = "nvidia-nvvm", "nvidia-cuda-nvcc-cu12", "nvidia-nvjitlink", "nvidia-nvjitlink-cu12"


def _versions() -> str:
    """What code depends on besides its sources."""
    found = [f"numba-cuda {importlib.metadata.version('numba-cuda')}"]
    for name in _WHEELS:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            found.append(f"{name} {importlib.metadata.version(name)}")
    return ", ".join(found)


VERSION = _versions()
BASE = (7, 5)  # PTX is made for this capability, and machine code of it for any: no kernel needs what later ones have
VECTOR_BYTES = 16  # of one access to memory, at most
_compiling = threading.Lock()
_word, _wide = ir.IntType(32), ir.IntType(64)


def _pointer(builder: Any, address: Any, index: Any, item: Any, kind: Any) -> Any:
    """A global pointer to `kind`s at element `index` of an array of `item`s at an address."""
    index = builder.sext(index, _wide) if index.type.width < 64 else index
    return builder.inttoptr(builder.add(address, builder.mul(index, _wide(item.bitwidth // 8))), ir.PointerType(kind, 1))


def _load(builder: Any, pointer: Any, size: int, again: bool = False) -> Any:
    value = builder.load(pointer, align=size)
    if not again:  # nobody writes it while the kernel runs: through the read-only cache
        value.set_metadata("invariant.load", builder.module.add_metadata([]))
    return value


@functools.cache
def reader(kind: str, again: bool = False) -> Any:
    """read(address, i) -> element i of an array of `kind`; again: of what the same thread may have written."""
    item = getattr(types, kind)

    @intrinsic
    def read(typingctx, address, i):  # noqa: ANN001, ANN202
        def codegen(context, builder, signature, args):  # noqa: ANN001, ANN202
            return _load(builder, _pointer(builder, *args, item, context.get_data_type(item)), item.bitwidth // 8, again)
        return item(types.int64, i), codegen
    return read


@functools.cache
def writer(kind: str) -> Any:
    """write(address, i, value) sets element i."""
    item = getattr(types, kind)

    @intrinsic
    def write(typingctx, address, i, value):  # noqa: ANN001, ANN202
        def codegen(context, builder, signature, args):  # noqa: ANN001, ANN202
            builder.store(args[2], _pointer(builder, *args[:2], item, context.get_data_type(item)), align=item.bitwidth // 8)
            return context.get_dummy_value()
        return types.void(types.int64, i, item), codegen
    return write


def _pieces(item: Any, lanes: int) -> Iterator[tuple[int, int]]:
    """Where vectors of at most VECTOR_BYTES begin in `lanes` elements, and how many elements they hold."""
    most = max(VECTOR_BYTES * 8 // item.bitwidth, 1)
    return ((k, min(most, lanes - k)) for k in range(0, lanes, most))


def _at(builder: Any, lanes: Any, k: int) -> Any:
    return builder.gep(lanes, [_word(k)])


def _accessed(context: Any, item: Any, n: int) -> tuple[Any, int]:
    """What n elements are read and written as: numbers of 32 bits, where they are smaller; vectors of 16-bit ones become accesses of 8 bytes."""
    return (_word, n * item.bitwidth // 32) if item.bitwidth < 32 and n * item.bitwidth >= 32 else (context.get_data_type(item), n)


def _part(builder: Any, one: Any, value: Any, m: int, packed: int, count: int) -> Any:
    """Element m of what was read, `packed` elements a number."""
    number = builder.extract_element(value, _word(m // packed)) if count > 1 else value
    return builder.trunc(builder.lshr(number, _word(m % packed * (32 // packed))), one) if packed > 1 else number


def _word_of(builder: Any, kind: Any, parts: list[Any]) -> Any:
    """Elements as one number."""
    if len(parts) == 1:
        return parts[0]
    number = kind(0)
    for i, part in enumerate(parts):
        number = builder.or_(number, builder.shl(builder.zext(part, kind), kind(i * (32 // len(parts)))))
    return number


@functools.cache
def vector_reader(kind: str, lanes: int) -> Any:
    """read(address, i, v) sets v[0] ... v[lanes - 1] to elements i, i + 1, ..., which begin at a multiple of their size."""
    item = getattr(types, kind)

    @intrinsic
    def read(typingctx, address, i, v):  # noqa: ANN001, ANN202
        def codegen(context, builder, signature, args):  # noqa: ANN001, ANN202
            for k, n in _pieces(item, lanes):
                kind, count = _accessed(context, item, n)
                place = builder.add(args[1], args[1].type(k))
                value = _load(builder, _pointer(builder, args[0], place, item, ir.VectorType(kind, count) if count > 1 else kind),
                              n * item.bitwidth // 8)
                for m in range(n):
                    builder.store(_part(builder, context.get_data_type(item), value, m, n // count, count), _at(builder, args[2], k + m))
            return context.get_dummy_value()
        return types.void(types.int64, i, v), codegen
    return read


@functools.cache
def vector_writer(kind: str, lanes: int) -> Any:
    """write(address, i, v) stores v[0] ... v[lanes - 1] as elements i, i + 1, ..."""
    item = getattr(types, kind)

    @intrinsic
    def write(typingctx, address, i, v):  # noqa: ANN001, ANN202
        def codegen(context, builder, signature, args):  # noqa: ANN001, ANN202
            for k, n in _pieces(item, lanes):
                kind, count = _accessed(context, item, n)
                vector = ir.VectorType(kind, count) if count > 1 else kind
                value = ir.Constant(vector, ir.Undefined)
                for m in range(count):
                    part = _word_of(builder, kind, [builder.load(_at(builder, args[2], k + m * (n // count) + i)) for i in range(n // count)])
                    value = builder.insert_element(value, part, _word(m)) if count > 1 else part
                place = builder.add(args[1], args[1].type(k))
                builder.store(value, _pointer(builder, args[0], place, item, vector), align=n * item.bitwidth // 8)
            return context.get_dummy_value()
        return types.void(types.int64, i, v), codegen
    return write


@functools.cache
def stack(kind: str, size: int) -> Any:
    """lanes() -> an array of a thread's own; all indices are known to the compiler in the end, so it lives in registers."""
    item = getattr(types, kind)

    @intrinsic
    def lanes(typingctx):  # noqa: ANN001, ANN202
        def codegen(context, builder, signature, args):  # noqa: ANN001, ANN202
            return cgutils.alloca_once(builder, context.get_data_type(item), size=max(size, 1))
        return types.CPointer(item)(), codegen
    return lanes


@functools.cache
def integers(wide: bool) -> tuple[Any, Any]:
    """madd(a, b, c) = a b + c and quotient(a, b), of numbers that are not negative: Numba's own are of 64 bits, many times slower."""
    kind = types.int64 if wide else types.int32

    @intrinsic
    def madd(typingctx, a, b, c):  # noqa: ANN001, ANN202
        def codegen(context, builder, signature, args):  # noqa: ANN001, ANN202
            return builder.add(builder.mul(args[0], args[1]), args[2])
        return kind(kind, kind, kind), codegen

    @intrinsic
    def quotient(typingctx, a, b):  # noqa: ANN001, ANN202
        def codegen(context, builder, signature, args):  # noqa: ANN001, ANN202
            return builder.udiv(*args)
        return kind(kind, kind), codegen
    return madd, quotient


@functools.cache
def recast(source: str, target: str) -> Any:
    """Reinterpret the bits of a `source` as a `target` of the same width."""
    @intrinsic
    def bits(typingctx, value):  # noqa: ANN001, ANN202
        def codegen(context, builder, signature, args):  # noqa: ANN001, ANN202
            return builder.bitcast(args[0], context.get_value_type(signature.return_type))
        return getattr(types, target)(getattr(types, source)), codegen
    return bits


def _instruction(text: str, constraints: str, result: Any, *arguments: Any) -> Any:
    """One instruction of PTX as a function."""
    @intrinsic
    def instruction(typingctx, value):  # noqa: ANN001, ANN202
        def codegen(context, builder, signature, args):  # noqa: ANN001, ANN202
            kinds = [context.get_value_type(t) for t in signature.args]
            function = ir.FunctionType(context.get_value_type(signature.return_type), kinds)
            return builder.call(ir.InlineAsm(function, text, constraints), args)
        return result(*arguments), codegen
    return instruction


half_to_float = _instruction("cvt.f32.f16 $0, $1;", "=f,h", types.float32, types.uint16)
float_to_half = _instruction("cvt.rn.f16.f32 $0, $1;", "=h,f", types.uint16, types.float32)
two_to = _instruction("ex2.approx.f32 $0, $1;", "=f,f", types.float32, types.float32)  # 2^f, relative error 2^-22


@intrinsic
def muladd(typingctx, a, b, c):  # noqa: ANN001, ANN202
    """a b + c, rounded once."""
    def codegen(context, builder, signature, args):  # noqa: ANN001, ANN202
        kind = context.get_value_type(signature.return_type)
        return builder.call(builder.module.declare_intrinsic("llvm.fma", [kind], ir.FunctionType(kind, [kind] * 3)), args)
    return a(a, b, c), codegen


def _in_memory(context, builder, kind, values):  # noqa: ANN001, ANN202
    """A pointer to the values, side by side."""
    place = cgutils.alloca_once(builder, context.get_data_type(kind), size=len(values))
    for i, value in enumerate(values):
        builder.store(value, builder.gep(place, [_word(i)]))
    return place


@intrinsic
def header(typingctx, f):  # noqa: ANN001, ANN202
    """A pointer to a tuple's integers: passed on as tuples, a kernel's parameters are a hundred arguments of each function.  PTX is the same."""
    def codegen(context, builder, signature, args):  # noqa: ANN001, ANN202
        return _in_memory(context, builder, types.int64, cgutils.unpack_tuple(builder, args[0]))
    return types.CPointer(types.int64)(f), codegen


@intrinsic
def records(typingctx, o):  # noqa: ANN001, ANN202
    """A pointer to pointers to the integers of a tuple's tuples."""
    kind = types.CPointer(types.int64)

    def codegen(context, builder, signature, args):  # noqa: ANN001, ANN202
        each = [_in_memory(context, builder, types.int64, cgutils.unpack_tuple(builder, r)) for r in cgutils.unpack_tuple(builder, args[0])]
        return _in_memory(context, builder, kind, each)
    return types.CPointer(kind)(o), codegen


def _own_thread():
    return np.int64(cuda.threadIdx.x)


def _threads():
    return np.int64(cuda.blockDim.x)


def _block_x():
    return np.int64(cuda.blockIdx.x)


def _block_y():
    return np.int64(cuda.blockIdx.y)


def _blocks_y():
    return np.int64(cuda.gridDim.y)


PLACES = {"header": header, "records": records, "own_thread": _own_thread, "threads": _threads, "block_x": _block_x, "block_y": _block_y,
          "blocks_y": _blocks_y}


# ---------------------------------------------------------------- compiling

def device_function(function: Callable[..., Any]) -> Any:
    """A function that is inlined into kernels."""
    return cuda.jit(device=True, forceinline=True)(function)


@contextlib.contextmanager
def _no_device() -> Iterator[None]:
    """numba-cuda asks the current device what to compile device functions for; here that is BASE, with or without a device."""
    module = numba.cuda.dispatcher
    kept = module.get_current_device
    module.get_current_device = lambda: python.SimpleNamespace(compute_capability=BASE)
    try:
        yield
    finally:
        module.get_current_device = kept


def ptx(kernel: Callable[..., None], name: str, shape: tuple[Any, ...]) -> str:
    """The PTX of a kernel; shape: its parameters as nested tuples of lengths, all of int64."""
    def kind(of: Any) -> Any:
        return types.UniTuple(types.int64, of) if isinstance(of, int) else types.UniTuple(kind(of[1]), of[0])
    with _compiling, _no_device():
        text, _ = cuda.compile(kernel, types.void(*map(kind, shape)), device=False, abi="numba", cc=BASE, output="ptx")
    long = re.search(r"\.visible \.entry (\w+)\(", text)
    assert long
    text = re.sub(r"(?m)^\.common \.global .*NumbaEnv.*;\n", "", text)  # Python's environment, which nothing here reads
    return text.replace(long[1], name)


def machine_code(text: str, capability: tuple[int, int]) -> tuple[bytes, str]:
    """The cubin of PTX for a device's capability, and the assembler's report."""
    from cuda.bindings import nvjitlink
    linker = nvjitlink.create(2, [f"-arch=sm_{capability[0]}{capability[1]}", "-verbose"])
    try:
        source = text.encode()
        nvjitlink.add_data(linker, nvjitlink.InputType.PTX, source, len(source), "kernel")
        try:
            nvjitlink.complete(linker)
        except Exception as error:
            log = bytearray(nvjitlink.get_error_log_size(linker))
            nvjitlink.get_error_log(linker, log)
            raise RuntimeError(f"no machine code for sm_{capability[0]}{capability[1]}: {log.decode(errors='replace')}") from error
        code, log = bytearray(nvjitlink.get_linked_cubin_size(linker)), bytearray(nvjitlink.get_info_log_size(linker))
        nvjitlink.get_linked_cubin(linker, code)
        nvjitlink.get_info_log(linker, log)
        return bytes(code), log.decode(errors="replace")
    finally:
        nvjitlink.destroy(linker)
