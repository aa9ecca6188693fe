"""How functions that are always inlined into kernels are compiled: without optimising them on their own.

Numba optimises each jitted function's module with all that it calls, and then again inside its caller, and its caller's caller.
For functions that only exist inlined, the last of these is the one that counts; leaving out the others takes a quarter off a first call.
"""
from __future__ import annotations

import functools
import gc
from typing import Any

from llvmlite import ir
from llvmlite.binding import Linkage, create_pass_builder, create_pipeline_tuning_options
from numba import config, types
from numba.core import errors, ir_utils, transforms
from numba.core import ir as numba_ir
from numba.core.codegen import JITCodeLibrary
from numba.core.compiler import CompilerBase, DefaultPassBuilder
from numba.core.compiler_machinery import PassManager, _pass_registry, register_pass
from numba.core.lowering import Lower
from numba.core.ssa import reconstruct_ssa
from numba.core.typed_passes import NativeLowering, NopythonTypeInference, PreLowerStripPhis
from numba.core.untyped_passes import ReconstructSSA

# passes for closures, lists, array expressions, `with`, literals and generators, of which there are none here: a tenth of the time.  The last one
# says where variables end, which counts for objects with a number of references; of numbers each would be overwritten by a zero there
NEEDLESS = frozenset(("WithLifting", "InlineClosureLikes", "InlineInlinables", "InlineOverloads", "FindLiterallyCalls", "LiteralUnroll",
                      "LiteralPropagationSubPipelinePass", "MakeFunctionToJitFunction", "RewriteDynamicRaises", "NopythonRewrites",
                      "DumpParforDiagnostics", "IRProcessing", "IRLegalization"))


class _Context:
    """Numba's typing context, which keeps the signatures of operators and functions on numbers: found anew they are a tenth of the time."""

    signatures: dict[Any, Any] = {}

    def __init__(self, context: Any) -> None:
        self._context = context

    def __getattr__(self, name: str) -> Any:
        return getattr(self._context, name)

    def resolve_function_type(self, func: Any, args: tuple, kws: dict) -> Any:
        """The signature of a call."""
        plain = isinstance(func, types.Function) and not kws and all(isinstance(a, (types.Number, types.Boolean)) for a in args)
        found = self.signatures.get((func, args)) if plain else None
        if found is None:
            found = self._context.resolve_function_type(func, args, kws)
            if plain:
                self.signatures[func, args] = found
        return found


@register_pass(mutates_CFG=True, analysis_only=False)
class _Typing(NopythonTypeInference):
    """Numba's type inference, in that context."""

    _name = "numbapool_type_inference"

    def run_pass(self, state: Any) -> bool:
        """Infer."""
        context = state.typingctx
        state.typingctx = _Context(context)
        try:
            return super().run_pass(state)
        finally:
            state.typingctx = context


@register_pass(mutates_CFG=True, analysis_only=False)
class _SingleAssignment(ReconstructSSA):
    """Numba's single assignments, without what only generators need to know of variables."""

    _name = "numbapool_single_assignment"

    def run_pass(self, state: Any) -> bool:
        """Give each assignment its own variable."""
        state.func_ir = reconstruct_ssa(state.func_ir)
        self._patch_locals(state)
        state.func_ir._definitions = ir_utils.build_definitions(state.func_ir.blocks)
        return True


@register_pass(mutates_CFG=True, analysis_only=False)
class _NoPhis(PreLowerStripPhis):
    """Numba's way from phi nodes to assignments, without that, too."""

    _name = "numbapool_strip_phis"

    def run_pass(self, state: Any) -> bool:
        """Assign in the blocks before."""
        state.func_ir = self._strip_phi_nodes(state.func_ir)
        state.func_ir._definitions = ir_utils.build_definitions(state.func_ir.blocks)
        return True


class _Codegen:
    """Numba's code generator, for functions without machine code: their environment has no place in memory."""

    def __init__(self, codegen: Any) -> None:
        self._codegen = codegen

    def __getattr__(self, name: str) -> Any:
        return getattr(self._codegen, name)

    def set_env(self, env_name: str, env: Any) -> None:
        """There is none."""


