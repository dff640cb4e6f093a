"""Variables with axis names, and the names as trees."""

from collections.abc import Callable, Mapping
from typing import Any

import jax
from fx_core import struct
from fx_core.errors import FxError, ShardingRuleError
from fx_core.frozen_dict import FrozenDict, freeze
from fx_core.scope import Variable
from fx_core.traverse_util import flatten_dict, unflatten_dict

from fx_linen.module._context import running_module
from fx_linen.spmd import RulesFallback, is_spec, with_logical_constraint

__all__ = [
    "SUFFIX",
    "AxisMetadata",
    "NoRunningModuleError",
    "PartitionedVariable",
    "get_axis_names",
    "param_with_axes",
    "variable_with_axes",
]

SUFFIX = "_axes"
Axes = Any  # a tuple of names, or a tree of such


class NoRunningModuleError(FxError, AssertionError):
    """A variable with axis names was made outside of a module's method.

    Args:
      name: the variable.
    """

    def __init__(self, name: str):
        super().__init__(
            f"There is no module to make the variable {name!r} in.",
            expected="a call in a method of a module",
            fix="Call it in setup or a compact method, or pass module=.",
        )


@struct.dataclass
class AxisMetadata:
    """The axis names of one variable; a tree without leaves.

    Attributes:
      names: a logical name or None per dimension; a tree of such for a tree of arrays.
    """

    names: Axes = struct.field(pytree_node=False)


class PartitionedVariable(Variable[Any]):
    """A variable laid out by its axis names when it is read and written, where there are rules and a mesh.

    Args:
      scope: the scope that holds it.
      collection: the name of its collection.
      name: its name.
      axes: a logical name or None per dimension; None lays nothing out.
      fallback: what to do with names without a rule.
    """

    __slots__ = ("axes", "fallback")

    def __init__(
        self,
        scope: Any,
        collection: str,
        name: str,
        axes: Axes | None = None,
        fallback: RulesFallback = RulesFallback.AXIS_IS_UNSHARDED,
    ):
        super().__init__(scope, collection, name, unbox=True)
        self.axes, self.fallback = axes, fallback

    def _laid_out(self, value: Any) -> Any:
        return value if self.axes is None else with_logical_constraint(value, self.axes, fallback=self.fallback)

    @property
    def value(self) -> Any:
        """The present value."""
        return self._laid_out(Variable.value.fget(self))  # type: ignore[misc]

    @value.setter
    def value(self, value: Any) -> None:
        Variable.value.fset(self, self._laid_out(value))  # type: ignore[misc]


def _module(module: Any, name: str) -> Any:
    module = running_module() if module is None else module
    if module is None:
        raise NoRunningModuleError(name)
    return module


def _as_tuples(axes: Any) -> Axes:
    """Axis names with a hash: tuples for lists and specs, `FrozenDict` for dicts."""
    if isinstance(axes, Mapping):
        return FrozenDict({key: _as_tuples(inner) for key, inner in axes.items()})
    if isinstance(axes, (list, tuple, jax.sharding.PartitionSpec)):
        return tuple(_as_tuples(inner) for inner in axes)
    return axes


def map_names(fn: Callable[[tuple[Any, ...]], Any], names: Axes) -> Any:
    """Applies a function to the names of each array."""
    return jax.tree.map(fn, names, is_leaf=is_spec)


def _note_axes(module: Any, collection: str, name: str, axes: Axes) -> None:
    def same(before: Any, now: AxisMetadata) -> AxisMetadata:
        if before is not None and before != now:
            raise ShardingRuleError(
                f"The variable {name!r} has other axis names already.",
                name=name,
                expected=f"{tuple(before.names)}",
                got=f"{tuple(now.names)}",
                fix="Give equal names wherever the variable is made, or leave its axis names out of what you apply.",
            )
        return now

    module.sow(collection + SUFFIX, name + SUFFIX, AxisMetadata(axes), reduce_fn=same, init_fn=lambda: None)


def param_with_axes(
    name: str,
    init_fn: Callable[..., Any],
    *init_args: Any,
    axes: Axes | None = None,
    module: Any = None,
    **init_kwargs: Any,
) -> Any:
    """Creates or finds a parameter and notes its axis names in ``params_axes``.

    Args:
      name: its name.
      init_fn: called as ``init_fn(key, *init_args, **init_kwargs)``.
      *init_args: its arguments.
      axes: a logical name or None per dimension; for a tree of arrays a tree of such.
      module: the module; the running one by default.
      **init_kwargs: more arguments of ``init_fn``.

    Returns:
      The value, laid out where there are rules and a mesh.

    Raises:
      NoRunningModuleError: no module is running and none was given.
      ShardingRuleError: the parameter has other axis names already.
    """
    module = _module(module, name)
    value = module.param(name, init_fn, *init_args, **init_kwargs)
    if axes is None:
        return value
    axes = _as_tuples(axes)
    value = with_logical_constraint(value, axes)
    _note_axes(module, "params", name, axes)
    return value


def variable_with_axes(
    collection: str,
    name: str,
    init_fn: Callable[..., Any],
    *init_args: Any,
    axes: Axes | None = None,
    module: Any = None,
    fallback: RulesFallback = RulesFallback.AXIS_IS_UNSHARDED,
    **init_kwargs: Any,
) -> PartitionedVariable:
    """Creates or finds a variable and notes its axis names in ``<collection>_axes``.

    Args:
      collection: its collection.
      name: its name.
      init_fn: called as ``init_fn(*init_args, **init_kwargs)``.
      *init_args: its arguments.
      axes: a logical name or None per dimension; for a tree of arrays a tree of such.
      module: the module; the running one by default.
      fallback: what to do with names without a rule.
      **init_kwargs: more arguments of ``init_fn``.

    Returns:
      The variable; its values are laid out where there are rules and a mesh.

    Raises:
      NoRunningModuleError: no module is running and none was given.
      ShardingRuleError: the variable has other axis names already.
    """
    module = _module(module, name)
    module.variable(collection, name, init_fn, *init_args, **init_kwargs)
    if axes is not None:
        axes = _as_tuples(axes)
        _note_axes(module, collection, name, axes)
    return PartitionedVariable(module.scope, collection, name, axes, fallback)


def get_axis_names(axes_metadata: Mapping[str, Any]) -> FrozenDict[str, Any]:
    """Partitions specs of logical names, in the structure of the variables.

    Args:
      axes_metadata: a collection of axis names, such as ``variables["params_axes"]``.

    Returns:
      The same tree with the names of the variables.
    """
    flat = flatten_dict(axes_metadata)
    specs = {
        (*path, last.removesuffix(SUFFIX)): map_names(lambda names: jax.sharding.PartitionSpec(*names), entry.names)
        for (*path, last), entry in flat.items()
        if isinstance(entry, AxisMetadata)
    }
    return freeze(unflatten_dict(specs))
