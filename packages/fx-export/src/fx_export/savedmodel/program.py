"""The program of a SavedModel as an operation of TensorFlow."""

from collections.abc import Sequence
from typing import Any

import jax.export
from fx_core.compat import jax as compat

from fx_export.errors import unsupported_program
from fx_export.extras import imported
from fx_export.lowering import downgraded


def tensorflow(module: str = "tensorflow") -> Any:
    """Imports TensorFlow or a module of it.

    Raises:
      EntryLoadError: it is not installed; the text names the extra.
    """
    return imported(module, "savedmodel", "tf")


class ProgramOp:
    """A program as an operation of TensorFlow.

    Args:
      program: what JAX lowered.
      version: of StableHLO, such as ``"1.10.0"``; by default what the installed TensorFlow reads.

    Raises:
      UnsupportedProgramError: the program uses operations that are newer.
    """

    def __init__(self, program: jax.export.Exported, version: str | None = None):
        tf = tensorflow()
        self._xla = tensorflow("tensorflow.compiler.tf2xla.python.xla")
        supported = self._xla.call_module_maximum_supported_version()
        if program.calling_convention_version > supported:
            problem = f"calling convention {program.calling_convention_version}; TensorFlow {tf.__version__} has"
            raise unsupported_program(f"{problem} those up to {supported}")
        self._kept = program.module_kept_var_idx
        self._attributes: dict[str, Any] = {
            "version": program.calling_convention_version,
            "module": downgraded(program, version or _readable()),
            "Tout": [tf.as_dtype(aval.dtype) for aval in program.out_avals],
            "Sout": [static(aval.shape) for aval in program.out_avals],
            "platforms": [platform.upper() for platform in program.platforms],
        }

    def __call__(self, arrays: Sequence[Any]) -> Sequence[Any]:
        """Computes the outputs of the program, flat."""
        kept = [arrays[number] for number in self._kept]
        return self._xla.call_module(kept, **self._attributes)


def _readable() -> str:
    """The version of StableHLO that the installed TensorFlow reads, or JAX writes if that is older."""
    theirs = tensorflow("tensorflow.compiler.mlir.stablehlo.stablehlo").get_current_version()
    return min(compat.stablehlo_version(), theirs, key=lambda version: tuple(map(int, version.split("."))))


def static(shape: Sequence[Any]) -> list[int | None]:
    """Returns a shape with None in place of free sizes."""
    return [int(size) if isinstance(size, int) else None for size in shape]
