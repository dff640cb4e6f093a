"""Boxes around variables that carry metadata about their axes, such as how each is partitioned over devices.

    >>> import jax.numpy as jnp
    >>> from fx_core import meta
    >>> kernel = meta.Partitioned(jnp.ones((3, 4)), names=("embed", "mlp"))
    >>> stacked = kernel.add_axis(0, {meta.PARTITION_NAME: "layers"})   # what a lifted vmap does
    >>> stacked.names
    ('layers', 'embed', 'mlp')
    >>> meta.get_partition_spec({"kernel": kernel})
    {'kernel': P('embed', 'mlp')}

Variables hold boxes so that metadata travels with them; models see what `unbox` gives.
"""

import functools
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Generic, Self, TypeVar

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from fx_core import placement, struct
from fx_core.array_node import is_array_node
from fx_core.errors.kinds import ItemNotFoundError
from fx_core.errors.partitioning import PartitioningUnspecifiedError, ShardingRuleError
from fx_core.made import made_by_arguments
from fx_core.typing import LogicalNames

__all__ = [
    "PARTITION_NAME",
    "AxisMetadata",
    "LogicalNames",
    "Partitioned",
    "add_axis",
    "get_global_mesh",
    "get_partition_spec",
    "get_sharding",
    "global_mesh_defined",
    "is_axis_metadata",
    "map_axis_meta",
    "remove_axis",
    "replace_boxed",
    "unbox",
    "with_partitioning",
]

A = TypeVar("A")

PARTITION_NAME = "partition_name"
"""The entry of ``metadata_params`` that says how the axis of a transform is called."""


class AxisMetadata(ABC, Generic[A]):
    """What a box has to do: open, take a new value, and follow when a transform adds or removes an axis.

    A box must be a pytree whose leaves are those of its value; deriving from `fx_core.struct.PyTreeNode` as well is
    the easy way.

    >>> import fx_core
    >>> isinstance(Partitioned(1.0, ("embed",)), fx_core.AxisMetadata)
    True
    """

    @abstractmethod
    def unbox(self) -> A:
        """Returns the value, with whatever the metadata wants done to it."""

    @abstractmethod
    def replace_boxed(self, val: Any) -> "AxisMetadata[Any]":
        """Returns the same box around another value."""

    @abstractmethod
    def add_axis(self, index: int, params: Mapping[Any, Any]) -> "AxisMetadata[Any]":
        """Returns the metadata after a transform has given the value a new axis.

        Args:
          index: position of the axis in the new value, counted from the end when negative.
          params: what the user passed to the transform as ``metadata_params``.
        """

    @abstractmethod
    def remove_axis(self, index: int, params: Mapping[Any, Any]) -> "AxisMetadata[Any]":
        """Returns the metadata after a transform has taken an axis away, the inverse of `add_axis`.

        Args:
          index: position of the axis in the old value, counted from the end when negative.
          params: what the user passed to the transform as ``metadata_params``.
        """


