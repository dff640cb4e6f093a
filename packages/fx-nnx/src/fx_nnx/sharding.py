"""Models on a mesh of devices: which part of each variable lives where."""

from collections.abc import Callable, Mapping
from typing import Any

import jax
from fx_core import placement
from fx_core.array_node import ArrayNode
from fx_core.errors.partitioning import PartitioningUnspecifiedError, mesh_required
from fx_core.meta import PARTITION_NAME
from fx_core.spmd import apply_rules, get_mesh, logical_axis_rules
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from fx_nnx.graph.functions import split
from fx_nnx.graph.maps import map_leaves
from fx_nnx.objects.fields import is_array
from fx_nnx.objects.pytree import Pytree
from fx_nnx.states.state import State
from fx_nnx.variables import axes
from fx_nnx.variables.initial import with_metadata
from fx_nnx.variables.variable import Variable

__all__ = [
    "PARTITION_NAME",
    "abstract_with_sharding",
    "add_axis",
    "as_abstract",
    "get_abstract_model",
    "get_named_sharding",
    "get_partition_spec",
    "lay_out_abstract",
    "logical_axis_rules",
    "remove_axis",
    "with_partitioning",
]


def add_axis(tree: Any, index: int, transform_metadata: Mapping[str, Any]) -> Any:
    """Informs the variables of a tree that their values get an axis, as `fx_nnx.vmap` and `fx_nnx.scan` do on the way
    out.

    >>> import fx_nnx as nnx
    >>> kernel = nnx.Param(1.0, out_sharding=("in", "out"), eager_sharding=False)
    >>> add_axis(kernel, 0, {PARTITION_NAME: "layers"}).out_sharding
    ('layers', 'in', 'out')

    Args:
      tree: a state, a model, or any tree of variables, which are changed.
      index: the axis; a negative one counts from the end of the new value.
      transform_metadata: the name under `PARTITION_NAME`; other entries go into the metadata of their names.

    Raises:
      ItemNotFoundError: the index is out of range.
      PartitioningUnspecifiedError: there is no name for the axis.
    """
    return _each(tree, axes.add_axis, index, transform_metadata)


def remove_axis(tree: Any, index: int, transform_metadata: Mapping[str, Any]) -> Any:
    """Informs the variables of a tree that their values have lost an axis: the opposite of `add_axis`.

    Raises:
      ItemNotFoundError: the index is out of range.
      ShardingRuleError: the axis has another name.
      PartitioningUnspecifiedError: there is no name for the axis.
    """
    return _each(tree, axes.remove_axis, index, transform_metadata)


def _each(tree: Any, change: Callable[..., None], index: int, transform_metadata: Mapping[str, Any]) -> Any:
    if PARTITION_NAME not in transform_metadata:
        raise PartitioningUnspecifiedError(tree)
    for leaf in jax.tree.leaves(tree, is_leaf=lambda x: isinstance(x, Variable)):
        if isinstance(leaf, Variable):
            change(leaf, index, transform_metadata)
    return tree


def with_partitioning(
    initializer: Callable[..., Any], sharding: Any, mesh: Mesh | None = None, **metadata: Any
) -> Callable[..., Any]:
    """Lets an initializer say how the variable that it initializes is laid out.

    >>> import jax
    >>> import fx_nnx as nnx
    >>> init = with_partitioning(jax.nn.initializers.ones, (None, "model"))
    >>> with nnx.use_eager_sharding(False):
    ...     nnx.Param(init(jax.random.key(0), (2, 4))).out_sharding
    (None, 'model')

    Args:
      initializer: gives a value.
      sharding: per dimension a mesh axis or logical name, a tuple of them, or None.
      mesh: the mesh, where it is not to be the current one.
      **metadata: more metadata for the variable.
    """
    return with_metadata(initializer, out_sharding=sharding, mesh=mesh, **metadata)


