"""shard_map."""

from collections.abc import Callable
from typing import Any

import fx_transforms
from jax.sharding import PartitionSpec

from fx_nnx.errors import PrefixError
from fx_nnx.transforms.arguments import bound, decorating
from fx_nnx.transforms.carrier import ObjectCarrier
from fx_nnx.transforms.layout import Handle, is_variable, on_tree
from fx_nnx.transforms.policies import Grouper, Grouping, GroupPolicy, Returns, graph_mode
from fx_nnx.transforms.prefixes import PerVariable, entries_of, spread_prefix
from fx_nnx.transforms.targets import Target, transformed

__all__ = ["shard_map"]


@decorating
def shard_map(
    f: Callable[..., Any],
    *,
    mesh: Any,
    in_specs: Any,
    out_specs: Any,
    axis_names: Any = frozenset(),
    check_vma: bool = True,
    graph: bool | None = None,
    graph_updates: bool | None = None,
) -> Any:
    """Runs a function of modules and arrays once per device of a mesh, on the device's part of them.

    Variables that the function changes come out with the spec of their argument.

    Args:
      f: the function; without it, a decorator is returned.
      mesh: the mesh.
      in_specs: a partition spec for all arguments, or a tuple with an entry per argument: a spec, a tree of them, or
        `StateSharding`, which distinguishes the variables of a module.
      out_specs: the same for the result.
      axis_names: see `jax.shard_map`.
      check_vma: see `jax.shard_map`.
      graph: False treats modules as trees, in which no object is shared.
      graph_updates: False lets only values of variables come out.

    Raises:
      TransformError: one variable is reachable on two ways with different specs.
      PrefixError: specs do not fit arguments or results.

    >>> import jax
    >>> import fx_nnx as nnx
    >>> mesh = jax.make_mesh((1,), ("data",), axis_types=(jax.sharding.AxisType.Auto,))
    >>> batch = jax.P("data")
    >>> forward = nnx.shard_map(lambda model, x: model(x), mesh=mesh, in_specs=(jax.P(), batch), out_specs=batch)
    >>> forward(nnx.Linear(2, 1, rngs=nnx.Rngs(0)), jax.numpy.ones((4, 2))).shape
    (4, 1)
    """
    target = Target(f)
    for name, prefix in (("in_specs", in_specs), ("out_specs", out_specs)):
        for entry in entries_of(prefix):
            if is_variable(entry):
                raise PrefixError.misplaced(f"{name} of shard_map", entry, "a PartitionSpec, None or a StateSharding")
    keys = list(dict.fromkeys((*entries_of(in_specs), *entries_of(out_specs), *[None for _ in target.bound[:1]])))
    ins = tuple(in_specs) if isinstance(in_specs, list) else in_specs
    mode = graph_mode(graph, graph_updates)
    # What is laid out comes back so, instead of being laid out anew in each call.
    returns = Returns.WRITTEN if mode.updates else Returns.CHANGED
    carrier = ObjectCarrier(
        mode,
        groups=[GroupPolicy(key, Returns.CHANGED if key is None else returns) for key in keys],
        grouping=Grouping(
            _by_specs("in_specs of shard_map", ins, keys, of_args=True),
            _by_specs("out_specs of shard_map", out_specs, keys, of_args=False),
            check=True,
        ),
        transform="shard_map",
    )
    specs = [PartitionSpec() if key is None else key for key in keys]
    lifted = fx_transforms.shard_map(
        on_tree(target.call),
        carrier,
        group_specs=[(spec, spec) for spec in specs],
        in_specs=(),
        out_specs=PartitionSpec(),
        mesh=mesh,
        axis_names=axis_names,
        check_vma=check_vma,
    )
    return transformed(target, lambda args, kwargs, *rest: lifted(Handle((bound(f, args, kwargs), {}, *rest))))


def _by_specs(name: str, prefix: Any, keys: list[Any], *, of_args: bool) -> Grouper:
    def grouper(tree: Any) -> Any:
        entries = spread_prefix(name, prefix, tree[0] if of_args else tree)

        def group_of(leaf: int, path: tuple[Any, ...], value: Any) -> int:
            entry = entries[leaf] if leaf < len(entries) else None  # what the function is bound to is everywhere
            return keys.index(entry.map_prefix(path, value) if isinstance(entry, PerVariable) else entry)

        return group_of

    return grouper
