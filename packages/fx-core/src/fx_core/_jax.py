"""Everything of JAX that is private, experimental or moves between versions, in one place.

The rest of fx imports such things from here, so that a new JAX release is looked at in one file. Nothing here imports
the package `jax.extend` with this module: it imports Pallas, which would double the import time of fx.
"""

import ctypes
import functools
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Any

import jax
import jax.core
import jax.numpy as jnp
import numpy as np
from jax._src import config, distributed, source_info_util, traceback_util
from jax._src.core import Primitive, eval_trace, get_opaque_trace_state, set_current_trace, trace_ctx
from jax._src.dispatch import prim_requires_devices_during_lowering
from jax._src.lib import cuda_versions
from jax._src.mesh import get_concrete_mesh
from jax.core import ShapedArray, eval_context
from jax.experimental import checkify, multihost_utils
from jax.experimental.layout import Format, with_layout_constraint
from jax.interpreters import ad, batching, mlir, partial_eval

try:
    from jax._src.random.threefry2x32 import _threefry2x32_lowering
except ImportError:  # before JAX 0.10.1
    from jax._src.prng import _threefry2x32_lowering  # type: ignore[no-redef]

__all__ = [
    "Format",
    "Primitive",
    "ShapedArray",
    "abandon_processes",
    "ad",
    "api_boundary",
    "at_top_level",
    "batching",
    "belongs_to",
    "cache_size",
    "checkify",
    "coordination_client",
    "cudnn_capability",
    "current_trace",
    "devices_are_known",
    "einsum_with",
    "entered_after",
    "eval_context",
    "evaluate_jaxpr",
    "has_taken",
    "hide_in_tracebacks",
    "in_trace",
    "inner_jaxprs",
    "invariant_outputs",
    "key_kind",
    "key_that_draws",
    "live_jaxpr",
    "lowers_by_platform",
    "normal_scales_first",
    "place_among_processes",
    "prune_jaxpr",
    "reached_preemption",
    "scan_counts",
    "short_locations",
    "show_in_tracebacks",
    "sources",
    "stablehlo_in_version",
    "stablehlo_version",
    "staged_after",
    "threefry_words",
    "traced_anew",
    "traces_within",
    "tracing",
    "weakly_typed",
    "with_memory_layout",
]


api_boundary = traceback_util.api_boundary
"""Decorates what users call: exceptions leave it without the frames of hidden files, unless JAX is set to show them."""


def hide_in_tracebacks(directory: str) -> None:
    """Count the files below as those whose frames JAX takes out of tracebacks."""
    if directory not in traceback_util._exclude_paths:
        traceback_util.register_exclusion(directory)


def show_in_tracebacks(directory: str) -> None:
    """Undo `hide_in_tracebacks`."""
    paths = traceback_util._exclude_paths
    paths[:] = [path for path in paths if path != directory]


def current_trace() -> object:
    """Token of the innermost trace: equal tokens mean the same trace, the absence of one included."""
    return get_opaque_trace_state()


def coordination_client() -> Any:
    """The client of the service that ``jax.distributed.initialize`` starts, or None.

    It has barriers and texts by key, which work in any thread, unlike what goes over devices.
    """
    return distributed.global_state.client


def place_among_processes() -> tuple[int, int]:
    """Index and number of this process, as ``jax.distributed.initialize`` got them; devices are not touched."""
    return distributed.global_state.process_id, distributed.global_state.num_processes


def abandon_processes() -> None:
    """Let this process end without waiting for the others, which it would do for minutes where they cannot come.

    JAX waits when the program ends, and so do the destructors: client and service are given up without running them.
    """
    state = distributed.global_state
    for part in (state.preemption_sync_manager, state.client, state.service):
        if part is not None:
            ctypes.pythonapi.Py_IncRef(ctypes.py_object(part))
    state.preemption_sync_manager = state.client = state.service = None


def reached_preemption(step: int) -> bool:
    """Whether one of the processes was told to end, and this is the step at which all are to save.

    False where JAX's service for this is off: then nobody can know.
    """
    if distributed.global_state.preemption_sync_manager is None:
        return False
    return multihost_utils.reached_preemption_sync_point(step)


def traces_within(token: Any) -> list[Any] | None:
    """The traces around this place that were entered after the one of the token, or None if that one is not around."""
    home, trace, inner = token._trace_ref(), trace_ctx.trace, list[Any]()
    while trace is not None and trace is not home:
        inner.append(trace)
        trace = getattr(trace, "parent_trace", None)
    return None if trace is None else inner


def cache_size(compiled: Any) -> int:
    """How many programs a function that `jax.jit` gave has in its cache."""
    return compiled._cache_size()


at_top_level: Callable[[], bool] = trace_ctx.is_top_level
"""Whether operations are computed here, rather than recorded by a transform."""


