"""Recorded programs: jaxprs read, pruned and evaluated, and StableHLO."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Any

import jax
import jax.core
import jax.numpy as jnp
from jax._src import compilation_cache, config, source_info_util
from jax._src.core import InconclusiveDimensionOperation
from jax._src.dispatch import prim_requires_devices_during_lowering
from jax.experimental import serialize_executable
from jax.interpreters import mlir, partial_eval
from jaxlib.version import __version__ as jaxlib_version

__all__ = [
    "InconclusiveDimensionOperation",
    "as_arrays",
    "cache_size",
    "compiled_anew",
    "compiler_version",
    "evaluate_jaxpr",
    "executable_bytes",
    "executable_of",
    "inner_jaxprs",
    "invariant_outputs",
    "live_jaxpr",
    "located",
    "lowers_by_platform",
    "oldest_stablehlo_version",
    "prune_jaxpr",
    "scan_counts",
    "short_locations",
    "size_constraints",
    "sources",
    "stablehlo_in_version",
    "stablehlo_version",
]


def compiled_anew(lowered: Any) -> Any:
    """Compiles without JAX's persistent cache: what comes from there cannot be turned into bytes again."""
    # JAX decides once whether there is a cache, and is to decide again after each change.
    try:
        with config.enable_compilation_cache(False):
            compilation_cache.reset_cache()
            return lowered.compile()
    finally:
        compilation_cache.reset_cache()


def executable_bytes(compiled: Any) -> bytes:
    """Returns what was compiled as bytes, which are a program of this machine: only trusted ones may be loaded."""
    return serialize_executable.serialize(compiled)[0]


def executable_of(content: bytes, in_tree: Any, out_tree: Any, device: Any) -> Callable[..., Any]:
    """Returns the function of bytes that `executable_bytes` gave.

    Args:
      content: the bytes.
      in_tree: structure of its arguments, a pair of positional and keyword arguments.
      out_tree: structure of its result.
      device: where it runs.
    """
    return serialize_executable.deserialize_and_load(content, in_tree, out_tree, execution_devices=[device])


def compiler_version(device: Any) -> str:
    """Returns what decides, besides a program, about what is compiled for a device: versions, hardware, settings."""
    backend = device.client
    parts = [jax.__version__, jaxlib_version, backend.platform, backend.platform_version, device.device_kind]
    flags = [config.enable_x64.value, jax.config.values.get("jax_disable_most_optimizations")]
    return repr([*parts, device.id, *flags])


def cache_size(compiled: Any) -> int:
    """Returns how many programs a function that `jax.jit` gave has in its cache."""
    return compiled._cache_size()


def prune_jaxpr(jaxpr: Any, wanted: Sequence[bool]) -> tuple[Callable[..., list[Any]], list[bool]]:
    """Leaves out of a (closed) jaxpr what its wanted outputs do not need.

    Returns:
      A function of the inputs still needed to the wanted outputs, which runs operation by operation, and which of the
      inputs these are.
    """
    pruned, used = partial_eval.dce_jaxpr(jaxpr.jaxpr, list(wanted))
    return lambda *inputs: as_arrays(jax.core.eval_jaxpr(pruned, jaxpr.consts, *inputs)), list(used)


def as_arrays(tree: Any) -> Any:
    """Returns a tree of results with JAX arrays in the place of constants of a jaxpr.

    Those come out as Python numbers and NumPy arrays that are part of it: `+=` on one would change the program.
    """
    return jax.tree.map(lambda value: value if isinstance(value, jax.Array) else jnp.array(value), tree)


def invariant_outputs(closed: Any, known: Sequence[Any], count: int) -> list[tuple[bool, Any]]:
    """Evaluates the first outputs of a (closed) jaxpr from its first inputs alone.

    Printing inside does not count as a need for inputs.

    Returns:
      for each of the ``count`` outputs whether the known inputs suffice, and the value if they suffice for all.
    """
    quiet = [eqn for eqn in closed.jaxpr.eqns if eqn.outvars or not eqn.effects]
    jaxpr = closed.jaxpr.replace(eqns=quiet)
    total = len(jaxpr.outvars)
    pruned, used = partial_eval.dce_jaxpr(jaxpr, [i < count for i in range(total)])
    if not any(used[len(known) :]):
        values = jax.core.eval_jaxpr(pruned, closed.consts, *(x for x, needed in zip(known, used) if needed))
        return [(True, value) for value in as_arrays(values)]
    needs = [partial_eval.dce_jaxpr(jaxpr, [i == n for i in range(total)])[1] for n in range(count)]
    return [(not any(need[len(known) :]), None) for need in needs]