class _NoCode(JITCodeLibrary):
    """The LLVM module of an inlined function, which is linked into others; machine code of its own, a tenth of the time, is not made."""

    @property
    def codegen(self) -> Any:
        """The code generator."""
        return _Codegen(self._codegen)

    def finalize(self) -> None:
        """Link nothing in: what an inlined function calls would be copied into each of its callers, and theirs; `linked` does it once a kernel."""
        self._raise_if_finalized()
        for library in self._linking_libraries:
            self._reload_init.update(library._reload_init)
        self._finalize_final_module()

    def _finalize_final_module(self) -> None:
        self._finalized = True

    def get_pointer_to_function(self, name: str) -> int:
        """None."""
        self._ensure_finalized()
        return 0


def linked(library: Any) -> Any:
    """The LLVM module of a kernel, into which all functions are linked that it calls, and that these call."""
    seen, waiting = set(library._linking_libraries), list(library._linking_libraries)
    for other in waiting if isinstance(library, _NoCode) else ():  # else Numba has linked the modules of the first ones
        library._final_module.link_in(other._get_module_for_linking(), preserve=True)
    while waiting:
        for other in waiting.pop()._linking_libraries:
            if other not in seen:
                seen.add(other)
                waiting.append(other)
                library._final_module.link_in(other._get_module_for_linking(), preserve=True)
    return library._final_module


class _Lower(Lower):
    """Numba's lowering of a function, in which operators on numbers have the signatures that are kept, and which does not look for others.

    Sizes of types, which Numba asks LLVM for at each variable (debuggers want them), are kept, too.  tuning : the processor whose costs LLVM is to go
    by; "": the one that it compiles for.  Vectors are as wide as the processor has them: of itself LLVM takes half of AVX-512's width on Intel's,
    whose older ones lower their frequency for the rest, which cost pooling by exponentials and powers 1.3 to 1.6 times the time.
    """

    sizes: dict[str, int] = {}
    tuning = ""

    def __init__(self, *arguments: Any, **named: Any) -> None:
        super().__init__(*arguments, **named)
        found = self.context.get_abi_sizeof
        self.context.get_abi_sizeof = lambda kind: self.sizes.get(str(kind)) or self.sizes.setdefault(str(kind), found(kind))

    def lower_normal_function(self, fndesc: Any) -> None:
        """Lower, and say for which processor code is tuned, and how wide its vectors may be."""
        super().lower_normal_function(fndesc)
        for name, value in (("tune-cpu", self.tuning), ("prefer-vector-width", "512")):
            if value:
                set.add(self.function.attributes, f'"{name}"="{value}"')  # past the names that llvmlite knows

    def storevar(self, value: Any, name: str, argidx: int | None = None) -> None:
        """Assign to a variable; what it was before is no object that is to be let go."""
        if argidx is not None or name in self._singly_assigned_vars:
            super().storevar(value, name, argidx)
        else:
            self._alloca_var(name, self.typeof(name))
            self.builder.store(value, self.getvar(name))

    def lower_binop(self, resty: Any, expr: Any, op: Any) -> Any:
        """Lower an operator of two operands; one of a constant, as x ** 2 is, as Numba does."""
        if expr.static_lhs is not numba_ir.UNDEFINED or expr.static_rhs is not numba_ir.UNDEFINED:
            return super().lower_binop(resty, expr, op)
        context, signature = self.context, self.fndesc.calltypes[expr]
        function = context.typing_context.resolve_value_type(op)
        found = _Context(context.typing_context).resolve_function_type(function, signature.args, {})
        operands = [context.cast(self.builder, self.loadvar(v.name), self.typeof(v.name), t)
                    for v, t in zip((expr.lhs, expr.rhs), signature.args, strict=True)]
        result = context.get_function(function, found)(self.builder, operands)
        return context.cast(self.builder, result, signature.return_type, resty)


