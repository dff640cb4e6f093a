"""Logical axis names with prioritized rules.

A model names the dimensions of its parameters and activations; rules map the names to mesh axes. A name may have
several rules: the first one whose mesh axes are still free in the same array counts.

>>> import fx_linen as nn
>>> rules = (("batch", "data"), ("hidden", "model"), ("heads", ("data", "model")), ("heads", "model"))
>>> nn.spmd.logical_to_mesh_axes(("batch", "heads"), rules)
P('data', 'model')
"""

import enum
import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Self

import jax
from fx_core import meta, placement, struct
from fx_core.errors import ArgumentTypeError, ShardingRuleError
from fx_core.made import made_by_arguments
from fx_core.spmd import check_rules, get_logical_axis_rules, logical_axis_rules, set_logical_axis_rules
from fx_core.typing import LogicalNames, LogicalPartitionSpec, LogicalPartitionSpecPytree, LogicalRules
from jax.sharding import AbstractMesh, Mesh, NamedSharding, PartitionSpec

__all__ = [
    "LogicalNames",
    "LogicalPartitionSpec",
    "LogicalPartitionSpecPytree",
    "LogicalRules",
    "LogicallyPartitioned",
    "RulesFallback",
    "get_logical_axis_rules",
    "logical_axis_rules",
    "logical_to_mesh",
    "logical_to_mesh_axes",
    "logical_to_mesh_sharding",
    "set_logical_axis_rules",
    "with_logical_constraint",
    "with_logical_partitioning",
]

_FREE: Any = PartitionSpec.UNCONSTRAINED
_UNMATCHED: Any = object()


class RulesFallback(enum.Enum):
    """What becomes of a dimension whose name has no rule.

    >>> import fx_linen as nn
    >>> [fallback.name for fallback in nn.RulesFallback]
    ['AXIS_IS_UNSHARDED', 'RAISE_ERROR', 'NO_CONSTRAINT']
    """

    AXIS_IS_UNSHARDED = "axis_is_unsharded"
    RAISE_ERROR = "raise_error"
    NO_CONSTRAINT = "no_constraint"


class LogicallyPartitioned(meta.Partitioned):
    """A value with a logical name, or None, per dimension; rules map the names to mesh axes.

    Attributes:
      rules: the rules for this value; None for those in force.

    >>> import jax.numpy as jnp
    >>> import fx_linen as nn
    >>> box = nn.LogicallyPartitioned(jnp.ones((2, 3)), ("embed", "mlp"))
    >>> box.get_partition_spec()
    P('embed', 'mlp')
    >>> nn.logical_to_mesh(nn.get_partition_spec(box), rules=(("mlp", "model"),))
    P(None, 'model')
    """

    rules: LogicalRules | None = struct.field(default=None, pytree_node=False)

    def unbox(self, apply_constraint: bool = True) -> Any:
        """Returns the value, laid out by the rules where there are rules and a mesh.

        Args:
          apply_constraint: False gives the bare value.
        """
        if not apply_constraint or (self.mesh is None and placement.active_mesh() is None):
            return self.value
        return with_logical_constraint(self.value, self.get_partition_spec(), rules=self.rules, mesh=self.mesh)

    def to_nnx_metadata(self) -> dict[str, Any]:
        """Returns the box as the metadata of an NNX variable."""
        return {**super().to_nnx_metadata(), "sharding_rules": self.rules}

    @classmethod
    def from_nnx_metadata(cls, metadata: Mapping[str, Any]) -> Self:
        """Returns the box that `to_nnx_metadata` described; other entries are left out."""
        return cls(
            value=metadata["value"],
            names=metadata["out_sharding"],
            mesh=metadata.get("mesh"),
            rules=metadata.get("sharding_rules"),
        )


@made_by_arguments
def with_logical_partitioning(
    fn: Callable[..., Any], names: LogicalNames, mesh: Mesh | None = None, rules: LogicalRules | None = None
) -> Callable[..., LogicallyPartitioned]:
    """Lets an initializer give its arrays logical names.

    Args:
      fn: the initializer.
      names: a logical name or None per dimension.
      mesh: the mesh, when it is not to be the current one.
      rules: the rules, when they are not to be those in force.

    >>> import jax
    >>> import fx_linen as nn
    >>> init = nn.spmd.with_logical_partitioning(jax.nn.initializers.zeros, ("embed", "mlp"))
    >>> init(jax.random.key(0), (2, 3)).names
    ('embed', 'mlp')
    """

    @functools.wraps(fn)
    def wrapper(*args: Any, **kwargs: Any) -> LogicallyPartitioned:
        return LogicallyPartitioned(fn(*args, **kwargs), names, mesh=mesh, rules=rules)

    return wrapper


