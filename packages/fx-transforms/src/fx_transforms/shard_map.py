"""shard_map over groups of state."""

import functools
from collections.abc import Callable, Sequence
from typing import Any, cast

import jax

from fx_transforms.carrier import Carrier, Groups, Outcome, run

__all__ = ["shard_map"]


def shard_map(
    fn: Callable[..., Any],
    carrier: Carrier[Any],
    *,
    group_specs: Sequence[tuple[Any, Any]],
    in_specs: Any,
    out_specs: Any,
    mesh: Any = None,
    **options: Any,
) -> Callable[..., Any]:
    """Runs ``fn(inner, *args)`` once per device of a mesh, on the device's part of state and arguments.

    Args:
      fn: function of the merged state and arrays.
      carrier: what splits and merges the state.
      group_specs: for each group the partition specs on its way in and out, prefixes of its tree.
      in_specs: specs of the arguments, a prefix of their tuple.
      out_specs: specs of the results.
      mesh: the mesh, the one of `jax.set_mesh` unless given.
      **options: further options of `jax.shard_map`.

    Returns:
      a function ``(handle, *args)`` that changes the handle as ``fn`` did.

    >>> import jax
    >>> import fx_core
    >>> import fx_transforms
    >>> mesh = jax.make_mesh((1,), ("data",), axis_types=(jax.sharding.AxisType.Auto,))
    >>> every, batch = jax.sharding.PartitionSpec(), jax.sharding.PartitionSpec("data")
    >>> carrier = fx_transforms.ScopeCarrier(["params"], [False], [])
    >>> scope = fx_core.Scope({"params": {"scale": jax.numpy.full((), 2.0)}}, {})
    >>> double = fx_transforms.shard_map(
    ...     lambda scope, x: x * scope.get_variable("params", "scale"),
    ...     carrier,
    ...     group_specs=[(every, every)],
    ...     in_specs=(batch,),
    ...     out_specs=batch,
    ...     mesh=mesh,
    ... )
    >>> double(scope, jax.numpy.ones(2))
    Array([2., 2.], dtype=float32)
    """
    specs_in, specs_out = (tuple(specs) for specs in zip(*group_specs)) if group_specs else ((), ())
    empty = cast(Any, jax.sharding.PartitionSpec())

    @functools.wraps(fn)
    def call(handle: Any, *args: Any) -> Any:
        shape, groups = carrier.split(handle)

        def pure(groups: Groups, args: tuple[Any, ...]) -> Outcome:
            return run(carrier, fn, shape, groups, *args)

        outcome_specs = Outcome(empty, specs_out, out_specs)
        mapped = jax.shard_map(pure, mesh=mesh, in_specs=(specs_in, in_specs), out_specs=outcome_specs, **options)
        return carrier.absorb(handle, *mapped(groups, args))

    return call