@register_pass(mutates_CFG=True, analysis_only=False)
class _Lowering(NativeLowering):
    """Numba's lowering, into a library that is not optimised."""

    _name = "numbapool_lowering_of_inlined_functions"
    runs = False

    @property
    def lowering_class(self) -> type:
        """What lowers."""
        return _Lower

    def run_pass(self, state: Any) -> bool:
        """Make the library as Numba would, with another optimiser."""
        if state.library is None:
            state.library = state.targetctx.codegen().create_library(state.func_id.func_qualname)
            state.library.enable_object_caching()
        if hasattr(state.library, "_optimize_final_module"):
            state.library._optimize_final_module = functools.partial(self.optimise, state.library)
            state.library._optimize_functions = functools.partial(self.optimise_functions, state.library)
            if not self.runs and type(state.library) is JITCodeLibrary:
                state.library.__class__ = _NoCode
        return super().run_pass(state)

    @staticmethod
    def optimise(library: Any) -> None:
        """Not at all."""

    @staticmethod
    def optimise_functions(library: Any, module: Any) -> None:
        """Leave the functions of a module as they are: unrolled loops would not be vectorised any more."""
        module.data_layout = library._codegen._data_layout


class _Once(_Lower):
    """Lower to a function that stays one."""

    def lower_normal_function(self, fndesc: Any) -> None:
        """Lower, and forbid LLVM to copy the body to each call; the rows that it is given do not overlap where it writes."""
        super().lower_normal_function(fndesc)
        self.function.attributes.add("noinline")
        for argument in self.function.args:
            if isinstance(argument.type, ir.PointerType):
                argument.add_attribute("noalias")


@register_pass(mutates_CFG=True, analysis_only=False)
class _LoweringOnce(_Lowering):
    """The same for functions that are called."""

    _name = "numbapool_lowering_of_called_functions"

    @property
    def lowering_class(self) -> type:
        """What lowers."""
        return _Once


@register_pass(mutates_CFG=True, analysis_only=False)
class _LoweringKernel(_Lowering):
    """The same for kernels, which are optimised: once, where Numba does it twice (for the sake of reference counts, which they have none of)."""

    _name = "numbapool_lowering_of_kernels"
    runs = True

    @staticmethod
    def optimise(library: Any) -> None:
        """Keep what is called inside: else the first, unoptimised, copy of a function in the process would be linked."""
        module = linked(library)
        for function in module.functions:
            if function.linkage == Linkage.linkonce_odr:
                function.linkage = Linkage.internal
        options = create_pipeline_tuning_options(config.OPT)
        options.loop_vectorization, options.slp_vectorization = config.LOOP_VECTORIZE, config.SLP_VECTORIZE
        options.loop_unrolling = False
        builder = create_pass_builder(library._codegen._tm, options)
        builder.getModulePassManager().run(module, builder)


class _Passes(PassManager):
    """Numba's way through its passes, without clocks and events."""

    def _runPass(self, index: int, pss: Any, internal_state: Any) -> None:
        pss.analysis = self._analysis
        with errors.new_error_context("Pass {name}", name=pss.name()):
            for step in (pss.run_initialization, pss.run_pass, pss.run_finalizer):
                step(internal_state)
        if _pass_registry.get(pss.__class__).mutates_CFG:
            internal_state.func_ir.blocks = transforms.canonicalize_cfg(internal_state.func_ir.blocks)


class Inlined(CompilerBase):
    """Numba's usual pipeline for functions that are inlined wherever they are used."""

    lowering: Any = _Lowering

    def compile_extra(self, func: Any) -> Any:
        """Compile, without collecting garbage meanwhile: of the many small objects most stay, and looking for others is a tenth of the time."""
        collecting = gc.isenabled()
        gc.disable()
        try:
            return super().compile_extra(func)
        finally:
            if collecting:
                gc.enable()

    def define_pipelines(self) -> list[Any]:
        """The passes."""
        pipeline = DefaultPassBuilder.define_nopython_pipeline(self.state)
        kept = [(step, text) for step, text in pipeline.passes if step.__name__ not in NEEDLESS]
        own = {NativeLowering: self.lowering, NopythonTypeInference: _Typing, ReconstructSSA: _SingleAssignment, PreLowerStripPhis: _NoPhis}
        pipeline.passes = [(own.get(step, step), text) for step, text in kept]
        pipeline.__class__, pipeline._finalized = _Passes, False
        pipeline.finalize()
        return [pipeline]


class Called(Inlined):
    """For the loops over rows of a sweep, which many places share: called, and so compiled once a kernel and not once a place."""

    lowering = _LoweringOnce


class Kernel(Inlined):
    """For kernels."""

    lowering = _LoweringKernel
