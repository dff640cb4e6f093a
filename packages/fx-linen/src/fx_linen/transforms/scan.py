"""Modules repeated over axes of variables and inputs."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

from fx_core import meta
from fx_core.scope import CollectionFilter
from fx_transforms import lift
from fx_transforms.lift.filters import VariableAxes

from fx_linen.transforms._forms import Target, anew, named, transform_target

__all__ = ["remat_scan", "scan"]


C = TypeVar("C")


_make_scan = named("Scan", anew(lift.scan))


_make_remat_scan = named("Remat_scan", anew(lift.remat_scan))


def scan(
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
    data_transform: Callable[..., Any] | None = None,
    metadata_params: Mapping[Any, Any] = {},
    methods: Any = None,
    _split_transpose: bool = False,
    check_constancy_invariants: bool = True,
) -> Target:
    """Loops a module, or a function of one, ``(module, carry, *xs) -> (carry, y)``; see `jax.lax.scan`.

    Layers in a row, each with parameters of its own, compile as fast as one:

    >>> import jax, jax.numpy as jnp
    >>> import fx_linen as nn
    >>> class Layer(nn.Module):
    ...     @nn.compact
    ...     def __call__(self, x):
    ...         return nn.tanh(nn.Dense(3)(x)), None
    >>> Stack = nn.scan(Layer, variable_axes={"params": 0}, split_rngs={"params": True}, length=12)
    >>> variables = Stack().init(jax.random.key(0), jnp.ones(3))
    >>> jax.tree.map(jnp.shape, variables)
    {'params': {'Dense_0': {'bias': (12, 3), 'kernel': (12, 3, 3)}}}

    A recurrent network uses the same parameters in each step:

    >>> class Sum(nn.Module):
    ...     @nn.compact
    ...     def __call__(self, total, x):
    ...         total = nn.Dense(2)(x) + total
    ...         return total, total
    >>> Sums = nn.scan(Sum, variable_broadcast="params", split_rngs={"params": False})
    >>> (total, totals), variables = Sums().init_with_output(jax.random.key(0), jnp.zeros(2), jnp.ones((5, 3)))
    >>> totals.shape, variables["params"]["Dense_0"]["kernel"].shape
    ((5, 2), (3, 2))

    Args:
      target: a subclass of Module, or a function whose first argument is a module.
      variable_axes: for each filter of collections the axis that has one entry per step.
      variable_broadcast: collections that all steps share. The body may create them; what it writes must be the same
        in every step.
      variable_carry: collections that a step takes from the one before. They exist before the loop.
      split_rngs: for each filter of streams whether every step gets a key of its own. A stream that is named here
        and was not given gets its keys from those of ``params``, in ``apply``.
      in_axes: axes of the arguments after the carry; `broadcast` shares an argument. Arguments by name are shared.
      out_axes: axes of the results.
      length: number of steps; needed only when nothing is mapped.
      reverse: whether to begin at the end.
      unroll: steps per iteration of the compiled loop.
      data_transform: ``(variable_groups, rng_groups) -> (variable_groups, rng_groups)``, applied inside each step, for
        sharding constraints.
      metadata_params: passed to the `AxisMetadata` of variables when they gain or lose the axis.
      methods: of a class: names of the methods to transform, or options by name; ``__call__`` by default.
      _split_transpose: see `jax.lax.scan`.
      check_constancy_invariants: `False` saves a trace; then the body cannot create shared variables.

    Returns:
      A class or function like the target.

    Raises:
      TransformTargetError: the target is something else.
      AxisSizeError: when called: mapped axes of different sizes, or none at all.
      BroadcastVariableError: when called: a shared variable that differs between steps.
      CarryChangedError: when called: the carry, or a carried variable, changes its structure, shape or dtype.
      CollectionNotLiftedError: when called: the module uses a collection that no argument names.
      RngNotLiftedError: when called: it uses an RNG stream that ``split_rngs`` does not name.
    """
    options = {
        "variable_axes": variable_axes,
        "variable_broadcast": variable_broadcast,
        "variable_carry": variable_carry,
        "split_rngs": split_rngs,
        "in_axes": in_axes,
        "out_axes": out_axes,
        "length": length,
        "reverse": reverse,
        "unroll": unroll,
        "_split_transpose": _split_transpose,
        "data_transform": data_transform,
        "metadata_params": metadata_params,
        "check_constancy_invariants": check_constancy_invariants,
    }
    return transform_target("Scan", _make_scan, target, options, methods)


def remat_scan(
    target: Target,
    lengths: Sequence[int] | None = (),
    policy: Callable[..., bool] | None = None,
    variable_broadcast: CollectionFilter = False,
    variable_carry: CollectionFilter = False,
    variable_axes: VariableAxes = {True: 0},  # noqa: B006
    split_rngs: Mapping[Any, bool] = {True: True},
    metadata_params: Mapping[Any, Any] = {meta.PARTITION_NAME: None},
) -> Target:
    """Repeats a module, or a function of one, in nested loops, to train deep networks in little memory.

    There are ``prod(lengths)`` steps ``(module, carry) -> carry``. The backward pass keeps about ``sum(lengths)``
    carries and recomputes the rest (Chen et al., Training Deep Nets with Sublinear Memory Cost, 2016).

    >>> import jax, jax.numpy as jnp
    >>> import fx_linen as nn
    >>> deep = nn.remat_scan(nn.Dense, lengths=(4, 5))(3)
    >>> deep.init(jax.random.key(0), jnp.ones(3))["params"]["kernel"].shape
    (4, 5, 3, 3)

    Args:
      target: a subclass of Module, or a function whose first argument is a module.
      lengths: length of each loop, outermost first. Mapped variables have one axis per loop.
      policy: what to keep all the same, one of `jax.checkpoint_policies`.
      variable_broadcast: see `scan`.
      variable_carry: see `scan`.
      variable_axes: see `scan`.
      split_rngs: see `scan`.
      metadata_params: see `scan`; by default the axes of the loops have no partition name.

    Returns:
      A class or function like the target.

    Raises:
      TransformTargetError: the target is something else.
    """
    options = {
        "lengths": tuple(lengths or ()),
        "policy": policy,
        "variable_broadcast": variable_broadcast,
        "variable_carry": variable_carry,
        "variable_axes": variable_axes,
        "split_rngs": split_rngs,
        "metadata_params": metadata_params,
    }
    return transform_target("Remat_scan", _make_remat_scan, target, options, None)
