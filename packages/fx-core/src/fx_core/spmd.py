"""Logical axis names, the rules that map them to mesh axes, and values laid out by them.

A model names its dimensions for what they are (``"embed"``, ``"heads"``); rules say where such dimensions go on the
mesh at hand, so that the model need not change when the mesh does.

    >>> from fx_core import spmd
    >>> rules = (("batch", "data"), ("embed", None), ("heads", "model"))
    >>> spmd.get_pspec(("batch", "heads"), rules)
    P('data', 'model')
    >>> with spmd.logical_axis_rules(rules):
    ...     spmd.get_pspec(("embed", "heads"))
    P(None, 'model')

A name without a rule stands for the mesh axis of that name. When one set of rules has several for a name, the last
one counts. (`fx_linen.spmd` has rules with fall-backs, where the first one that is free counts.)
"""

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

import jax
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from fx_core import placement
from fx_core.compat.jax import Format, with_memory_layout
from fx_core.errors import ArgumentTypeError
from fx_core.errors.partitioning import ShardingRuleError, mesh_required
from fx_core.typing import AxisName, LogicalRules, Sharding

__all__ = [
    "Sharding",
    "apply_rules",
    "check_rules",
    "composite_rules",
    "from_sharding_rules",
    "get_logical_axis_rules",
    "get_mesh",
    "get_pspec",
    "logical_axis_rules",
    "map_sharding",
    "set_logical_axis_rules",
    "shard_value",
]

_rules: ContextVar[LogicalRules] = ContextVar("fx_logical_axis_rules", default=())


def get_logical_axis_rules() -> LogicalRules:
    """Returns the rules in force in this thread or task.

    >>> with logical_axis_rules((("batch", "data"), ("mlp", None))):
    ...     get_logical_axis_rules()
    (('batch', 'data'), ('mlp', None))
    """
    return _rules.get()


def set_logical_axis_rules(rules: LogicalRules) -> None:
    """Puts rules in force in this thread or task, in place of those before.

    Args:
      rules: pairs of a logical name and a mesh axis, a tuple of mesh axes or None.

    Raises:
      ArgumentTypeError: they are something else.

    >>> set_logical_axis_rules((("batch", "data"),))
    >>> get_logical_axis_rules()
    (('batch', 'data'),)
    >>> set_logical_axis_rules(())
    """
    check_rules(rules)
    _rules.set(rules)


@contextmanager
def logical_axis_rules(rules: LogicalRules) -> Iterator[None]:
    """Puts rules in force inside a ``with`` block, in place of those outside; other threads do not see them.

    Args:
      rules: pairs of a logical name and a mesh axis, a tuple of mesh axes or None.

    Raises:
      ArgumentTypeError: they are something else.

    >>> with logical_axis_rules((("batch", "data"),)):
    ...     get_logical_axis_rules()
    (('batch', 'data'),)
    >>> get_logical_axis_rules()
    ()
    """
    check_rules(rules)
    token = _rules.set(rules)
    try:
        yield
    finally:
        _rules.reset(token)


def check_rules(rules: Any) -> None:
    """Checks that something is rules for logical axes, or None.

    Raises:
      ArgumentTypeError: it is not.

    >>> check_rules((("batch", "data"), ("embed", None)))
    """
    if rules is None:
        return
    wrong = rules
    if isinstance(rules, Collection) and not isinstance(rules, str | Mapping):
        wrong = next((rule for rule in rules if not isinstance(rule, Sequence) or len(rule) != 2), None)
    if wrong is not None:
        raise ArgumentTypeError(
            "These are no rules for logical axes.",
            expected="pairs of a logical name and a mesh axis, a tuple of mesh axes or None",
            got=f"{type(wrong).__name__}: {wrong!r}",
            fix='pass pairs, such as (("batch", "data"), ("embed", None)); of a dictionary its items, as a tuple',
        )