def _assign(names: Sequence[Any], rules: LogicalRules) -> list[Any]:
    """Mesh axes per dimension, ``_UNMATCHED`` where no rule applies."""
    check_rules(rules)
    if isinstance(names, str) or not isinstance(names, Sequence | PartitionSpec):
        raise _no_names(names)
    named = [name for name in names if isinstance(name, str)]
    for name in named:
        if named.count(name) > 1:
            raise _repeated(name, names)
    found: list[Any] = [_UNMATCHED if isinstance(name, str) else name for name in names]
    taken: set[str] = set()
    for name, mesh_axes in rules:
        if name not in named:
            continue
        at = list(names).index(name)
        axes = (mesh_axes,) if isinstance(mesh_axes, str) else () if mesh_axes is _FREE else tuple(mesh_axes or ())
        if found[at] is _UNMATCHED and not taken.intersection(axes):
            found[at] = mesh_axes
            taken.update(axes)
    return found


def logical_to_mesh_axes(
    array_dim_names: Sequence[Any] | None, rules: LogicalRules | None = None
) -> PartitionSpec | None:
    """Maps the logical names of one array to mesh axes.

    Rules count in their order: each takes its mesh axes unless they are taken already in this array.

    Args:
      array_dim_names: a logical name, None or ``PartitionSpec.UNCONSTRAINED`` per dimension; None for no names at all.
      rules: pairs of a name and a mesh axis, a tuple of them or None; those in force by default.

    Returns:
      The partition spec, with None where no rule applies; None for None.

    Raises:
      ShardingRuleError: two dimensions have the same name.
      ArgumentTypeError: the names are no sequence, or the rules no pairs.

    >>> import fx_linen as nn
    >>> nn.logical_to_mesh_axes(("batch", "embed"), rules=(("batch", "data"), ("embed", None)))
    P('data', None)
    """
    if array_dim_names is None:
        return None
    found = _assign(array_dim_names, get_logical_axis_rules() if rules is None else rules)
    return PartitionSpec(*(None if axes is _UNMATCHED else axes for axes in found))


def is_spec(x: Any) -> bool:
    """Returns whether this is the names of one array, or None."""
    if x is None or isinstance(x, PartitionSpec):
        return True
    return type(x) is tuple and all(name is None or name is _FREE or isinstance(name, str) for name in x)


def logical_to_mesh(tree: Any, rules: LogicalRules | None = None) -> Any:
    """`logical_to_mesh_axes` for each partition spec of a tree.

    Args:
      tree: specs of logical names, as `get_partition_spec` gives them.
      rules: the rules; those in force by default.

    >>> import jax
    >>> import fx_linen as nn
    >>> specs = {"kernel": jax.P("embed", "mlp"), "bias": jax.P("mlp")}
    >>> nn.logical_to_mesh(specs, rules=(("mlp", "model"), ("embed", None)))
    {'bias': P('model',), 'kernel': P(None, 'model')}
    """
    return jax.tree.map(lambda spec: logical_to_mesh_axes(spec, rules), tree, is_leaf=is_spec)


def logical_to_mesh_sharding(tree: Any, mesh: Mesh, rules: LogicalRules | None = None) -> Any:
    """Converts specs of logical names into shardings on a mesh.

    Args:
      tree: specs of logical names, as `get_partition_spec` gives them.
      mesh: the mesh.
      rules: the rules; those in force by default.

    Returns:
      The tree with a `NamedSharding` for each spec; None stays.

    Raises:
      ArgumentTypeError: the mesh is none, or the rules are no pairs.

    >>> import jax
    >>> import fx_linen as nn
    >>> mesh = jax.make_mesh((1,), ("model",), axis_types=(jax.sharding.AxisType.Auto,))
    >>> nn.logical_to_mesh_sharding({"kernel": jax.P("embed", "mlp")}, mesh, (("mlp", "model"),))["kernel"].spec
    P(None, 'model')
    """

    if not isinstance(mesh, Mesh | AbstractMesh):
        raise ArgumentTypeError(
            "This is no mesh.",
            expected="a jax.sharding.Mesh",
            got=repr(mesh),
            fix="pass tree, mesh, rules in this order",
        )

    def sharding(spec: PartitionSpec | None) -> NamedSharding | None:
        return None if spec is None else NamedSharding(mesh, spec)

    return jax.tree.map(sharding, logical_to_mesh(tree, rules), is_leaf=is_spec)


