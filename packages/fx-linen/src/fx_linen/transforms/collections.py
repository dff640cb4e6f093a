"""Modules that see their variables in another form: map_variables, add_metadata_axis."""

import functools
from collections.abc import Callable, Mapping
from typing import Any

from fx_core import meta
from fx_core.scope import CollectionFilter
from fx_transforms import lift

from fx_linen.transforms._forms import Target, anew, named, transform_target

__all__ = ["add_metadata_axis", "map_variables"]

_make = named("Map_variables", anew(lift.map_variables, by_name=True))


# A lambda in the signature, as in Flax, that can be pickled: classes made by `map_variables` remember their arguments.
_unchanged: Callable[[Any], Any] = lambda tree: tree  # noqa: E731
_unchanged.__qualname__ = "_unchanged"


def map_variables(
    target: Target,
    mapped_collections: CollectionFilter = True,
    trans_in_fn: Callable[..., Any] = _unchanged,
    trans_out_fn: Callable[..., Any] = _unchanged,
    init: bool = False,
    mutable: bool = False,
    rngs: CollectionFilter = True,
    variables: CollectionFilter = True,
    methods: Any = None,
) -> Target:
    """Lets a module, or a function of one, see some collections through a function.

    >>> import jax, jax.numpy as jnp
    >>> import fx_linen as nn
    >>> def one_bit(variables):
    ...     return jax.tree.map(jnp.sign, variables)
    >>> BinaryDense = nn.map_variables(nn.Dense, "params", one_bit, init=True)
    >>> variables = BinaryDense(1, use_bias=False).init(jax.random.key(0), jnp.ones((1, 3)))
    >>> y = BinaryDense(1, use_bias=False).apply(variables, jnp.ones((1, 3)))
    >>> bool(y[0, 0] == jnp.sign(variables["params"]["kernel"]).sum())
    True

    What ``init`` creates goes through both functions before it is stored, so above the signs are stored, unless
    ``trans_out_fn`` is the inverse of ``trans_in_fn``.

    Args:
      target: a subclass of Module, or a function whose first argument is a module.
      mapped_collections: which collections.
      trans_in_fn: from a dictionary of collections, as stored, to what the module sees.
      trans_out_fn: from what the module leaves to what is stored.
      init: whether the module runs once more, before, to create the mapped collections where they are mutable.
      mutable: whether it may write to the mapped collections.
      rngs: streams that take part.
      variables: other collections that take part.
      methods: of a class: names of the methods to transform, or options by name; ``__call__`` by default.

    Returns:
      A class or function like the target.

    Raises:
      TransformTargetError: the target is something else.
    """
    options = {
        "mapped_collections": mapped_collections,
        "map_in_fn": trans_in_fn,
        "map_out_fn": trans_out_fn,
        "init": init,
        "mutable": mutable,
        "rngs": rngs,
        "variables": variables,
    }
    return transform_target("Map_variables", _make, target, options, methods)


def add_metadata_axis(
    target: Target,
    variable_axes: Mapping[Any, Any] = {},
    metadata_params: Mapping[Any, Any] = {},
) -> Target:
    """Adds to the metadata of variables an axis that `vmap` or `scan` of functions without modules adds to the values.

    Outside the module its boxes name one axis more than inside: ``jax.vmap`` over ``init`` and ``apply`` maps it.

    >>> import jax, jax.numpy as jnp
    >>> import fx_linen as nn
    >>> kernel_init = nn.with_partitioning(nn.initializers.ones, ("in", "out"))
    >>> Layer = nn.add_metadata_axis(nn.Dense, {"params": 0}, {nn.PARTITION_NAME: "layers"})
    >>> init = Layer(2, kernel_init=kernel_init, use_bias=False).init
    >>> variables = jax.vmap(init, in_axes=(0, None))(jax.random.split(jax.random.key(0), 4), jnp.ones(3))
    >>> nn.get_partition_spec(variables)
    {'params': {'kernel': P('layers', 'in', 'out')}}

    Args:
      target: a subclass of Module, or a function whose first argument is a module.
      variable_axes: for each filter of collections the axis.
      metadata_params: passed to the `AxisMetadata` of the variables, such as ``{nn.PARTITION_NAME: "layers"}``.

    Returns:
      A class or function like the target.

    Raises:
      TransformTargetError: the target is something else.
    """
    for names, axis in variable_axes.items():
        target = map_variables(
            target,
            names,
            functools.partial(meta.remove_axis, index=axis, params=metadata_params),
            functools.partial(meta.add_axis, index=axis, params=metadata_params),
            mutable=True,
        )
    return target
