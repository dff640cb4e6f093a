"""Transforms of modules that keep axis names right."""

import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
from fx_core import meta
from fx_core.scope import CollectionFilter, in_filter
from fx_transforms import lift
from fx_transforms.lift.dropped import refuse_dropped
from fx_transforms.lift.filters import VariableAxes

from fx_linen.partitioning._names import SUFFIX, AxisMetadata, map_names
from fx_linen.transforms import map_variables, scan, vmap
from fx_linen.transforms._forms import Target, transform_target
from fx_linen.transforms.remat import make_remat

__all__ = ["core_remat_static", "remat", "scan_with_axes", "vmap_with_axes"]

core_remat_static = lift.remat


def _with_axis_names(target: Any, axes: Mapping[str, tuple[int, str]]) -> Any:
    """Let names in collections of axis names gain an axis when they leave the target, and lose it when they enter.

    Args:
      target: a class or function that is transformed already.
      axes: for each collection of variables the new axis and its name.
    """

    def mapping(method: str, axis: int, name: str) -> Callable[[Any], Any]:
        def change(entry: AxisMetadata) -> AxisMetadata:
            return AxisMetadata(map_names(of_array, entry.names))

        def of_array(names: tuple[Any, ...]) -> tuple[Any, ...]:
            return getattr(meta.Partitioned(None, names), method)(axis, {meta.PARTITION_NAME: name}).names

        return lambda collections: jax.tree.map(change, collections, is_leaf=lambda x: isinstance(x, AxisMetadata))

    # One by one: automatic names of the classes tell how many collections there are.
    for collection, of_axis in axes.items():
        enter, leave = mapping("remove_axis", *of_axis), mapping("add_axis", *of_axis)
        target = map_variables(target, collection + SUFFIX, enter, leave, mutable=True)
    return target


def _axis_of(variable_axes: VariableAxes, collection: str) -> int | None:
    """The axis that a collection gains on its way out."""
    for names, axis in variable_axes.items():
        if in_filter(names, collection):
            axis = getattr(axis, "axis", axis)
            return axis if isinstance(axis, int) else None
    return None


def _named_axes(variable_axes: VariableAxes, names: Mapping[str, str]) -> dict[str, tuple[int, str]]:
    found = ((collection, _axis_of(variable_axes, collection), name) for collection, name in names.items())
    return {collection: (axis, name) for collection, axis, name in found if axis is not None}


def scan_with_axes(
    target: Target,
    variable_axes: VariableAxes = {},  # noqa: B006 (never changed; the reference API's default)
    variable_broadcast: CollectionFilter = False,
    variable_carry: CollectionFilter = False,
    split_rngs: Mapping[Any, bool] = {},
    in_axes: Any = 0,
    out_axes: Any = 0,
    length: int | None = None,
    reverse: bool = False,
    unroll: int = 1,
    axis_name: str = "layers",
    axes_collections: tuple[str, ...] = ("params",),
    data_transform: Callable[..., Any] | None = None,
    methods: Any = None,
) -> Target:
    """`fx_linen.scan` that gives axis names the name of the loop's axis.

    Args:
      target: a subclass of Module, or a function whose first argument is a module.
      variable_axes: see `fx_linen.scan`.
      variable_broadcast: see there.
      variable_carry: see there.
      split_rngs: see there.
      in_axes: see there.
      out_axes: see there.
      length: see there.
      reverse: see there.
      unroll: see there.
      axis_name: the logical name of the axis that variables gain.
      axes_collections: collections that have axis names.
      data_transform: see `fx_linen.scan`.
      methods: see there.

    Returns:
      A class or function like the target.

    Raises:
      TransformTargetError: the target is something else.
    """
    # Axis names have no arrays: any axis does.
    axes = {**variable_axes, **{collection + SUFFIX: 0 for collection in axes_collections}}
    looped = scan(
        target,
        variable_axes=axes,
        variable_broadcast=variable_broadcast,
        variable_carry=variable_carry,
        split_rngs=split_rngs,
        in_axes=in_axes,
        out_axes=out_axes,
        length=length,
        reverse=reverse,
        unroll=unroll,
        data_transform=data_transform,
        methods=methods,
    )
    named = _named_axes(variable_axes, dict.fromkeys(axes_collections, axis_name))
    return _with_axis_names(looped, named) if named else looped


def vmap_with_axes(
    target: Target,
    variable_axes: VariableAxes,
    split_rngs: Mapping[Any, bool] = {},
    in_axes: Any = 0,
    out_axes: Any = 0,
    axis_size: int | None = None,
    axis_name: str | None = None,
    partitioning_axis_names: Mapping[Any, str] = {},
    spmd_axis_name: Any = None,
    methods: Any = None,
) -> Target:
    """`fx_linen.vmap` that gives axis names the name of the mapped axis.

    Args:
      target: a subclass of Module, or a function whose first argument is a module.
      variable_axes: see `fx_linen.vmap`.
      split_rngs: see there.
      in_axes: see there.
      out_axes: see there.
      axis_size: see there.
      axis_name: see there.
      partitioning_axis_names: for each collection with axis names the logical name of the new axis.
      spmd_axis_name: see `fx_linen.vmap`.
      methods: see there.

    Returns:
      A class or function like the target.

    Raises:
      TransformTargetError: the target is something else.
    """
    axes = {**variable_axes, **{collection + SUFFIX: None for collection in partitioning_axis_names}}
    mapped = vmap(
        target,
        variable_axes=axes,
        split_rngs=split_rngs,
        in_axes=in_axes,
        out_axes=out_axes,
        axis_size=axis_size,
        axis_name=axis_name,
        spmd_axis_name=spmd_axis_name,
        methods=methods,
    )
    named = _named_axes(variable_axes, partitioning_axis_names)
    return _with_axis_names(mapped, named) if named else mapped


def remat(
    target: Target,
    variables: CollectionFilter = True,
    rngs: CollectionFilter = True,
    concrete: bool = False,
    prevent_cse: bool = True,
    static_argnums: int | Sequence[int] = (),
    policy: Callable[..., bool] | None = None,
    methods: Any = None,
) -> Target:
    """`fx_linen.remat` that counts static arguments without the module: the one after the module is 0.

    Args:
      target: a subclass of Module, or a function whose first argument is a module.
      variables: see `fx_linen.remat`.
      rngs: see there.
      concrete: see there.
      prevent_cse: see there.
      static_argnums: positions of Python arguments, counted from 0 for the first after the module.
      policy: see `fx_linen.remat`.
      methods: see there.

    Returns:
      A class or function like the target.

    Raises:
      TransformTargetError: the target is something else.
      UnsupportedOperationError: ``concrete`` is True.
    """
    refuse_dropped("remat", "concrete", concrete)
    options = {
        "variables": variables,
        "rngs": rngs,
        "prevent_cse": prevent_cse,
        "static_argnums": static_argnums,
        "policy": policy,
    }
    return transform_target("Core_remat_static", functools.partial(make_remat, first=0), target, options, methods)