class Partitioned(struct.PyTreeNode, AxisMetadata[A]):
    """A value with a partition name, or None, per dimension.

    Under a mesh (its own, or that of `jax.set_mesh`) the names are mesh axes, and `unbox` lays the value out on them.

    Attributes:
      value: an array or a tree of arrays.
      names: one name or None per dimension.
      mesh: the mesh that the names belong to, when it is not to be the current one.

    >>> import jax.numpy as jnp
    >>> box = Partitioned(jnp.ones((2, 3)), ("embed", "mlp"))
    >>> box.get_partition_spec()
    P('embed', 'mlp')
    >>> box.unbox().shape
    (2, 3)
    """

    value: Any
    names: LogicalNames = struct.field(pytree_node=False)
    mesh: Mesh | None = struct.field(pytree_node=False, default=None)

    def unbox(self, apply_constraint: bool = True) -> Any:
        """Returns the value, laid out on the mesh if there is one.

        Args:
          apply_constraint: False gives the bare value.

        Raises:
          ShardingRuleError: the value cannot be laid out as the names want.
        """
        return placement.place(self.value, self.names, self.mesh) if apply_constraint else self.value

    def replace_boxed(self, val: Any) -> Self:
        """Returns the same names around another value."""
        return self.replace(value=val)

    def add_axis(self, index: int, params: Mapping[Any, Any]) -> Self:
        """Inserts the name that ``params`` has for ``PARTITION_NAME``; dimensions without a name get None.

        A negative index counts from the end of the *new* value, as ``out_axes`` of `jax.vmap` does.

        Raises:
          PartitioningUnspecifiedError: ``params`` has no ``PARTITION_NAME``.
          ItemNotFoundError: the index is out of range.
        """
        names = list(self.names)
        at = index if index >= 0 else index + len(names) + 1
        if at < 0:
            raise _partition_axis(self.names, index)
        names += [None] * (at - len(names))
        names.insert(at, self._axis_name(params))
        return self.replace(names=tuple(names))

    def remove_axis(self, index: int, params: Mapping[Any, Any]) -> Self:
        """Takes out the name that ``params`` has for ``PARTITION_NAME``.

        Raises:
          PartitioningUnspecifiedError: ``params`` has no ``PARTITION_NAME``.
          ItemNotFoundError: the index is out of range.
          ShardingRuleError: the axis has another name.
        """
        name, names = self._axis_name(params), list(self.names)
        if not -len(names) <= index < len(names):
            raise _partition_axis(self.names, index)
        if names[index] != name:
            raise ShardingRuleError(
                f"Axis {index} of a variable with partition names {tuple(self.names)} is not {name!r}.",
                expected=f"{name!r} at index {index}",
                got=repr(self.names[index]),
                fix="Give the transform the axis and the partition name that the variable was created with.",
            )
        del names[index]
        return self.replace(names=tuple(names))

    def get_partition_spec(self) -> Any:
        """Returns the names as a partition spec; a box of one per leaf where an array-like node is in this one."""
        return self._per_leaf(self.mesh, lambda spec: spec)

    def get_sharding(self, mesh: Mesh) -> Any:
        """Returns the sharding of the value on a mesh that has the names as axes; a box of them for an
        array-like node.
        """
        return self._per_leaf(mesh, functools.partial(NamedSharding, mesh))

    def _per_leaf(self, mesh: Mesh | None, make: Callable[[PartitionSpec], Any]) -> Any:
        spec = PartitionSpec(*self.names)
        if not is_array_node(self.value):
            return make(spec)
        specs = placement.spec_of(self.value, spec, mesh)
        # A prefix of a tree of values has to have its boxes.
        return self.replace(value=jax.tree.map(make, specs, is_leaf=lambda x: isinstance(x, PartitionSpec)))

    def to_nnx_metadata(self) -> dict[str, Any]:
        """Returns the box as the metadata of an NNX variable."""
        return {"value": self.value, "mesh": self.mesh, "out_sharding": self.names}

    @classmethod
    def from_nnx_metadata(cls, metadata: Mapping[str, Any]) -> Self:
        """Returns the box that `to_nnx_metadata` described; other entries are left out."""
        return cls(value=metadata["value"], names=metadata["out_sharding"], mesh=metadata.get("mesh"))

    def _axis_name(self, params: Mapping[Any, Any]) -> str | None:
        if PARTITION_NAME not in params:
            raise PartitioningUnspecifiedError(self)
        return params[PARTITION_NAME]


def is_axis_metadata(val: Any) -> bool:
    """Returns whether a value is a box."""
    return isinstance(val, AxisMetadata)


def map_axis_meta(fn: Callable[[AxisMetadata[Any]], Any], tree: Any) -> Any:
    """Applies a function to the boxes of a tree; other leaves stay as they are.

    >>> import fx_core
    >>> fx_core.map_axis_meta(lambda box: box.names, [Partitioned(1.0, ("embed",)), 2.0])
    [('embed',), 2.0]
    """
    return jax.tree.map(lambda x: fn(x) if is_axis_metadata(x) else x, tree, is_leaf=is_axis_metadata)


def add_axis(tree: Any, index: int, params: Mapping[Any, Any]) -> Any:
    """Informs all boxes of a tree that their values have a new axis; see `AxisMetadata.add_axis`."""
    return map_axis_meta(lambda box: box.add_axis(index, params), tree)


def remove_axis(tree: Any, index: int, params: Mapping[Any, Any]) -> Any:
    """Informs all boxes of a tree that their values have lost an axis; see `AxisMetadata.remove_axis`."""
    return map_axis_meta(lambda box: box.remove_axis(index, params), tree)


