"""Ahead of time: a stamped kernel becomes object code for a list of processors, without Python in it.

This is the only file of the build that knows Numba's insides.  A kernel takes five integers and returns nothing; its front end is the just-in-time
one (numbapool/inlined.py), stopped before LLVM optimises for this machine.  The module is then optimised and emitted for each processor in turn.
"""
from __future__ import annotations

import re
from typing import Any

import numba
from llvmlite import binding as llvm
from numba import types
from numba.core.compiler_machinery import register_pass

from numbapool import inlined
from numbapool.stamp import OPTIONS

TESTED = (0, 61), (0, 69)  # the first Numba that serves, and the first that nobody has tried
# of a general AVX-512 processor LLVM thinks that it gathers fast, and avoids what moves elements within a register: on Zen 5 max pooling of 2x2
# windows took 1.3 times as long, float64's soft pooling backward 1.4 times.  Which instructions there are is decided elsewhere.
TUNING = "znver4"
LEVELS = {"x86-64": 1}  # of optimisation, else 3: a quarter less time for processors that do without vectors of 256 bits
SIGNATURE = types.void(*[types.int64] * 5)


def check_version() -> None:
    """Refuse a Numba whose insides may be others."""
    found = tuple(map(int, re.findall(r"\d+", numba.__version__)[:2]))
    if not TESTED[0] <= found < TESTED[1]:
        first, end = (".".join(map(str, v)) for v in TESTED)
        raise RuntimeError(f"the C library is built with Numba from {first} on and below {end}, but {numba.__version__} is installed: "
                           "install one of these, or see whether capi/ahead.py still fits")


@register_pass(mutates_CFG=True, analysis_only=False)
class _Lowering(inlined._LoweringKernel):
    """A kernel's lowering, which leaves LLVM's module as it comes and makes no machine code."""

    _name = "numbapool_lowering_ahead_of_time"
    runs = False

    @staticmethod
    def optimise(library: Any) -> None:
        """Not here: for each processor anew."""


class _Ahead(inlined.Inlined):
    """The pipeline."""

    lowering = _Lowering


def front(kernel: Any) -> tuple[bytes, str]:
    """LLVM's bitcode of a stamped kernel, not optimised, and the name of its function: int32 f(void **, void **, int64 x 5)."""
    dispatcher = numba.njit(**OPTIONS, pipeline_class=_Ahead, no_cfunc_wrapper=True)(kernel.py_func)
    inlined._Lower.tuning = TUNING if is_x86(llvm.get_process_triple()) else ""
    try:
        dispatcher.compile(SIGNATURE)
    finally:
        inlined._Lower.tuning = ""
    compiled = dispatcher.overloads[SIGNATURE.args]
    return inlined.linked(compiled.library).as_bitcode(), compiled.fndesc.llvm_func_name


def is_x86(triple: str) -> bool:
    """Whether LLVM's name of a machine is one of x86-64."""
    return triple.startswith("x86_64")


class Processor:
    """One that code is emitted for.

    Its code is of the large model, as just-in-time code is: in the small one LLVM has operations take constants from memory in each turn of a loop,
    which took float64's soft pooling 1.25 times as long, and one gradient of max pooling 3 times.
    """

    def __init__(self, cpu: str, triple: str) -> None:
        llvm.initialize_native_target()
        llvm.initialize_native_asmprinter()
        self.level = LEVELS.get(cpu, 3)
        self.machine = llvm.Target.from_triple(triple).create_target_machine(
            cpu=cpu, opt=3, reloc="pic", codemodel="large" if is_x86(triple) else "small")

    def emit(self, bitcode: bytes, function: str, name: str) -> bytes:
        """An object file in which `function` is called `name`, hidden outside of the library, and nothing else can be seen.

        However a kernel is optimised, its results are those of the just-in-time one, bit for bit, where both fuse multiply-adds (stamp.OPTIONS).
        """
        module = llvm.parse_bitcode(bitcode)
        for value in (*module.functions, *module.global_variables):
            if not value.is_declaration and value.name != function:
                value.linkage = llvm.Linkage.internal
        kernel = module.get_function(function)
        kernel.linkage, kernel.visibility, kernel.name = llvm.Linkage.external, "hidden", name
        options = llvm.create_pipeline_tuning_options(self.level)
        options.loop_vectorization = options.slp_vectorization = True
        options.loop_unrolling = False
        builder = llvm.create_pass_builder(self.machine, options)
        builder.getModulePassManager().run(module, builder)
        return self.machine.emit_object(module)