def live_jaxpr(closed: Any) -> Any:
    """Returns the (closed) jaxpr without the equations that no output needs; it takes the same inputs."""
    wanted = [True] * len(closed.jaxpr.outvars)
    # Inputs that are left out by name would shift the others.
    live, _ = partial_eval.dce_jaxpr(closed.jaxpr, wanted, instantiate=True)
    return closed.replace(jaxpr=live)


def sources(eqn: Any) -> list[tuple[str, int, str]]:
    """Returns the places in programs outside of JAX that an equation comes from, innermost first: file, line,
    function.
    """
    frames = source_info_util.user_frames(eqn.source_info.traceback)
    return [(frame.file_name, frame.start_line, frame.function_name) for frame in frames]


def located(eqn: Any) -> AbstractContextManager[None]:
    """Gives what is traced inside the source line and the name stack of an equation that was recorded before."""
    info = eqn.source_info
    return source_info_util.user_context(
        info.traceback, name_stack=source_info_util.current_name_stack() + info.name_stack
    )


def scan_counts(params: Any) -> tuple[int, int]:
    """Returns how many of the inputs of a scan equation are constants, and how many after them its carry."""
    if "num_consts" in params:
        return params["num_consts"], params["num_carry"]
    consts, carry, _ = params["ft_in"].unpack()
    return len(consts), len(carry)


def stablehlo_version() -> str:
    """Returns the newest version of StableHLO that this JAX writes."""
    from jax.extend.mlir.dialects import stablehlo

    return stablehlo.get_current_version()


def oldest_stablehlo_version() -> str:
    """Returns the oldest version of StableHLO that this JAX writes."""
    from jax.extend.mlir.dialects import stablehlo

    return stablehlo.get_minimum_version()


def size_constraints(size: Any) -> list[str]:
    """Returns what was said about the symbols of a symbolic size, such as ``"length <= 128"``, as JAX keeps it."""
    return [constraint.debug_str for constraint in size.scope._explicit_constraints]


def short_locations() -> AbstractContextManager[Any]:
    """Lowers with the innermost frame only as the place of an operation: stacks would make up half of a file."""
    return config.traceback_in_locations_limit(1)


def stablehlo_in_version(artifact: bytes, version: str) -> bytes:
    """Returns a serialized StableHLO program in another version, with calls in place of composites."""
    # It imports Pallas, which few need.
    from jax.extend.mlir import ir, passmanager
    from jax.extend.mlir.dialects import sdy, stablehlo

    stablehlo.register_stablehlo_passes()
    with ir.Context() as context:
        stablehlo.register_dialect(context)
        sdy.register_dialect(context)
        # The function of this name that takes and gives bytes loses what only composites refer to.
        module = stablehlo.deserialize_portable_artifact(context, artifact)
        calls = passmanager.PassManager.parse("builtin.module(func.func(stablehlo-legalize-composite-to-call))")
        calls.run(module.operation)
        return bytes(stablehlo.serialize_portable_artifact(module, version))


def evaluate_jaxpr(closed: Any, *args: Any) -> list[Any]:
    """Runs a (closed) jaxpr."""
    return jax.core.eval_jaxpr(closed.jaxpr, closed.consts, *args)


def inner_jaxprs(closed: Any) -> Iterator[tuple[str, Mapping[str, Any], list[Any]]]:
    """Returns name, parameters and (closed) jaxprs of the operations of a (closed) jaxpr that are made of other
    operations.
    """
    for equation in closed.jaxpr.eqns:
        params = equation.params.values()
        values = [item for value in params for item in (value if isinstance(value, (tuple, list)) else [value])]
        # Where open jaxprs are a class of their own, they have no attribute "jaxpr".
        inner = [v if hasattr(v, "jaxpr") else type(closed)(v, ()) for v in values if hasattr(v, "eqns")]
        if inner:
            yield equation.primitive.name, equation.params, inner


def lowers_by_platform(primitive: Any, plain: Callable[..., Any], cuda: Callable[..., Any]) -> None:
    """Compiles a primitive as one function for CUDA, as another for all other platforms and for exported programs.

    What is exported must run with later versions of JAX, which do not promise to know cuDNN's calls.
    """
    on_cuda, elsewhere = (mlir.lower_fun(function, multiple_results=True) for function in (cuda, plain))

    def lower(ctx: Any, *args: Any, **params: Any) -> Any:
        exported = ctx.module_context.lowering_parameters.for_export
        return (elsewhere if exported else on_cuda)(ctx, *args, **params)

    # The calls to cuDNN are divided among devices, which JAX tells only whom it knows to ask.
    prim_requires_devices_during_lowering.add(primitive)
    mlir.register_lowering(primitive, lower, platform="cuda")
    mlir.register_lowering(primitive, elsewhere)
