"""From a function with its variables to the StableHLO program that JAX compiles."""

import re
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.export
from fx_core.compat import jax as compat

from fx_export.errors import exporter_option, refused_by_format, unsupported_program
from fx_export.inputs import spec_of
from fx_export.weights import weight_specs

_PLATFORMS = ("cpu", "cuda", "rocm", "tpu")


def lowered(
    exporter: str, fn: Callable[..., Any], variables: Any, inputs: Sequence[Any], platforms: Sequence[str]
) -> jax.export.Exported:
    """Lowers ``fn(variables, *inputs)`` to a program of the list of weights and the inputs.

    Args:
      exporter: whose options the platforms are.
      fn: a pure function.
      variables: a pytree of arrays; its leaves are the weights.
      inputs: examples or `jax.ShapeDtypeStruct`; sizes may be symbolic.
      platforms: where the program is to run.

    Raises:
      UnsupportedProgramError: the function has effects, or takes or returns custom containers.
      ArgumentTypeError: a platform is unknown, or a variable is no array of numbers.
    """
    are_known = isinstance(platforms, Sequence) and all(platform in _PLATFORMS for platform in platforms)
    if isinstance(platforms, str) or not platforms or not are_known:
        raise exporter_option(exporter, f"platforms out of {', '.join(_PLATFORMS)}", platforms)
    treedef = jax.tree.structure(variables)

    # The file knows lists of arrays only, so that loading needs none of the classes in the variables.
    def of_weights(weights: list[Any], *inputs: Any) -> Any:
        return fn(jax.tree.unflatten(treedef, weights), *inputs)

    weights = weight_specs(variables)
    specs = [jax.tree.map(spec_of, value) for value in inputs]
    # Mistakes in the function itself come out as they are.
    jax.eval_shape(of_weights, weights, *specs)
    try:
        with compat.short_locations():
            program = jax.export.export(jax.jit(of_weights), platforms=platforms)(weights, *specs)
    except (NotImplementedError, ValueError, TypeError, RuntimeError) as error:
        raise unsupported_program(f"{type(error).__name__}: {error}") from error
    effects = [str(effect) for effect in program.ordered_effects + program.unordered_effects]
    if effects:
        raise unsupported_program(f"the effects {', '.join(effects)}")
    return program


def downgraded(program: jax.export.Exported, version: str) -> bytes:
    """Returns the bytes of a program in a version of StableHLO, for readers that know no newer one.

    Composites, such as an error function, become calls: readers do not compute the sizes inside of a composite.

    Args:
      program: what JAX lowered.
      version: of StableHLO, such as ``"1.10.0"``.

    Raises:
      UnsupportedProgramError: the program uses operations that are newer.
    """
    try:
        return compat.stablehlo_in_version(program.mlir_module_serialized, version)
    except (ValueError, RuntimeError) as error:
        calls = ", ".join(
            sorted(set(re.findall(r"custom_call @([\w.]+)", program.mlir_module())) - {"shape_assertion"})
        )
        problem = f"operations that StableHLO {version} does not have: {str(error)[:500]}"
        raise refused_by_format(f"{problem}; calls of JAX's own: {calls or 'none'}") from error