def entered_after(token: Any, inner: Any) -> bool:
    """Whether the trace of ``token`` is around this place, and that of ``inner`` was entered after it.

    Some transforms, such as `jax.pmap`, trace as if nothing were around them; that counts as inside of ``inner``.
    """
    home, mark, trace, met = token._trace_ref(), inner._trace_ref(), trace_ctx.trace, False
    while trace is not None and trace is not home:
        met = met or trace is mark
        trace = getattr(trace, "parent_trace", None)
    if not met and mark is not eval_trace and home is eval_trace:
        return not _is_around(mark)
    return trace is not None and met


def _is_around(mark: Any) -> bool:
    trace = trace_ctx.trace
    while trace is not None and trace is not mark:
        trace = getattr(trace, "parent_trace", None)
    return trace is not None


def staged_after(token: Any) -> list[str]:
    """The functions, as texts with their places, whose programs are recorded here since the trace of the token.

    Innermost first. These programs are kept, unlike what `jax.grad` and `jax.vmap` record.
    """
    infos = [getattr(getattr(trace, "frame", None), "debug_info", None) for trace in traces_within(token) or ()]
    return [str(info.func_src_info) for info in infos if info is not None]


_traced_in: Any = jax.make_user_context(default_value=None)  # at import, since JAX asks for it before threads


def traced_anew(number: int) -> AbstractContextManager[Any]:
    """The context in which nothing is found that was traced outside of it, or in that of another number."""
    return _traced_in(number)


def in_trace(token: Any) -> AbstractContextManager[Any]:
    """The context in which operations belong to a trace around this place (see `traces_within`)."""
    return set_current_trace(token._trace_ref())


def belongs_to(value: Any, traces: Sequence[Any]) -> bool:
    """Whether a value is known only in one of the traces."""
    return isinstance(value, jax.core.Tracer) and any(value._trace is trace for trace in traces)


def has_taken(token: Any, inner: Sequence[Any]) -> bool:
    """Whether the trace of the token, or one around it, took a value of one of ``inner`` for a constant.

    JAX would find it much later, when it lowers the program, or never.
    """
    trace = token._trace_ref()
    while trace is not None:
        constants = getattr(getattr(trace, "frame", None), "constvar_to_val", {})
        if any(belongs_to(value, inner) for value in constants.values()):
            return True
        trace = getattr(trace, "parent_trace", None)
    return False


def tracing() -> bool:
    """Whether operations are recorded by a transform, rather than computed; never inside of ``eval_context()``."""
    here = current_trace()
    with eval_context():
        return here != current_trace()


def _unused(*_: Any) -> Any:
    raise TypeError("This key only draws bits.")


def key_that_draws(words: Any, random_bits: Callable[..., jax.Array], name: str) -> jax.Array:
    """A key from which `jax.random` draws flat arrays of the given bits.

    Args:
      words: the data of the key, four words.
      random_bits: called with the words and a number of elements, gives 32 bits for each.
      name: of the kind of keys.
    """
    return jax.random.wrap_key_data(words, impl=_kind_of_keys(random_bits, name))


@functools.cache
def _kind_of_keys(random_bits: Callable[..., jax.Array], name: str) -> Any:
    # Imported when the first parameter is drawn, as it imports Pallas.
    from jax.extend.random import define_prng_impl

    def draw(words: Any, width: int, shape: Sequence[int]) -> Any:
        (count,) = shape
        return jnp.asarray(random_bits(words, count), dtype=f"uint{width}")

    return define_prng_impl(
        key_shape=(4,), seed=_unused, split=_unused, fold_in=_unused, random_bits=draw, name=name, tag="fxc"
    )


@functools.cache
def normal_scales_first() -> bool:
    """Whether JAX's normal initializers multiply the scale with √2 before they multiply with the sample.

    JAX 0.10 scales the result of `jax.random.normal`, 0.12 does this and means to go back: the traced program tells.
    """
    program = jax.make_jaxpr(lambda key: jax.nn.initializers.normal()(key, (1,), np.float32))(jax.random.key(0))
    return any(eqn.primitive.name == "erf_inv" for eqn in program.jaxpr.eqns)


def weakly_typed(array: jax.Array) -> jax.Array:
    """The same array with JAX's weak type, as results of arithmetic with Python numbers have it."""
    return jax.lax.convert_element_type_p.bind(array, new_dtype=array.dtype, weak_type=True, sharding=None)


def einsum_with(dot_general: Callable[..., jax.Array], **options: Any) -> Callable[..., jax.Array]:
    """`jax.numpy.einsum` that multiplies with the given replacement of `jax.lax.dot_general`."""
    return functools.partial(jnp.einsum, _dot_general=dot_general, **options)


