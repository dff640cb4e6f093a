"""Names of axes in the metadata of variables, inside of transforms and outside."""

from typing import ClassVar

import fx_nnx as nnx
import jax
import jax.numpy as jnp
import pytest
from fx_core.errors import (
    ItemNotFoundError,
    PartitioningUnspecifiedError,
    ShardingRuleError,
)
from fx_nnx import sharding
from jax.sharding import NamedSharding, PartitionSpec

LAYERS = {nnx.PARTITION_NAME: "layers"}
ALL = LAYERS | {"nickname": "nick", "absent": "x", "text": "x"}


def kernel(value=None, names=("din", "dout"), **metadata):
    value = jnp.ones((2, 3)) if value is None else value
    return nnx.Param(value, out_sharding=names, eager_sharding=False, nickname=("in", "out"), text="t", **metadata)


def names_of(param):
    return param.out_sharding, param.nickname, param.text


def seen_by_vmap(model, **options):
    seen = []

    def f(model, x):
        seen.append(names_of(model.k))
        return model.k.sum() + x

    nnx.vmap(f, transform_metadata=ALL, **options)(model, jnp.ones(4))
    return seen[0]


def seen_by_scan(model, **options):
    seen = []

    def f(carry, model):
        seen.append(names_of(model.k))
        return carry + model.k.sum(), None

    nnx.scan(f, in_axes=(nnx.Carry, 0), out_axes=(nnx.Carry, 0), transform_metadata=ALL, **options)(0.0, model)
    return seen[0]


def seen_by_pmap(model, **options):
    seen = []

    def f(model, x):
        seen.append(names_of(model.k))
        return model.k.sum() + x

    nnx.pmap(f, transform_metadata=ALL, **options)(model, jnp.ones(1))
    return seen[0]


MODES = {"graph": {}, "values": {"graph_updates": False}, "tree": {"graph": False, "graph_updates": False}}


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("seen_by", [seen_by_vmap, seen_by_scan, seen_by_pmap])
def test_names_are_gone_inside_and_back_outside(seen_by, mode):
    count = 1 if seen_by is seen_by_pmap else 4
    outside = ("layers", "din", "dout"), ("nick", "in", "out"), "t"
    model = nnx.Dict(k=kernel(jnp.ones((count, 2, 3)), outside[0]))
    model.k.set_metadata(nickname=outside[1])
    assert seen_by(model, **MODES[mode]) == (("din", "dout"), ("in", "out"), "t")
    assert names_of(model.k) == outside


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize(
    ("axis", "names"),
    [
        (0, ("layers", "din", "dout")),
        (1, ("din", "layers", "dout")),
        (2, ("din", "dout", "layers")),
        (-1, ("din", "dout", "layers")),
        (-2, ("din", "layers", "dout")),
    ],
)
def test_new_variables_get_names(axis, names, mode):
    def make(_):
        return nnx.Dict(k=kernel())

    model = nnx.vmap(make, out_axes=axis, transform_metadata=ALL, **MODES[mode])(jnp.ones(4))
    assert model.k.shape[names.index("layers")] == 4
    assert model.k.out_sharding == names
    assert model.k.nickname == tuple({"layers": "nick", "din": "in", "dout": "out"}[name] for name in names)


@pytest.mark.parametrize(("axis", "names"), [(2, ("din", None, "layers")), (-1, ("din", None, "layers"))])
def test_short_names_are_filled(axis, names):
    make = nnx.vmap(lambda _: kernel(names=("din",)), out_axes=axis, transform_metadata=LAYERS)
    made = make(jnp.ones(4))
    assert made.out_sharding == names
    nnx.vmap(lambda k: k.sum(), in_axes=axis, transform_metadata=LAYERS)(made)