def get_partition_spec(tree: Any) -> Any:
    """Returns the partition spec of each variable in a tree, by its ``out_sharding`` and the rules in force.

    >>> import fx_nnx as nnx
    >>> spec = get_partition_spec({"w": nnx.Param(1.0, out_sharding=("data",), eager_sharding=False)})
    >>> spec["w"].get_value()
    P('data',)

    Args:
      tree: a state, a model, or any tree of variables.

    Returns:
      The same tree; its variables hold specs. What says nothing about its layout has the empty spec: a copy everywhere.
    """
    return _map(lambda leaf: _with_value(leaf, _specs(leaf)), tree)


def get_named_sharding(tree: Any, mesh: Mesh) -> Any:
    """Returns the sharding of each variable in a tree on a mesh, as `get_partition_spec` gives specs.

    Args:
      tree: a state, a model, or any tree of variables.
      mesh: the mesh.

    Returns:
      The same tree; its variables hold `jax.sharding.NamedSharding`: what ``out_shardings`` of `jax.jit` takes.

    Raises:
      ShardingRuleError: a variable cannot be laid out so.

    >>> import jax
    >>> import fx_nnx as nnx
    >>> mesh = jax.make_mesh((1,), ("data",), axis_types=(jax.sharding.AxisType.Auto,))
    >>> tree = {"w": nnx.Param(jax.numpy.ones(2), out_sharding=("data",), eager_sharding=False)}
    >>> nnx.get_named_sharding(tree, mesh)["w"].get_value().spec
    P('data',)
    """
    return _map(lambda leaf: _with_value(leaf, _sharding(leaf, mesh)), tree)


def abstract_with_sharding(tree: Any, graph: bool | None = None) -> Any:
    """Lets the abstract arrays of a tree say where they would live, by the metadata of their variables.

    Args:
      tree: a state or model as `fx_nnx.eval_shape` gives it: with `jax.ShapeDtypeStruct` in its variables. Arrays that
        are there already stay as they are.
      graph: as in `fx_nnx.split`.

    Returns:
      The same tree. The mesh is that of the metadata, or the current one; without one, the rest is left alone.

    Raises:
      ShardingRuleError: a variable names axes, and there is no mesh.
      ShardingRuleError: a variable cannot be laid out so.

    >>> import jax
    >>> import fx_nnx as nnx
    >>> mesh = jax.make_mesh((1,), ("data",), axis_types=(jax.sharding.AxisType.Auto,))
    >>> abstract = jax.ShapeDtypeStruct((2,), "float32")
    >>> tree = {"w": nnx.Param(abstract, out_sharding=("data",), eager_sharding=False)}
    >>> with jax.set_mesh(mesh):
    ...     nnx.abstract_with_sharding(tree)["w"].get_value().sharding.spec
    P('data',)
    """

    def place(leaf: Any) -> Any:
        value = _value(leaf)
        if not isinstance(value, jax.ShapeDtypeStruct | ArrayNode):
            return leaf
        abstract = all(isinstance(part, jax.ShapeDtypeStruct) for part in jax.tree.leaves(value))
        return _placed(leaf, None) if abstract else leaf

    return _map(place, tree, graph)


as_abstract = abstract_with_sharding


def lay_out_abstract(variable: Variable[Any]) -> None:
    """Lets a variable of a trace that gave shapes say on which devices its value would live.

    That is what the metadata and the rules say; over mesh axes of type Explicit the trace says it already, without the
    devices. A variable without a mesh stays as it is.
    """
    mesh = variable.get_metadata("mesh", None) or placement.placing_mesh()
    value = variable.get_raw_value()
    parts = jax.tree.leaves(value)
    if mesh is None or not all(isinstance(part, jax.ShapeDtypeStruct) for part in parts):
        return
    if all(part.sharding is None for part in parts):
        variable.set_raw_value(_placed(variable, None, traced=True).get_raw_value())
    elif isinstance(mesh, Mesh):
        variable.set_raw_value(jax.tree.map(lambda part: _with_devices(part, mesh), value))


def _with_devices(part: jax.ShapeDtypeStruct, mesh: Mesh) -> jax.ShapeDtypeStruct:
    sharding = part.sharding
    if isinstance(sharding, NamedSharding) and sharding.mesh == mesh.abstract_mesh:
        return part.update(sharding=NamedSharding(mesh, sharding.spec))
    return part


