"""fx_core.meta: boxes with axis metadata."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from fx_core import errors, meta, serialization, struct
from fx_core.meta import PARTITION_NAME, Partitioned
from hypothesis import given, settings
from hypothesis import strategies as st
from jax.sharding import AxisType, NamedSharding
from jax.sharding import PartitionSpec as P


@pytest.fixture
def mesh():
    return jax.make_mesh((1,), ("data",), axis_types=(AxisType.Auto,))


class Tagged(struct.PyTreeNode, meta.AxisMetadata):
    """A box that is no `Partitioned`."""

    value: object
    axes: int = struct.field(False, default=0)

    def unbox(self):
        return self.value

    def replace_boxed(self, val):
        return self.replace(value=val)

    def add_axis(self, index, params):
        return self.replace(axes=self.axes + 1)

    def remove_axis(self, index, params):
        return self.replace(axes=self.axes - 1)


@pytest.mark.parametrize(
    ("index", "name", "names"),
    [
        (0, "L", ("L", "a", "b")),
        (1, None, ("a", None, "b")),
        (2, "L", ("a", "b", "L")),
        (4, "L", ("a", "b", None, None, "L")),
        (-1, "L", ("a", "b", "L")),
        (-2, "L", ("a", "L", "b")),
        (-3, "L", ("L", "a", "b")),
    ],
)
def test_added_axes_are_where_a_transform_puts_them(index, name, names):
    box = Partitioned(1, ("a", "b"))
    added = box.add_axis(index, {PARTITION_NAME: name})
    assert added.names == names
    if index <= 2:
        assert added.remove_axis(index, {PARTITION_NAME: name}) == box


@settings(deadline=None, max_examples=30)
@given(st.integers(1, 3), st.data())
def test_names_follow_jax_vmap(ndim, data):
    axis = data.draw(st.integers(-ndim - 1, ndim))
    names = tuple("abc"[:ndim])
    sizes = {"a": 2, "b": 3, "c": 4, "new": 5}
    value = np.zeros([sizes[n] for n in names])
    shape = np.moveaxis(np.zeros((5, *value.shape)), 0, axis).shape
    added = Partitioned(value, names).add_axis(axis, {PARTITION_NAME: "new"})
    assert shape == tuple(sizes[n] for n in added.names)
    assert added.remove_axis(axis, {PARTITION_NAME: "new"}).names == names


def test_an_axis_without_a_name_is_an_error():
    box = Partitioned(1, ("a",))
    for change in (box.add_axis, box.remove_axis):
        with pytest.raises(errors.PartitioningUnspecifiedError, match=r"got: Partitioned with names \('a',\)"):
            change(0, {})


def test_an_axis_that_is_not_there_is_an_error():
    box = Partitioned(1, ("a", None))
    with pytest.raises(errors.ShardingRuleError, match=r"Axis 0 .*\('a', None\) is not 'L'.\n.*\n  got: 'a'"):
        box.remove_axis(0, {PARTITION_NAME: "L"})
    assert box.remove_axis(1, {PARTITION_NAME: None}).names == ("a",)
    for change, index in ((box.remove_axis, 2), (box.remove_axis, -3), (box.add_axis, -4)):
        with pytest.raises(errors.ItemNotFoundError, match=f"Axis {index} is out of range"):
            change(index, {PARTITION_NAME: "L"})


def test_functions_on_trees_reach_all_boxes_and_leave_the_rest():
    tree = {"w": Partitioned(1, ("a",)), "t": [Tagged(2)], "b": 3, "n": None}
    added = meta.add_axis(tree, 0, {PARTITION_NAME: "L"})
    assert added["w"].names == ("L", "a")
    assert added["t"][0].axes == 1
    assert meta.remove_axis(added, 0, {PARTITION_NAME: "L"}) == tree
    assert meta.unbox(tree) == {"w": 1, "t": [2], "b": 3, "n": None}
    changed = meta.replace_boxed(tree, {"w": 10, "t": [20], "b": 30, "n": None})
    assert changed == {"w": Partitioned(10, ("a",)), "t": [Tagged(20)], "b": 30, "n": None}
    assert meta.map_axis_meta(type, tree) == {"w": Partitioned, "t": [Tagged], "b": 3, "n": None}
    assert [meta.is_axis_metadata(x) for x in (tree["w"], Tagged(1), 3, None)] == [True, True, False, False]


def test_boxes_in_boxes():
    inner = Partitioned(1, ("a",))
    box = Tagged(inner)
    assert box.unbox() == inner
    assert meta.unbox(box) == 1
    assert meta.replace_boxed(box, 5) == Tagged(Partitioned(5, ("a",)))
    outer = Partitioned(Tagged(1), ("a",))
    assert meta.replace_boxed(outer, 5) == Partitioned(Tagged(5), ("a",))


def test_boxes_are_pytrees_and_state_dictionaries_of_their_value():
    box = Partitioned(1.0, ("a",))
    assert jax.tree.map(lambda x: x + 1, box) == Partitioned(2.0, ("a",))
    assert serialization.to_state_dict({"w": box}) == {"w": {"value": 1.0}}
    assert serialization.from_state_dict({"w": box}, {"w": {"value": 3.0}}) == {"w": Partitioned(3.0, ("a",))}


def test_specs_and_shardings_of_trees(mesh):
    shape = jax.ShapeDtypeStruct((2,), jnp.float32)
    tree = {"w": Partitioned(shape, ("data",)), "b": shape, "i": 3, "n": None, "t": Tagged(shape)}
    assert meta.get_partition_spec(tree) == {"w": P("data"), "b": P(), "i": None, "n": None, "t": P()}
    whole = NamedSharding(mesh, P())
    assert meta.get_sharding(tree, mesh) == {
        "w": NamedSharding(mesh, P("data")),
        "b": whole,
        "i": None,
        "n": None,
        "t": whole,
    }
    assert tree["w"].get_sharding(mesh).spec == P("data")


def test_initializers_with_names():
    init = meta.with_partitioning(jax.nn.initializers.ones, ("a", None))
    box = init(jax.random.key(0), (1, 2))
    assert (box.names, box.mesh, box.value.shape) == (("a", None), None, (1, 2))
    assert init.__name__ == jax.nn.initializers.ones.__name__


def test_nnx_metadata_there_and_back(mesh):
    box = Partitioned(1, ("a",), mesh)
    described = box.to_nnx_metadata()
    assert described == {"value": 1, "mesh": mesh, "out_sharding": ("a",)}
    assert Partitioned.from_nnx_metadata({**described, "other": 5}) == box


def test_the_current_mesh(mesh):
    assert meta.get_global_mesh() is None
    assert not meta.global_mesh_defined()
    with jax.set_mesh(mesh):
        assert meta.global_mesh_defined()
        assert meta.get_global_mesh().shape == {"data": 1}
        assert "sharding_constraint" in jax.jit(lambda: Partitioned(jnp.ones(2), ("data",)).unbox()).lower().as_text()


def test_unboxing_lays_out_under_a_mesh_only(mesh):
    value = jnp.ones((2, 3))
    assert Partitioned(value, ("a", "b")).unbox() is value
    assert Partitioned(value, ("data", None), mesh).unbox().sharding == NamedSharding(mesh, P("data", None))
    assert Partitioned(value, ("data", None), mesh).unbox(apply_constraint=False) is value
    with jax.set_mesh(mesh):
        assert Partitioned(value, (None, "data")).unbox().sharding.spec == P(None, "data")
        assert Partitioned({"x": value, "i": 3}, ("data",)).unbox()["i"] == 3
        with pytest.raises(
            errors.ShardingRuleError, match=r"'a' of an array of shape \(2, 3\) is mapped to 'a', which is not"
        ):
            Partitioned(value, ("a", "b")).unbox()
        with pytest.raises(errors.ShardingRuleError, match=r"shape \(2, 3\) has 3 axis names"):
            Partitioned(value, ("data", None, None)).unbox()


def test_unboxing_a_bare_array_costs_nothing():
    value = jnp.ones(2)
    assert meta.unbox(value) is value
