"""How functions that are always inlined into kernels are compiled: without optimising them on their own.

Numba optimises each jitted function's module with all that it calls, and then again inside its caller, and its caller's caller.
For functions that only exist inlined, the last of these is the one that counts; leaving out the others takes a quarter off a first call.
"""
from __future__ import annotations

from typing import Any

from numba.core.compiler import CompilerBase, DefaultPassBuilder
from numba.core.compiler_machinery import register_pass
from numba.core.typed_passes import NativeLowering


@register_pass(mutates_CFG=True, analysis_only=False)
class _Lowering(NativeLowering):
    """Numba's lowering, into a library that is not optimised."""

    _name = "numbapool_lowering_of_inlined_functions"

    def run_pass(self, state: Any) -> bool:
        """Make the library as Numba would, and replace its optimiser by nothing."""
        if state.library is None:
            state.library = state.targetctx.codegen().create_library(state.func_id.func_qualname)
            state.library.enable_object_caching()
        if hasattr(state.library, "_optimize_final_module"):
            state.library._optimize_final_module = lambda: None
        return super().run_pass(state)


class Inlined(CompilerBase):
    """Numba's usual pipeline with that lowering."""

    def define_pipelines(self) -> list[Any]:
        """The passes."""
        pipeline = DefaultPassBuilder.define_nopython_pipeline(self.state)
        pipeline.passes = [(_Lowering, text) if step is NativeLowering else (step, text) for step, text in pipeline.passes]
        pipeline._finalized = False
        pipeline.finalize()
        return [pipeline]