def test_specs_and_shardings_take_names():
    mesh = jax.make_mesh((1,), ("din",), axis_types=(jax.sharding.AxisType.Auto,))
    spec = kernel(names=PartitionSpec("din", None))
    assert sharding.add_axis(spec, 0, {nnx.PARTITION_NAME: None}).out_sharding == (None, "din", None)
    placed = kernel(names=NamedSharding(mesh, PartitionSpec("din")))
    assert sharding.add_axis(placed, 0, {nnx.PARTITION_NAME: None}).out_sharding == NamedSharding(
        mesh, PartitionSpec(None, "din")
    )


def test_another_name_is_not_taken_away():
    model = nnx.Dict(k=kernel(jnp.ones((4, 2, 3))))
    with pytest.raises(ShardingRuleError, match="is not 'layers'"):
        seen_by_vmap(model)
    with pytest.raises(ItemNotFoundError, match="Axis 2 is out of range"):
        nnx.vmap(lambda k: k.sum(), in_axes=2, transform_metadata=LAYERS)(model.k)
    assert model.k.out_sharding == ("din", "dout")


def test_without_a_name_metadata_stays():
    model = nnx.Dict(k=kernel(jnp.ones((4, 2, 3))))
    seen = []
    nnx.vmap(lambda m: seen.append(m.k.out_sharding))(model)
    assert seen == [("din", "dout")]
    with pytest.raises(PartitioningUnspecifiedError):
        sharding.add_axis(model.k, 0, {})


class Told(nnx.Param):
    calls: ClassVar[list] = []

    def add_axis(self, axis_index, axis_name):
        self.calls.append(("add", axis_index, axis_name, self.out_sharding))

    def remove_axis(self, axis_index, axis_name):
        self.calls.append(("remove", axis_index, axis_name, self.out_sharding))


def test_methods_and_hooks_are_called_once_each_way():
    Told.calls.clear()
    hooked = []
    param = Told(jnp.ones((4, 2)), out_sharding=("layers", "d"), eager_sharding=False)
    other = kernel(jnp.ones((4, 2)), ("layers", "d"), on_remove_axis=lambda v, i, n: hooked.append((i, n)))
    f = nnx.scan(
        lambda c, m: (c + m["a"].sum() + m["b"].sum(), None),
        in_axes=(nnx.Carry, 0),
        out_axes=(nnx.Carry, 0),
        transform_metadata=LAYERS,
    )
    assert f(jnp.zeros(()), nnx.Dict(a=param, b=other))[0] == 16
    assert Told.calls == [("remove", 0, "layers", ("d",)), ("add", 0, "layers", ("layers", "d"))]
    assert hooked == [(0, "layers")]
    assert param.out_sharding == ("layers", "d")


def test_transform_metadata_alone():
    seen = []

    @nnx.vmap(in_axes=(0, None), out_axes=1)
    @nnx.transform_metadata(in_axes=(0, None), out_axes=1, partition="layers")
    def f(k, x):
        seen.append(k.out_sharding)
        return kernel()

    param = kernel(jnp.ones((4, 2, 3)), ("layers", "din", "dout"))
    assert f(param, 1.0).out_sharding == ("din", "layers", "dout")
    assert seen == [("din", "dout")]
    assert param.out_sharding == ("layers", "din", "dout")


def test_axis_names_come_and_go():
    inside = []

    def look(model):
        inside.append(model.w.sharding_names)
        model.new = nnx.Param(model.w[...], out_sharding=("x",))
        return model.w.sum()

    def make():
        return nnx.Dict(w=nnx.Param(jnp.ones((3, 2)), out_sharding=("layers", "x")))

    with nnx.use_eager_sharding(False):
        for f in (
            nnx.vmap(look, transform_metadata={"partition_name": "layers"}),
            nnx.vmap(nnx.transform_metadata(look, partition="layers")),
            nnx.scan(look, in_axes=(0,), out_axes=0, transform_metadata={"partition_name": "layers"}),
        ):
            model = make()
            f(model)
            assert inside.pop() == ("x",)
            assert model.w.sharding_names == model.new.sharding_names == ("layers", "x")
