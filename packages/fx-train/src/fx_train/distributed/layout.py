"""Where the arrays of a state and of a batch go."""

import functools
import logging
import math
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import jax
import numpy as np
from fx_core.errors import ShardingRuleError
from fx_core.placement import check_spec
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from fx_train.errors import indivisible_batch

__all__ = ["batch_part", "create_sharded", "global_batch", "place", "shardings"]

logger = logging.getLogger("fx.train")

Rules = Sequence[tuple[str, Any]]
"""Pairs of a regular expression, searched in an array's path (``"params/dense/kernel"``), and its layout: per dimension
a name or None, or one string for "split the largest dimension that can be"."""


def shardings(tree: Any, mesh: Mesh, rules: Rules = (), axes: Mapping[str, Any] | None = None) -> Any:
    """Returns for every array of a tree how it is laid out; the first rule whose pattern is found in its path counts.

    Data parallel, fully sharded and tensor parallel are the same program under other rules:

    >>> mesh = jax.sharding.AbstractMesh((4, 2), ("data", "model"))
    >>> state = {"params": {"up": {"kernel": np.zeros((8, 16))}, "norm": np.zeros(6)}}
    >>> def specs(rules, **more):
    ...     return jax.tree.leaves(jax.tree.map(lambda s: tuple(s.spec), shardings(state, mesh, rules, **more)),
    ...                            is_leaf=lambda x: isinstance(x, tuple))
    >>> specs([])                                              # data parallel: a copy everywhere
    [(), ()]
    >>> specs([(".*", "data")])                                # fully sharded; 6 cannot be split in 4
    [(), (None, 'data')]
    >>> specs([("up/kernel", ("embed", "mlp"))], axes={"mlp": "model", "embed": None})      # tensor parallel
    [(), (None, 'model')]

    The optimizer's state has the paths of the parameters at the end of its own, so that the same rules reach it.

    Args:
      tree: arrays or `jax.ShapeDtypeStruct`.
      mesh: the mesh.
      rules: see `Rules`; an array without one has a copy on every device.
      axes: what logical names in rules stand for: a mesh axis, a tuple of them, or None. Others are mesh axes.

    Returns:
      The tree with a `jax.sharding.NamedSharding` for each array.

    Raises:
      ShardingRuleError: a rule cannot be met: the mesh lacks an axis, or a dimension is no multiple of it. The text has
        the logical name, the shape and the mesh axis.
      ShardingRuleError: the mesh lacks the axis of a rule that is one string.
      ShardingRuleError: a rule is no pair, or its pattern is no regular expression.
    """
    compiled = [_compiled(rule) for rule in rules]
    unseen = {pattern.pattern for pattern, _ in compiled}
    names = dict(axes or {})

    def choose(path: Any, leaf: Any) -> NamedSharding:
        where = jax.tree_util.keystr(path, simple=True, separator="/")
        unseen.difference_update([pattern.pattern for pattern, _ in compiled if pattern.search(where)])
        layout = next((layout for pattern, layout in compiled if pattern.search(where)), ())
        shape = np.shape(leaf)
        if isinstance(layout, str):
            spec = _split_largest(shape, names.get(layout, layout), mesh)
        elif len(shape) == 0:
            spec = ()  # counters of an optimizer are found by the paths of its arrays
        else:
            spec = tuple(names.get(name, name) if isinstance(name, str) else name for name in layout)
            check_spec(shape, spec, mesh, layout)
        return NamedSharding(mesh, PartitionSpec(*spec))

    chosen = jax.tree_util.tree_map_with_path(choose, tree)
    for pattern in sorted(unseen):
        logger.warning("the rule for %r is found in no path of the tree, so it lays nothing out", pattern)
    return chosen


def _compiled(rule: Any) -> tuple[re.Pattern[str], Any]:
    try:
        pattern, layout = rule
        if isinstance(layout, Iterable):
            return re.compile(pattern), layout
    except (TypeError, ValueError, re.error) as error:
        raise _invalid_rule(rule, str(error)) from error
    raise _invalid_rule(rule, f"a layout of type {type(layout).__name__}")


def _split_largest(shape: tuple[int, ...], axis: Any, mesh: Mesh) -> tuple[Any, ...]:
    axes = () if axis is None else axis if isinstance(axis, tuple) else (axis,)
    for name in axes:
        if name not in mesh.shape:
            raise _mesh_axis(name, mesh.axis_names)
    pieces = math.prod(mesh.shape[name] for name in axes)
    fitting = [(size, -i) for i, size in enumerate(shape) if size % pieces == 0 and size > 0]
    if not fitting or pieces == 1:
        return ()
    chosen = -max(fitting)[1]
    return (*(None,) * chosen, axis)


def place(tree: Any, layout: Any) -> Any:
    """Lays out arrays that every process has whole, as `shardings` says; each process keeps its pieces."""

    def put(x: Any, sharding: NamedSharding) -> jax.Array:
        if sharding.is_fully_addressable:
            return jax.device_put(x, sharding)
        host = np.asarray(x)
        return jax.make_array_from_callback(host.shape, sharding, lambda index: host[index])

    return jax.tree.map(put, tree, layout)