def get_abstract_model(init_fn: Callable[[], Any], mesh: Mesh, *, graph: bool | None = None) -> tuple[Any, State]:
    """Returns structure and abstract state of a model, with the sharding of each variable, without making any array.

    ::

        graphdef, abstract = nnx.get_abstract_model(lambda: Model(rngs=nnx.Rngs(0)), mesh)
        state = restore(checkpoint, like=abstract)      # arrays come in where they belong
        model = nnx.merge(graphdef, state)

    Args:
      init_fn: makes the model.
      mesh: the mesh.
      graph: as in `fx_nnx.split`.

    Returns:
      The `GraphDef`, and a `State` whose variables hold `jax.ShapeDtypeStruct` with a sharding on ``mesh``.

    Raises:
      ShardingRuleError: a variable cannot be laid out so.
    """
    with jax.set_mesh(mesh):
        graphdef, abstract = jax.eval_shape(lambda: split(init_fn(), graph=graph))
    return graphdef, abstract.map(lambda _, leaf: _placed(leaf, mesh))


def _map(f: Callable[[Any], Any], tree: Any, graph: bool | None = None) -> Any:
    """Apply a function to the variables and other leaves of a tree; models in it keep what they share."""

    def visit(x: Any) -> Any:
        if isinstance(x, Pytree):
            return map_leaves(lambda _, leaf: f(leaf), x, graph=graph)
        return x.map(lambda _, leaf: f(leaf)) if isinstance(x, State) else f(x)

    return jax.tree.map(visit, tree, is_leaf=lambda x: isinstance(x, Variable | Pytree | State))


def _value(leaf: Any) -> Any:
    return leaf.get_raw_value() if isinstance(leaf, Variable) else leaf


def _with_value(leaf: Any, value: Any) -> Any:
    return leaf.replace(value, ref=False) if isinstance(leaf, Variable) else value


def _names(leaf: Any) -> Any:
    return leaf.get_metadata("out_sharding", None) if isinstance(leaf, Variable) else None


def _spec(leaf: Any) -> PartitionSpec:
    names = _names(leaf)
    if not names:
        return PartitionSpec()
    spec = apply_rules(names, leaf.get_metadata("sharding_rules", None))
    return spec.spec if isinstance(spec, NamedSharding) else spec


def _specs(leaf: Any, mesh: Any = None) -> Any:
    """The spec of a leaf, or those of the leaves of an array-like node in it."""
    return placement.spec_of(_value(leaf), _spec(leaf), mesh)


def _sharding(leaf: Any, mesh: Any, traced: bool = False) -> Any:
    """Give the sharding of a leaf on a mesh, that of its metadata, or the current one; None if there is none."""
    names = _names(leaf)
    if mesh is None and names:
        mesh = leaf.get_metadata("mesh", None) or get_mesh(names)
    spec = _spec(leaf)
    mesh = placement.placing_mesh() if mesh is None else mesh
    if mesh is None:
        if names:
            raise mesh_required(spec)
        return None
    value = _value(leaf)
    if is_array(value):
        shown = names if isinstance(names, tuple | PartitionSpec) else spec
        placement.check_spec(value.shape, tuple(spec), mesh, shown, traced=traced)
    specs = _specs(leaf, mesh)
    return jax.tree.map(lambda s: NamedSharding(mesh, s), specs, is_leaf=lambda x: isinstance(x, PartitionSpec))


def _placed(leaf: Any, mesh: Any, traced: bool = False) -> Any:
    """The leaf with abstract arrays that say where they live; the leaf itself without a mesh."""
    sharding, value = _sharding(leaf, mesh, traced), _value(leaf)
    if sharding is None:
        return leaf
    if isinstance(value, ArrayNode):
        return _with_value(leaf, jax.tree.map(lambda part, s: part.update(sharding=s), value, sharding))
    return _with_value(leaf, value.update(sharding=sharding))
