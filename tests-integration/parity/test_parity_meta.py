"""Axis metadata behaves as Flax's."""

import flax.core.meta as theirs
import fx_core.meta as ours
import jax
import jax.numpy as jnp
import pytest
from jax.sharding import AxisType

LIBRARIES = (ours, theirs)


@pytest.mark.parametrize(("index", "name"), [(0, "L"), (1, None), (2, "L"), (5, "L")])
def test_axes_come_and_go(index, name):
    boxes = [lib.Partitioned(1, ("a", "b")).add_axis(index, {lib.PARTITION_NAME: name}) for lib in LIBRARIES]
    assert boxes[0].names == boxes[1].names
    back = [box.remove_axis(index, {lib.PARTITION_NAME: name}) for lib, box in zip(LIBRARIES, boxes)]
    assert back[0].names == back[1].names


def described(lib):
    mesh = jax.make_mesh((1,), ("a",), axis_types=(AxisType.Auto,))
    array = jnp.ones((2,))
    tree = {"x": lib.Partitioned(array, ("a",)), "y": array, "i": 3, "n": None}
    return {
        "name": lib.PARTITION_NAME,
        "specs": lib.get_partition_spec(tree),
        "shardings": lib.get_sharding(tree, mesh),
        "unboxed": jax.tree.map(lambda x: getattr(x, "shape", x), lib.unbox(tree)),
        "boxed": lib.get_partition_spec(lib.replace_boxed(tree, {"x": array, "y": array, "i": 4, "n": None})),
        "mapped": lib.map_axis_meta(lambda box: "/".join(box.names), {"x": tree["x"], "i": 3}),
        "boxes": [lib.is_axis_metadata(x) for x in tree.values()],
        "paths": [jax.tree_util.keystr(path) for path, _ in jax.tree_util.tree_leaves_with_path(tree["x"])],
        "nnx": sorted(tree["x"].to_nnx_metadata()),
        "placed": lib.Partitioned(array, ("a",), mesh).unbox().sharding,
        "mesh": (lib.global_mesh_defined(), lib.get_global_mesh()),
        "initializer": lib.with_partitioning(lambda key, shape: jnp.ones(shape), ("a", "b"))(0, (1, 2)).names,
    }


def test_everything_else():
    assert described(ours) == described(theirs)


def test_under_a_mesh():
    mesh = jax.make_mesh((1,), ("a",), axis_types=(AxisType.Auto,))
    with jax.set_mesh(mesh):
        texts = [
            jax.jit(lambda lib=lib: lib.Partitioned(jnp.ones((2,)), ("a",)).unbox()).lower().as_text()
            for lib in LIBRARIES
        ]
        assert [lib.global_mesh_defined() for lib in LIBRARIES] == [True, True]
        assert ours.get_global_mesh() == theirs.get_global_mesh()
    assert texts[0] == texts[1]
