"""Functions that see variables without the name of an axis."""

from collections.abc import Callable
from typing import Any

from fx_core.meta import PARTITION_NAME

from fx_nnx.graph.record import Walk
from fx_nnx.modes import set_graph_mode
from fx_nnx.transforms.arguments import bound, decorating
from fx_nnx.transforms.layout import is_variable, root_paths
from fx_nnx.transforms.prefixes import PerVariable, spread_prefix
from fx_nnx.transforms.targets import named
from fx_nnx.variables.axes import add_axis, remove_axis

__all__ = ["transform_metadata"]


@decorating
def transform_metadata(
    f: Callable[..., Any], *, in_axes: Any = 0, out_axes: Any = 0, partition: str | None, graph: bool | None = None
) -> Any:
    """Lets the axis names of variables lose a name on their way into a function, and gain it on their way out.

    It stands inside of a `fx_nnx.vmap` or `fx_nnx.scan`, whose own ``transform_metadata`` does the same:

    ::

        @nnx.vmap(in_axes=0, out_axes=0)
        @nnx.transform_metadata(in_axes=0, out_axes=0, partition="layers")
        def f(layer, x): ...

    Args:
      f: the function; without it, a decorator is returned.
      in_axes: as those of the mapping: where the name is taken out.
      out_axes: where it is put into variables of the result.
      partition: the name.
      graph: False treats modules as trees, in which no object is shared.

    Raises:
      SharedReferenceError: ``graph=False``, and something is reachable on two paths.
    """
    shared = set_graph_mode.resolve(graph)

    def call(*args: Any, **kwargs: Any) -> Any:
        args = bound(f, args, kwargs)
        inside = _axes("in_axes of transform_metadata", in_axes, args, shared)
        for variable, axis in inside.values():
            remove_axis(variable, axis, {PARTITION_NAME: partition})
        out = f(*args)
        outside = {
            **_axes("out_axes of transform_metadata", out_axes, out, shared),
            **_axes("in_axes", in_axes, args, shared),
            **inside,
        }
        for variable, axis in outside.values():
            add_axis(variable, axis, {PARTITION_NAME: partition})
        return out

    return named(f, call)


def _axes(name: str, prefix: Any, tree: Any, shared: bool) -> dict[int, tuple[Any, int]]:
    """Give by identity the variables of a tree that have an axis, and the axis."""
    prefix = tuple(prefix) if isinstance(prefix, list) else prefix
    names, leaves, _ = root_paths(tree)
    entries, walk = spread_prefix(name, prefix, tree), Walk(shared=shared).through(leaves, names)
    found: dict[int, tuple[Any, int]] = {}
    for number, path, target in zip(walk.origin, walk.paths, walk.leaves):
        entry = entries[number]
        axis = entry.map_prefix(path[1:], target) if isinstance(entry, PerVariable) else entry
        if is_variable(target) and isinstance(axis, int):
            found[id(target)] = (target, axis)
    return found
