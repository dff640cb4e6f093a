"""vmap and pmap."""

from collections.abc import Callable, Sequence
from typing import Any

import fx_transforms
import jax

from fx_nnx.transforms.arguments import StaticArguments, bound, decorating
from fx_nnx.transforms.axes import NO_METADATA, AxisGroups
from fx_nnx.transforms.layout import Handle, on_tree
from fx_nnx.transforms.policies import graph_mode
from fx_nnx.transforms.targets import Target, transformed

__all__ = ["pmap", "vmap"]


@decorating
def vmap(
    f: Callable[..., Any],
    *,
    in_axes: Any = 0,
    out_axes: Any = 0,
    axis_name: Any = None,
    axis_size: int | None = None,
    spmd_axis_name: Any = None,
    transform_metadata: Any = NO_METADATA,
    graph: bool | None = None,
    graph_updates: bool | None = None,
) -> Any:
    """Maps a function of modules and arrays over an axis of them.

    Modules that are mapped have variables with one more axis; modules that the function makes get it.

    >>> import jax.numpy as jnp
    >>> import fx_nnx as nnx
    >>> models = vmap(lambda seed: nnx.Dict(scale=nnx.Param(seed * 2)))(jnp.arange(3))
    >>> models.scale[...], vmap(lambda model, x: model.scale * x, in_axes=(0, None))(models, 10)
    (Array([0, 2, 4], dtype=int32), Array([ 0, 20, 40], dtype=int32))

    Args:
      f: the function; without it, a decorator is returned.
      in_axes: an axis or None for all arguments, or a tuple with an entry per argument: an axis, None, a tree of them,
        or `StateAxes`, which distinguishes the variables of a module.
      out_axes: the same for the result.
      axis_name: name for collectives.
      axis_size: number of steps, needed if nothing has a mapped axis.
      spmd_axis_name: see `jax.vmap`.
      transform_metadata: with ``{nnx.PARTITION_NAME: name}`` the axis names of variables lose and gain the name.
      graph: False treats modules as trees, in which no object is shared.
      graph_updates: False lets only values of variables come out.

    Raises:
      TransformError: one variable is reachable on two ways with different axes.
      AxisSizeError: axes of different sizes, or none at all.
      BroadcastVariableError: a variable that all steps share depends on the step.
      PrefixError: axes do not fit arguments or results.
    """
    target = Target(f)
    groups = AxisGroups("vmap", in_axes, out_axes, graph_mode(graph, graph_updates))
    lifted = fx_transforms.vmap(
        on_tree(target.call),
        groups.carrier(transform_metadata),
        groups.slots(),
        axis_size=axis_size,
        axis_name=axis_name,
        spmd_axis_name=spmd_axis_name,
    )
    return transformed(target, lambda args, kwargs, *rest: lifted(Handle((bound(f, args, kwargs), {}, *rest))))


@decorating
def pmap(
    f: Callable[..., Any],
    *,
    axis_name: Any = None,
    in_axes: Any = 0,
    out_axes: Any = 0,
    static_broadcasted_argnums: int | Sequence[int] = (),
    devices: Sequence[Any] | None = None,
    backend: str | None = None,
    axis_size: int | None = None,
    donate_argnums: int | Sequence[int] = (),
    transform_metadata: Any = NO_METADATA,
    graph: bool | None = None,
    graph_updates: bool | None = None,
) -> Any:
    """Maps a function of modules and arrays over devices, as `vmap` does over an axis.

    New programs do better with `shard_map`, or with `jit` and shardings.

    Args:
      f: the function; without it, a decorator is returned.
      axis_name: name for collectives.
      in_axes: as in `vmap`.
      out_axes: as in `vmap`.
      static_broadcasted_argnums: positions of arguments to compile for.
      devices: the devices.
      backend: whose devices, where ``devices`` is not given.
      axis_size: number of devices, needed if nothing has a mapped axis.
      donate_argnums: no effect on what is computed; no buffer is reused. `jit` with shardings does that.
      transform_metadata: as in `vmap`.
      graph: as in `vmap`.
      graph_updates: as in `vmap`.

    >>> import jax.numpy as jnp
    >>> import fx_nnx as nnx
    >>> scale = nnx.Param(jnp.full(1, 2.0))  # a value per device
    >>> float(nnx.pmap(lambda scale, x: scale * x)(scale, jnp.ones(1))[0])
    2.0
    """
    del donate_argnums
    if devices is None and backend is not None:
        devices = jax.local_devices(backend=backend)
    groups = AxisGroups("pmap", in_axes, out_axes, graph_mode(graph, graph_updates))
    target, statics = Target(f), StaticArguments(f, "pmap", static_broadcasted_argnums)

    lifted = fx_transforms.pmap(
        on_tree(target.call),
        groups.carrier(transform_metadata),
        groups.slots(),
        axis_size=axis_size,
        axis_name=axis_name,
        devices=devices,
    )

    def call(args: Any, kwargs: Any, *rest: Any) -> Any:
        given, args, _ = statics.take(bound(f, args, kwargs), {})
        return lifted(Handle((args, {}, *rest), given))

    return transformed(target, call)