def prune_jaxpr(jaxpr: Any, wanted: Sequence[bool]) -> tuple[Callable[..., list[Any]], list[bool]]:
    """Leave out of a (closed) jaxpr what its wanted outputs do not need.

    Returns:
      A function of the inputs still needed to the wanted outputs, which runs operation by operation, and which of the
      inputs these are.
    """
    pruned, used = partial_eval.dce_jaxpr(jaxpr.jaxpr, list(wanted))
    return lambda *inputs: jax.core.eval_jaxpr(pruned, jaxpr.consts, *inputs), list(used)


def invariant_outputs(closed: Any, known: Sequence[Any], count: int) -> list[tuple[bool, Any]]:
    """Evaluate the first outputs of a (closed) jaxpr from its first inputs alone.

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
        return [(True, value) for value in values]
    needs = [partial_eval.dce_jaxpr(jaxpr, [i == n for i in range(total)])[1] for n in range(count)]
    return [(not any(need[len(known) :]), None) for need in needs]


def live_jaxpr(closed: Any) -> Any:
    """The (closed) jaxpr without the equations that no output needs; it takes the same inputs."""
    wanted = [True] * len(closed.jaxpr.outvars)
    # Inputs that are left out by name would shift the others.
    live, _ = partial_eval.dce_jaxpr(closed.jaxpr, wanted, instantiate=True)
    return closed.replace(jaxpr=live)


def sources(eqn: Any) -> list[tuple[str, int, str]]:
    """The places in programs outside of JAX that an equation comes from, innermost first: file, line, function."""
    frames = source_info_util.user_frames(eqn.source_info.traceback)
    return [(frame.file_name, frame.start_line, frame.function_name) for frame in frames]


def scan_counts(params: Any) -> tuple[int, int]:
    """How many of the inputs of a scan equation are constants, and how many after them its carry."""
    if "num_consts" in params:
        return params["num_consts"], params["num_carry"]
    consts, carry, _ = params["ft_in"].unpack()
    return len(consts), len(carry)


def key_kind(dtype: Any) -> Any:
    """How keys of a dtype are made and used: functions ``seed split fold_in random_bits`` of single keys as words."""
    return dtype._impl


def threefry_words(*words: Any) -> Any:
    """The function that threefry keys draw with, in arithmetic of integers without loops."""
    return _threefry2x32_lowering(*words, use_rolled_loops=False)


def stablehlo_version() -> str:
    """The newest version of StableHLO that this JAX writes."""
    from jax.extend.mlir.dialects import stablehlo

    return stablehlo.get_current_version()


def short_locations() -> AbstractContextManager[Any]:
    """Lowers with the innermost frame only as the place of an operation: stacks would make up half of a file."""
    return config.traceback_in_locations_limit(1)


def stablehlo_in_version(artifact: bytes, version: str) -> bytes:
    """A serialized StableHLO program in another version, with calls in place of composites."""
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
    """Run a (closed) jaxpr."""
    return jax.core.eval_jaxpr(closed.jaxpr, closed.consts, *args)


def inner_jaxprs(closed: Any) -> Iterator[tuple[str, Mapping[str, Any], list[Any]]]:
    """Name, parameters and (closed) jaxprs of the operations of a (closed) jaxpr that are made of other operations."""
    for equation in closed.jaxpr.eqns:
        params = equation.params.values()
        values = [item for value in params for item in (value if isinstance(value, (tuple, list)) else [value])]
        # Where open jaxprs are a class of their own, they have no attribute "jaxpr".
        inner = [v if hasattr(v, "jaxpr") else type(closed)(v, ()) for v in values if hasattr(v, "eqns")]
        if inner:
            yield equation.primitive.name, equation.params, inner


@functools.cache
def cudnn_capability() -> tuple[int, ...] | None:
    """The lowest compute capability of the CUDA devices of this process; None without such devices or without cuDNN."""
    if cuda_versions is None:
        return None
    try:
        devices = jax.local_devices(backend="cuda")
    except RuntimeError:  # the build of JAX for CUDA on a machine without one
        return None
    return min(tuple(int(part) for part in device.compute_capability.split(".")) for device in devices)


def devices_are_known() -> bool:
    """Whether the mesh around, if there is one, has devices."""
    return jax.sharding.get_abstract_mesh().empty or not get_concrete_mesh().empty


def with_memory_layout(array: jax.Array, layout: Any) -> jax.Array:
    """Give an array with its dimensions in memory as a `jax.experimental.layout.Layout` says."""
    if isinstance(array, jax.core.Tracer):
        return with_layout_constraint(array, layout)
    return jax.device_put(array, Format(layout, array.sharding))


def lowers_by_platform(primitive: Any, plain: Callable[..., Any], cuda: Callable[..., Any]) -> None:
    """Compile a primitive as one function for CUDA, as another for all other platforms and for exported programs.

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
