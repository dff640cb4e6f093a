import fx_nnx as nnx
import jax
import jax.numpy as jnp
import pytest
from fx_nnx.errors import NnxError, TraceLevelError


class Model(nnx.Module):
    def __init__(self):
        self.weight = nnx.Param(jnp.ones(2))
        self.drop = nnx.Dropout(0.5, rngs=nnx.Rngs(0))
        self.table = jnp.zeros(1)
        self.width = 3
        self.extra = nnx.data({"pair": (nnx.Param(jnp.ones(1)), 5)})
        self.tied = self.weight


def test_map_keeps_sharing_and_leaves_the_model_alone():
    model = Model()
    seen = []

    def f(path, x):
        seen.append(path)
        return x.replace(x + 1) if isinstance(x, nnx.Param) else x

    made = nnx.map(f, model)
    assert seen.count(("tied",)) + seen.count(("weight",)) == 1
    assert made.tied is made.weight
    assert (float(made.weight[0]), float(model.weight[0])) == (2, 1)
    assert float(made.extra["pair"][0][0]) == 2
    assert made.drop.rngs.key is model.drop.rngs.key  # `f` gave it back
    values = nnx.map(lambda path, x: jnp.zeros(3), model)
    assert isinstance(values.weight, nnx.Param)
    assert values.table.shape == (3,)
    assert type(nnx.map(lambda path, x: nnx.BatchStat(1.0), model).weight) is nnx.BatchStat
    assert nnx.map(lambda path, x: x, {"a": nnx.Param(1)})["a"].get_value() == 1


def test_recursive_map_goes_inside_out():
    model = Model()
    order = []

    def f(path, x):
        order.append(path)
        if isinstance(x, int) and not isinstance(x, bool):
            return x + 1
        return x

    made = nnx.recursive_map(f, model)
    assert order[-1] == ()
    assert order.index(("drop", "rate")) < order.index(("drop",))
    assert (made.width, model.width, made.extra["pair"][1]) == (4, 3, 6)
    assert made.tied is made.weight is model.weight
    assert made.drop is not model.drop
    assert nnx.graphdef(nnx.recursive_map(lambda p, x: x, model)) == nnx.graphdef(model)


def test_recursive_map_keeps_cycles():
    model = nnx.Dict(a=nnx.Dict(n=1))
    model.a.up = model
    made = nnx.recursive_map(lambda path, x: x + 1 if isinstance(x, int) else x, model)
    assert made.a.up is made
    assert made is not model
    with pytest.raises(NnxError, match=r"Dict is a part of itself(.|\n)*where: /(.|\n)*type int"):
        nnx.recursive_map(lambda path, x: 3 if path == () else x, model)


def test_views_share_variables():
    model = Model()
    made = nnx.view(model, deterministic=True)
    assert (made.drop.deterministic, model.drop.deterministic) == (True, False)
    assert made.weight is model.weight
    assert not nnx.view(model, only=nnx.Linear, raise_if_not_found=False, deterministic=True).drop.deterministic
    with pytest.raises(NnxError, match=r"zork(.|\n)*expected: one of deterministic"):
        nnx.view(model, zork=1)
    with pytest.raises(NnxError, match="no module has a method set_view"):
        nnx.view(nnx.Dict(), zork=1)


def test_views_of_own_layers():
    class Mine(nnx.Module):
        def set_view(self, level: int = 0, **rest):
            """Set the view.

            Args:
              level: how much
                of it.
            """
            self.got = (level, tuple(sorted(rest)))

    assert nnx.view(Mine(), level=2, more=1).got == (2, ("more",))
    assert nnx.view_info(nnx.Sequential(Mine(), nnx.Dropout(0.5)), only=nnx.Not(nnx.Dropout)) == (
        f"{Mine.__qualname__}:\n  level: int = 0\n    how much\n    of it."
    )
    assert nnx.view_info(nnx.Dict()) == ""


def test_with_attributes():
    model = Model()
    made = nnx.with_attributes(model, deterministic=True, width=7)
    assert (made.drop.deterministic, made.width, model.width) == (True, 7, 3)
    assert made.weight is model.weight
    assert nnx.with_attributes(model, only=nnx.Dropout, raise_if_not_found=False, width=1).width == 3
    with pytest.raises(NnxError, match="zork"):
        nnx.with_attributes(model, zork=1)


def test_set_metadata_of_many():
    model = Model()
    nnx.set_metadata(model, level=1)
    nnx.set_metadata(model, only=nnx.RngKey, level=2)
    assert (model.weight.level, model.drop.rngs.key.level, model.drop.rngs.count.level) == (1, 2, 1)
    with pytest.raises(TraceLevelError, match="where: Model/drop/rngs/count"):
        jax.jit(lambda: nnx.set_metadata(model, level=3))()
