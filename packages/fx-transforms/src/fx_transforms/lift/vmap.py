"""vmap of functions of scopes."""

from collections.abc import Callable, Mapping
from typing import Any

from fx_core.collections import default_slots

from fx_transforms.lift.explain import explained
from fx_transforms.lift.filters import VariableAxes, rng_slots, split_names, variable_slots
from fx_transforms.scope_carrier import ScopeCarrier
from fx_transforms.vmap import vmap as vmap_groups

__all__ = ["vmap"]


def vmap(
    fn: Callable[..., Any],
    variable_axes: VariableAxes,
    split_rngs: Mapping[Any, bool],
    in_axes: Any = 0,
    out_axes: Any = 0,
    axis_size: int | None = None,
    axis_name: str | None = None,
    spmd_axis_name: Any = None,
    metadata_params: Mapping[Any, Any] = {},
) -> Callable[..., Any]:
    """Maps ``fn(scope, *args)`` over an axis of variables and arguments; see `jax.vmap`.

    Args:
      fn: the function; a tree of scopes is fine too.
      variable_axes: for each filter of collections the axis of its variables, `None` for variables that all examples
        share; `In` and `Out` name an axis for one way only.
      split_rngs: for each filter of streams whether every example gets a key of its own. A stream that is named here
        and was not given gets its keys from those of ``params``, in ``apply``.
      in_axes: axes of the arguments after the scope.
      out_axes: axes of the results.
      axis_size: number of examples; needed only when nothing is mapped.
      axis_name: name for collectives.
      spmd_axis_name: mesh axis for sharding constraints inside.
      metadata_params: passed to the `AxisMetadata` of variables when they gain or lose the axis, such as
        ``{meta.PARTITION_NAME: "layers"}``.

    Returns:
      a function ``(scope, *args)``.

    Raises:
      AxisSizeError: mapped axes of different sizes, or none at all.
      BroadcastVariableError: a shared variable that differs between examples.
      CollectionNotLiftedError: ``fn`` uses a collection that ``variable_axes`` does not name.
      RngNotLiftedError: ``fn`` uses an RNG stream that ``split_rngs`` does not name.
    """
    more = default_slots("vmap", variable_axes)
    variable_axes = {**variable_axes, **{name: slot if isinstance(slot, int) else None for name, slot in more.items()}}
    ins, outs, slots = variable_slots(variable_axes)
    streams, stream_slots = rng_slots(split_rngs)
    own, axes = split_names(split_rngs), [(slot.into, slot.out) for slot in slots]
    carrier = ScopeCarrier(ins, outs, streams, "vmap", own=own, axes=axes, metadata_params=metadata_params)
    mapped = vmap_groups(
        fn,
        carrier,
        [*slots, *stream_slots],
        in_axes=in_axes,
        out_axes=out_axes,
        axis_size=axis_size,
        axis_name=axis_name,
        spmd_axis_name=spmd_axis_name,
    )
    return explained(carrier, mapped)