def create_sharded(
    create: Callable[..., Any], *args: Any, mesh: Mesh, rules: Rules = (), axes: Mapping[str, Any] | None = None
) -> Any:
    """Creates a state in pieces, so that no device ever holds it whole.

    Args:
      create: makes the state from ``args``; it is compiled.
      *args: for ``create``.
      mesh: the mesh.
      rules: see `shardings`.
      axes: see `shardings`.

    Returns:
      The state, laid out by the rules.
    """
    layout = shardings(jax.eval_shape(create, *args), mesh, rules, axes)
    return jax.jit(create, out_shardings=layout)(*args)


def batch_part(mesh: Mesh, axis: str | tuple[str, ...] = "data") -> tuple[int, int]:
    """Returns which part of every batch this process has to load, and of how many: for `fx_train.data.Batches`.

    Most meshes divide a batch between all processes. Where one process alone does not hold a whole model, as on
    ``"data:1, model:-1"``, several processes load the same part.

    >>> batch_part(Mesh(np.array(jax.devices()[:1]), ("data",)))
    (0, 1)

    Args:
      mesh: the mesh.
      axis: mesh axis, or axes, over which examples are split.

    Raises:
      ShardingRuleError: the mesh has no such axis.
      ShardingRuleError: the parts of processes overlap or differ in size.
    """
    parts = _parts(mesh, axis)
    different = sorted(set(parts.values()), key=min)
    return different.index(parts[jax.process_index()]), len(different)


def _parts(mesh: Mesh, axis: str | tuple[str, ...]) -> dict[int, frozenset[int]]:
    """By process, the places along the axes where its devices are."""
    axes = axis if isinstance(axis, tuple) else (axis,)
    for name in axes:
        if name not in mesh.shape:
            raise _mesh_axis(name, mesh.axis_names)
    sizes = [mesh.shape[name] for name in axes]
    positions = [mesh.axis_names.index(name) for name in axes]
    found: dict[int, set[int]] = {}
    for where, device in np.ndenumerate(mesh.devices):
        place = int(np.ravel_multi_index([where[i] for i in positions], sizes))
        found.setdefault(device.process_index, set()).add(place)
    parts = {process: frozenset(places) for process, places in found.items()}
    different = set(parts.values())
    consecutive = all(max(places) - min(places) < len(places) for places in different)
    if not consecutive or sum(map(len, different)) != math.prod(sizes) or len(set(map(len, different))) > 1:
        raise ShardingRuleError(
            f"A batch that is split over {', '.join(axes)} has no equal parts for the processes.",
            expected="consecutive places along the axes for each process, as many as the others have",
            got="; ".join(
                f"process {process}: {list(places)}"
                for process, places in sorted({process: sorted(places) for process, places in parts.items()}.items())
            ),
            fix="Put the axes of the batch first in the mesh's description. Their size has to divide the number of "
            "processes, or to be a multiple of it.",
        )
    return parts


def global_batch(local: Any, mesh: Mesh, axis: str | tuple[str, ...] = "data") -> Any:
    """Joins what each process has of a batch to arrays over all devices.

    Args:
      local: a tree of arrays (examples of this process, ...); the processes' parts make the batch, in the order of
        `batch_part`. Processes with the same part have to give the same arrays.
      mesh: the mesh.
      axis: mesh axis, or axes, over which examples are split.

    Returns:
      The tree of arrays (examples of all parts, ...).

    Raises:
      ShardingRuleError: the mesh has no such axis.
      ShardingRuleError: the parts of processes overlap or differ in size.
      BatchError: the examples of all parts cannot be split evenly over the axis.
    """
    count = _part_count(mesh, axis)
    pieces = math.prod(mesh.shape[name] for name in (axis if isinstance(axis, tuple) else (axis,)))
    sharding = NamedSharding(mesh, PartitionSpec(axis))

    def join(x: Any) -> jax.Array:
        shape = np.shape(x)
        whole = (shape[0] * count, *shape[1:]) if shape else ()
        if not whole or whole[0] % pieces:
            raise indivisible_batch(whole, pieces, f"devices along {axis!r}")
        return jax.make_array_from_process_local_data(sharding, np.asarray(x), whole)

    return jax.tree.map(join, local)


@functools.lru_cache(32)
def _part_count(mesh: Mesh, axis: str | tuple[str, ...]) -> int:
    return len(set(_parts(mesh, axis).values()))


def _mesh_axis(name: object, axes: Sequence[Any]) -> ShardingRuleError:
    return ShardingRuleError(
        f"The mesh has no axis {name!r}.", expected=f"one of {', '.join(map(str, axes))}", got=repr(name)
    )


def _invalid_rule(rule: object, problem: str) -> ShardingRuleError:
    return ShardingRuleError(
        "A rule for layouts cannot be read.",
        expected='a pair of a regular expression and a layout, such as ("kernel$", ("data", None))',
        got=f"{rule!r} ({problem})",
        fix="Give a list of such pairs; the first one whose pattern is found in the path of an array counts.",
    )