def composite_rules(rule1: LogicalRules | None, rule2: LogicalRules | None) -> Any:
    """Returns two sets of rules as one.

    Raises:
      ShardingRuleError: they map a name differently.
    """
    if not rule1 or not rule2:
        return rule1 or rule2
    combined = dict(rule1)
    for name, axis in rule2:
        if name in combined and combined[name] != axis:
            raise ShardingRuleError(
                f"Two rules for the logical axis {name!r} disagree.",
                expected=f"{name!r} -> {combined[name]!r} everywhere",
                got=f"also {name!r} -> {axis!r}",
                fix="Remove one of the rules, or give the axes different names.",
            )
        combined[name] = axis
    return tuple(combined.items())


def from_sharding_rules(sharding: Iterable[AxisName], sharding_rules: LogicalRules) -> Sharding:
    """Replaces logical names by what rules say; names without a rule stay."""
    mapped = dict(sharding_rules)
    return tuple(mapped.get(name, name) if isinstance(name, str) else name for name in sharding)


def map_sharding(f: Callable[[Any], Any], sharding: Any) -> Any:
    """Applies a function to the entries of a sharding.

    Args:
      f: takes and gives a name, a tuple of names or None.
      sharding: a tuple, a `PartitionSpec`, a `NamedSharding`, a `jax.experimental.layout.Format` of one, or None.

    Returns:
      A `NamedSharding` on the same mesh for one that has a mesh, None for None, else a `PartitionSpec`.
    """
    sharding = _placed(sharding)
    if sharding is None:
        return None
    if isinstance(sharding, NamedSharding):
        return NamedSharding(sharding.mesh, map_sharding(f, sharding.spec))
    return PartitionSpec(*map(f, sharding))


def apply_rules(sharding: Any, sharding_rules: LogicalRules | None) -> Any:
    """Replaces the logical names of a sharding by what rules say, those given and those in force together.

    Args:
      sharding: as for `map_sharding`.
      sharding_rules: rules beside those in force, or None.

    Returns:
      As `map_sharding`.

    Raises:
      ShardingRuleError: the two sets of rules disagree about a name.
    """
    mapped = dict(composite_rules(get_logical_axis_rules(), sharding_rules) or ())
    return map_sharding(lambda name: mapped.get(name, name) if isinstance(name, str) else name, sharding)


def get_pspec(sharding: Any, sharding_rules: LogicalRules | None = None) -> Any:
    """Returns the partition spec of a sharding with logical names; see `apply_rules`."""
    return apply_rules(sharding, sharding_rules)


def get_mesh(sharding: Any) -> Any:
    """Returns the mesh of a `NamedSharding`, or of a format of one, or None."""
    sharding = _placed(sharding)
    return sharding.mesh if isinstance(sharding, NamedSharding) else None


def _placed(sharding: Any) -> Any:
    return sharding.sharding if isinstance(sharding, Format) else sharding


def shard_value(value: Any, out_sharding: Any, sharding_rules: LogicalRules | None, mesh: Mesh | None) -> Any:
    """Lays out the arrays of a tree by logical names.

    Args:
      value: arrays or tracers, as a tree.
      out_sharding: logical names per dimension, as a tuple, a `PartitionSpec` or a `NamedSharding`; None leaves the
        value as it is. A `jax.experimental.layout.Format` also orders the dimensions in memory.
      sharding_rules: rules beside those in force, or None.
      mesh: the mesh; None for that of ``out_sharding``, or else the current one.

    Returns:
      The same values, laid out.

    Raises:
      ShardingRuleError: there is no mesh.
      ShardingRuleError: an array cannot be laid out so; the text has the logical name, the shape of the array, the mesh
        axis and its size.
    """
    if not out_sharding:
        return value
    mesh = mesh or get_mesh(out_sharding)
    names = _placed(out_sharding)
    names = names.spec if isinstance(names, NamedSharding) else names
    spec = apply_rules(names, sharding_rules)
    if mesh is None and placement.active_mesh() is None:
        raise mesh_required(spec)
    placed = placement.place(value, spec, mesh, names)
    layout = out_sharding.layout if isinstance(out_sharding, Format) else None
    if layout is None:
        return placed
    return jax.tree.map(lambda leaf: with_memory_layout(leaf, layout) if isinstance(leaf, jax.Array) else leaf, placed)
