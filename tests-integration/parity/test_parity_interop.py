"""Flax and fx in one process, after `fx_flax.interop`."""

import sys

import flax
import flax.linen as flax_nn
import fx_ckpt
import fx_core
import fx_flax
import fx_linen as nn
import fx_nnx as nnx
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx as flax_nnx
from flax.training import train_state as flax_train_state
from fx_core import serialization, struct
from fx_train import TrainState


@pytest.fixture(autouse=True, scope="module")
def together():
    fx_flax.interop()
    fx_flax.interop()


def train_state(kind):
    params = {"kernel": jnp.arange(4.0).reshape(2, 2)}
    return kind.create(apply_fn=None, params=params, tx=optax.adam(0.1))


@pytest.mark.parametrize("kind", [TrainState, flax_train_state.TrainState])
def test_train_states_are_written_and_read_by_both_to_the_byte(kind):
    state = train_state(kind).apply_gradients(grads={"kernel": jnp.ones((2, 2))})
    data = flax.serialization.to_bytes(state)
    assert data == fx_ckpt.to_bytes(state)
    for read in (flax.serialization.from_bytes, fx_ckpt.from_bytes):
        again = read(train_state(kind), data)
        assert type(again) is kind
        assert int(again.step) == 1
        np.testing.assert_array_equal(again.params["kernel"], state.params["kernel"])


def test_types_that_are_defined_later_are_known_to_both():
    @struct.dataclass
    class Mine:
        a: object

    @flax.struct.dataclass
    class Its:
        a: object

    tree = Mine(Its(fx_core.freeze({"b": flax.core.freeze({"c": 1})})))
    expected = {"a": {"a": {"b": {"c": 1}}}}
    for both in (serialization, flax.serialization):
        assert both.to_state_dict(tree) == expected
        again = both.from_state_dict(tree, {"a": {"a": {"b": {"c": 2}}}})
        assert (type(again), type(again.a), type(again.a.a)) == (Mine, Its, fx_core.FrozenDict)
        assert again.a.a["b"] == flax.core.freeze({"c": 2})


def test_states_and_variables_of_nnx_are_taken_apart_by_flax():
    state = nnx.state(nnx.Sequential(nnx.Linear(2, 3, rngs=nnx.Rngs(0)), nnx.Linear(3, 1, rngs=nnx.Rngs(1))))
    data = flax.serialization.to_bytes(state)
    assert flax.serialization.msgpack_restore(data)["layers"]["0"].keys() == {"bias", "kernel"}
    zeros = jax.tree.map(jnp.zeros_like, state)
    again = flax.serialization.from_bytes(zeros, data)
    assert isinstance(again, nnx.State)
    jax.tree.map(np.testing.assert_array_equal, again, state)
    assert isinstance(again["layers"][1]["kernel"], nnx.Param)
    variable = flax.serialization.from_state_dict(nnx.Param(jnp.zeros(2), note="kept"), jnp.ones(2))
    assert isinstance(variable, nnx.Param)
    assert variable.get_metadata()["note"] == "kept"


def test_boxes_of_flax_are_boxes_in_fx():
    x, ones = jnp.ones((1, 2)), jax.nn.initializers.ones
    init = flax_nn.with_partitioning(ones, ("a", "b"))
    variables = flax_nn.Dense(3, kernel_init=init).init(jax.random.key(0), x)
    np.testing.assert_array_equal(nn.Dense(3).apply(variables, x), jnp.full((1, 3), 2.0))
    assert nn.get_partition_spec(variables)["params"]["kernel"] == jax.sharding.PartitionSpec("a", "b")
    boxed = fx_flax.from_flax(variables)["params"]["kernel"]
    assert (type(boxed), boxed.names) == (nn.Partitioned, ("a", "b"))
    logical = flax_nn.LogicallyPartitioned(jnp.ones(2), ("x",), rules=(("x", "a"),))
    again = fx_flax.from_flax(logical)
    assert (type(again), again.names, again.rules) == (nn.LogicallyPartitioned, ("x",), (("x", "a"),))


def test_states_of_flax_are_turned_into_those_of_fx():
    class Special(flax_nnx.Param):
        pass

    layer = flax_nnx.Linear(2, 3, kernel_metadata={"note": "kept"}, rngs=flax_nnx.Rngs(0))
    layer.more = Special(jnp.ones(1))
    state = fx_flax.from_flax((flax_nnx.state(layer), flax.core.freeze({"a": [1]}), "text"))
    assert isinstance(state[0], nnx.State)
    assert isinstance(state[1], fx_core.FrozenDict)
    assert state[2] == "text"
    assert type(state[0]["kernel"]) is nnx.Param
    assert state[0]["kernel"].get_metadata()["note"] == "kept"
    assert type(state[0]["more"]) is nnx.variable_type_from_name("Special")
    assert isinstance(state[0]["more"], nnx.Param)
    mine = nnx.Linear(2, 3, rngs=nnx.Rngs(1))
    nnx.update(mine, nnx.filter_state(state[0], lambda path, _: path != ("more",)))
    x = jnp.ones((1, 2))
    np.testing.assert_array_equal(mine(x), layer(x))


def test_it_needs_flax_itself(monkeypatch):
    from fx_flax.finder import FlaxFinder

    maker = FlaxFinder()
    placed = maker.create_module(maker.find_spec("flax", None))
    monkeypatch.setitem(sys.modules, "flax", placed)
    with pytest.raises(fx_flax.FlaxImportedError, match="in the place of Flax"):
        fx_flax.interop()
    monkeypatch.setitem(sys.modules, "flax", None)
    with pytest.raises(fx_flax.FlaxImportedError, match="not installed"):
        fx_flax.interop()