def with_logical_constraint(
    x: Any,
    logical_axis_resources: LogicalPartitionSpecPytree,
    rules: LogicalRules | None = None,
    mesh: Mesh | None = None,
    fallback: RulesFallback = RulesFallback.AXIS_IS_UNSHARDED,
) -> Any:
    """Lays out arrays by logical names, where there are rules and a mesh; else return them as they are.

    Args:
      x: arrays, as a tree.
      logical_axis_resources: names per dimension, for all arrays or as a tree of such; None leaves arrays alone.
      rules: the rules; those in force by default.
      mesh: the mesh; the one of `jax.set_mesh` by default.
      fallback: what to do with an array when one of its names has no rule.

    Raises:
      ShardingRuleError: a name has no rule, with ``RulesFallback.RAISE_ERROR``.
      ShardingRuleError: an array cannot be laid out so.

    >>> import jax, jax.numpy as jnp
    >>> import fx_linen as nn
    >>> mesh = jax.make_mesh((1,), ("data",), axis_types=(jax.sharding.AxisType.Auto,))
    >>> x = nn.with_logical_constraint(jnp.ones((4, 2)), ("batch", None), rules=(("batch", "data"),), mesh=mesh)
    >>> x.sharding.spec
    P('data', None)
    """
    in_force = get_logical_axis_rules() if rules is None else rules
    if not in_force or logical_axis_resources is None or (mesh is None and placement.active_mesh() is None):
        return x

    def constrain(names: Any, value: Any) -> Any:
        if names is None:
            return value
        return jax.tree.map(lambda leaf: _constrain(leaf, names, in_force, mesh, fallback), value)

    return jax.tree.map(constrain, logical_axis_resources, x, is_leaf=is_spec)


def _constrain(x: Any, names: Sequence[Any], rules: LogicalRules, mesh: Mesh | None, fallback: RulesFallback) -> Any:
    found = _assign(names, rules)
    unmatched = [name for name, axes in zip(names, found) if axes is _UNMATCHED]
    if unmatched and fallback is RulesFallback.RAISE_ERROR:
        raise _unmatched(names, unmatched, rules)
    if unmatched and fallback is RulesFallback.NO_CONSTRAINT:
        return x
    spec = PartitionSpec(*(None if axes is _UNMATCHED else axes for axes in found))
    if _FREE in found:
        return jax.lax.with_sharding_constraint(x, spec if mesh is None else NamedSharding(mesh, spec))
    return placement.place(x, spec, mesh, names)


def _no_names(got: Any) -> ArgumentTypeError:
    return ArgumentTypeError(
        "These are no logical names of an array.",
        expected="a name, None or PartitionSpec.UNCONSTRAINED per dimension",
        got=f"{type(got).__name__}: {got!r}",
        fix='pass a tuple, such as ("batch", None)',
    )


def _repeated(name: str, names: Sequence[Any]) -> ShardingRuleError:
    return ShardingRuleError(
        f"The logical axis {name!r} occurs more than once in the names of an array.",
        name=name,
        expected="different names, or None",
        got=str(tuple(names)),
        fix="Give the dimensions different names with a rule each.",
    )


def _unmatched(names: Sequence[Any], unmatched: Sequence[str], rules: LogicalRules) -> ShardingRuleError:
    return ShardingRuleError(
        f"Axis names {tuple(names)} did not match a rule: {', '.join(unmatched)}.",
        name=unmatched[0],
        expected=f"one of {sorted({name for name, _ in rules})}",
        got=", ".join(unmatched),
        fix="Add a rule, (name, None) to leave the dimension unsharded, or use another RulesFallback.",
    )