def unbox(tree: Any) -> Any:
    """Opens all boxes of a tree, boxes in boxes included.

    >>> import fx_core
    >>> fx_core.unbox({"kernel": Partitioned(1.0, ("embed",)), "bias": 2.0})
    {'bias': 2.0, 'kernel': 1.0}
    """
    if isinstance(tree, jax.Array | np.ndarray):
        return tree  # read once per variable access: most values are bare arrays
    return map_axis_meta(lambda box: unbox(box.unbox()), tree)


def replace_boxed(tree: Any, updates: Any) -> Any:
    """Puts new values into the boxes of a tree.

    >>> replace_boxed([Partitioned(1, ("a",)), 2], [3, 4])
    [Partitioned(value=3, names=('a',), mesh=None), 4]

    Args:
      tree: a tree with boxes.
      updates: the tree without boxes, as `unbox` gives it, with new values.
    """

    def put(box: Any, value: Any) -> Any:
        if not is_axis_metadata(box):
            return value
        inner = box.unbox(apply_constraint=False) if isinstance(box, Partitioned) else box.unbox()
        return box.replace_boxed(replace_boxed(inner, value) if is_axis_metadata(inner) else value)

    return jax.tree.map(put, tree, updates, is_leaf=is_axis_metadata)


def get_partition_spec(tree: Any) -> Any:
    """Returns the partition specs of a tree's arrays: those of the boxes, ``P()`` for bare arrays, None for the
    rest.

    >>> import jax.numpy as jnp
    >>> get_partition_spec({"kernel": Partitioned(jnp.ones((2, 3)), (None, "mlp")), "bias": jnp.ones(3)})
    {'bias': P(), 'kernel': P(None, 'mlp')}
    """

    def spec(x: Any) -> PartitionSpec | None:
        if is_axis_metadata(x):
            return x.get_partition_spec() if hasattr(x, "get_partition_spec") else PartitionSpec()
        return PartitionSpec() if hasattr(x, "shape") else None

    return jax.tree.map(spec, tree, is_leaf=is_axis_metadata)


def get_sharding(tree: Any, mesh: Mesh) -> Any:
    """Returns the shardings of a tree's arrays on a mesh; bare arrays are replicated, what is no array gets None.

    >>> import jax
    >>> import jax.numpy as jnp
    >>> mesh = jax.make_mesh((1,), ("mlp",), axis_types=(jax.sharding.AxisType.Auto,))
    >>> get_sharding(Partitioned(jnp.ones((2, 3)), (None, "mlp")), mesh).spec
    P(None, 'mlp')
    """

    def sharding(x: Any) -> Any:
        if is_axis_metadata(x) and hasattr(x, "get_sharding"):
            return x.get_sharding(mesh)
        return NamedSharding(mesh, PartitionSpec()) if is_axis_metadata(x) or hasattr(x, "shape") else None

    return jax.tree.map(sharding, tree, is_leaf=is_axis_metadata)


@made_by_arguments
def with_partitioning(
    fn: Callable[..., Any], names: LogicalNames, mesh: Mesh | None = None
) -> Callable[..., Partitioned]:
    """Lets an initializer give its arrays partition names.

    >>> import jax
    >>> init = with_partitioning(jax.nn.initializers.zeros, ("embed", "mlp"))
    >>> init(jax.random.key(0), (2, 3)).names
    ('embed', 'mlp')

    Args:
      fn: the initializer.
      names: one mesh axis or None per dimension.
      mesh: the mesh, when it is not to be the current one.
    """

    @functools.wraps(fn)
    def wrapper(*args: Any, **kwargs: Any) -> Partitioned:
        return Partitioned(fn(*args, **kwargs), names, mesh=mesh)

    return wrapper


def get_global_mesh() -> jax.sharding.AbstractMesh | None:
    """Returns the mesh that `jax.set_mesh` made current, or None."""
    return placement.active_mesh()


def global_mesh_defined() -> bool:
    """Returns whether `jax.set_mesh` made a mesh current."""
    return placement.active_mesh() is not None


def _partition_axis(names: Sequence[str | None], index: int) -> ItemNotFoundError:
    return ItemNotFoundError(
        f"Axis {index} is out of range for partition names {tuple(names)}.",
        expected=f"an axis of an array with {len(names)} named dimensions",
        got=index,
        fix="Give every dimension a name or None, and check the transform's variable_axes.",
    )
