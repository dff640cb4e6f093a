"""Everything of JAX that is private, experimental or moves between versions, in one place.

The packages of fx import such things from here, so that a new JAX release is looked at in one folder. What is listed
stays as it is within a minor version of fx-core. Nothing here imports `jax.extend` with this module: that imports
Pallas, which would double the import time of fx.
"""

from typing import TYPE_CHECKING

from jax._src.core import Primitive
from jax.core import ShapedArray, eval_context
from jax.experimental.layout import Format
from jax.interpreters import ad, batching
from jax.interpreters.partial_eval import DynamicJaxprTracer

from fx_core.compat.jax.arrays import (
    array_aval,
    cudnn_capability,
    devices_are_known,
    einsum_with,
    key_kind,
    key_that_draws,
    normal_scales_first,
    record_fold_in,
    threefry_words,
    weakly_typed,
    with_memory_layout,
)
from fx_core.compat.jax.processes import (
    abandon_processes,
    coordination_client,
    place_among_processes,
    reached_preemption,
)
from fx_core.compat.jax.programs import (
    InconclusiveDimensionOperation,
    as_arrays,
    cache_size,
    compiled_anew,
    compiler_version,
    evaluate_jaxpr,
    executable_bytes,
    executable_of,
    inner_jaxprs,
    invariant_outputs,
    live_jaxpr,
    located,
    lowers_by_platform,
    oldest_stablehlo_version,
    prune_jaxpr,
    scan_counts,
    short_locations,
    size_constraints,
    sources,
    stablehlo_in_version,
    stablehlo_version,
)
from fx_core.compat.jax.tracebacks import api_boundary, hide_in_tracebacks, show_in_tracebacks
from fx_core.compat.jax.traces import (
    at_top_level,
    belongs_to,
    current_trace,
    entered_after,
    has_taken,
    in_trace,
    inlined_at_once,
    is_current,
    is_of_current,
    is_recorded,
    staged_after,
    traced_anew,
    traces_within,
    tracing,
)
from fx_core.lazy_imports import lazy_imports

if TYPE_CHECKING:
    from fx_core.compat.jax.checks import checkify

__all__ = [
    "DynamicJaxprTracer",
    "Format",
    "InconclusiveDimensionOperation",
    "Primitive",
    "ShapedArray",
    "abandon_processes",
    "ad",
    "api_boundary",
    "array_aval",
    "as_arrays",
    "at_top_level",
    "batching",
    "belongs_to",
    "cache_size",
    "checkify",
    "compiled_anew",
    "compiler_version",
    "coordination_client",
    "cudnn_capability",
    "current_trace",
    "devices_are_known",
    "einsum_with",
    "entered_after",
    "eval_context",
    "evaluate_jaxpr",
    "executable_bytes",
    "executable_of",
    "has_taken",
    "hide_in_tracebacks",
    "in_trace",
    "inlined_at_once",
    "inner_jaxprs",
    "invariant_outputs",
    "is_current",
    "is_of_current",
    "is_recorded",
    "key_kind",
    "key_that_draws",
    "live_jaxpr",
    "located",
    "lowers_by_platform",
    "normal_scales_first",
    "oldest_stablehlo_version",
    "place_among_processes",
    "prune_jaxpr",
    "reached_preemption",
    "record_fold_in",
    "scan_counts",
    "short_locations",
    "show_in_tracebacks",
    "size_constraints",
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

_LATER = {"checks": ("checkify",)}
"""The names of modules that are imported when one of them is first asked for."""

if not TYPE_CHECKING:  # which would then take every name for one of the package
    __getattr__, __dir__ = lazy_imports(__name__, _LATER)
