"""vmap of modules."""

from collections.abc import Mapping
from typing import Any

from fx_transforms import lift
from fx_transforms.lift.filters import VariableAxes

from fx_linen.transforms._forms import Target, anew, named, transform_target

__all__ = ["vmap"]

_make_vmap = named("Vmap", anew(lift.vmap))


def vmap(
    target: Target,
    variable_axes: VariableAxes = {},  # noqa: B006 (never changed; the reference API's default)
    split_rngs: Mapping[Any, bool] = {},
    in_axes: Any = 0,
    out_axes: Any = 0,
    axis_size: int | None = None,
    axis_name: str | None = None,
    spmd_axis_name: Any = None,
    metadata_params: Mapping[Any, Any] = {},
    methods: Any = None,
) -> Target:
    """Maps a module, or a function of one, over an axis of arguments and variables; see `jax.vmap`.

    >>> import jax, jax.numpy as jnp
    >>> import fx_linen as nn
    >>> own = {"variable_axes": {"params": 0}, "split_rngs": {"params": True}}
    >>> Ensemble = nn.vmap(nn.Dense, **own, in_axes=None, axis_size=5)
    >>> y, variables = Ensemble(2).init_with_output(jax.random.key(0), jnp.ones(3))
    >>> y.shape, variables["params"]["kernel"].shape
    ((5, 2), (5, 3, 2))

    Args:
      target: a subclass of Module, or a function whose first argument is a module.
      variable_axes: for each filter of collections the axis of its variables, `None` for variables that all examples
        share; `fx_transforms.lift.In` and ``Out`` name an axis for one way only.
      split_rngs: for each filter of streams whether every example gets a key of its own. A stream that is named here
        and was not given gets its keys from those of ``params``, in ``apply``.
      in_axes: axes of the arguments after the module. Arguments by name are the same for all examples.
      out_axes: axes of the results.
      axis_size: number of examples; needed only when nothing is mapped.
      axis_name: name for collectives.
      spmd_axis_name: mesh axis for sharding constraints inside.
      metadata_params: passed to the `AxisMetadata` of variables when they gain or lose the axis, such as
        ``{nn.PARTITION_NAME: "heads"}``.
      methods: of a class: names of the methods to transform, or options by name; ``__call__`` by default.

    Returns:
      A class or function like the target.

    Raises:
      TransformTargetError: the target is something else.
      AxisSizeError: when called: mapped axes of different sizes, or none at all.
      BroadcastVariableError: when called: a shared variable that differs between examples.
      CollectionNotLiftedError: when called: the module uses a collection that ``variable_axes`` does not name.
      RngNotLiftedError: when called: it uses an RNG stream that ``split_rngs`` does not name.
    """
    options = {
        "variable_axes": variable_axes,
        "split_rngs": split_rngs,
        "in_axes": in_axes,
        "out_axes": out_axes,
        "axis_size": axis_size,
        "axis_name": axis_name,
        "spmd_axis_name": spmd_axis_name,
        "metadata_params": metadata_params,
    }
    return transform_target("Vmap", _make_vmap, target, options, methods)
