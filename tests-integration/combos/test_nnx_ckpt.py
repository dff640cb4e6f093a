"""fx-nnx with fx-ckpt and its Orbax extra: a model and its state come back to the bit, whole and in part."""

import fx_ckpt
import fx_nnx as nnx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from fx_ckpt.errors import RestoreMismatchError
from fx_core.scope import DenyList


def make(seed):
    return nnx.Sequential(nnx.Linear(2, 3, rngs=nnx.Rngs(seed)), nnx.BatchNorm(3, rngs=nnx.Rngs(1)))


def same(one, other):
    assert jax.tree.structure(one) == jax.tree.structure(other)
    for x, y in zip(jax.tree.leaves(one), jax.tree.leaves(other)):
        assert x.dtype == y.dtype
        np.testing.assert_array_equal(x, y)


@pytest.mark.parametrize("backend", ["orbax", "msgpack", "safetensors"])
def test_model_state_round_trips(tmp_path, backend):
    model = make(0)
    graphdef, state = nnx.split(model)
    fx_ckpt.save(tmp_path / "model", state, backend=backend)
    restored = fx_ckpt.restore(tmp_path / "model", target=state)
    same(restored, state)
    x = np.ones((4, 2), np.float32)
    np.testing.assert_array_equal(nnx.merge(graphdef, restored)(x), model(x))


def test_a_model_is_a_tree_of_its_own(tmp_path):
    model = make(0)
    path = fx_ckpt.save(tmp_path / "model", model)
    restored = fx_ckpt.restore(path, make(1))
    assert isinstance(restored, nnx.Sequential)
    same(nnx.state(restored), nnx.state(model))


def test_variables_of_a_type_are_restored_and_others_stay(tmp_path):
    path = fx_ckpt.save(tmp_path / "model", nnx.state(make(0)))
    target = nnx.state(make(1))
    trained = fx_ckpt.restore(path, target, only=nnx.Param)
    same(nnx.filter_state(trained, nnx.Param), nnx.state(make(0), nnx.Param))
    rest = fx_ckpt.restore(path, jax.tree.map(lambda x: x + 7, target), only=DenyList(nnx.BatchStat))
    assert all(bool(jnp.all(x >= 7)) for x in jax.tree.leaves(nnx.filter_state(rest, nnx.BatchStat)))


class Tied(nnx.Module):
    def __init__(self, fill, tied=True):
        self.embed = nnx.Param(jnp.full((3, 2), fill))
        self.head = self.embed if tied else nnx.Param(jnp.full((3, 2), fill + 1))
        self.layers = nnx.List([nnx.Linear(2, 2, rngs=nnx.Rngs(int(fill)))])
        self.layers.append(self.layers[0] if tied else nnx.Linear(2, 2, rngs=nnx.Rngs(7)))


@pytest.mark.parametrize("backend", ["orbax", "msgpack", "safetensors"])
def test_what_a_model_shares_is_shared_again(tmp_path, backend):
    fx_ckpt.save(tmp_path / "model", Tied(1.0), backend=backend)
    model = fx_ckpt.restore(tmp_path / "model", target=Tied(5.0))
    assert model.head is model.embed
    assert model.layers[1] is model.layers[0]
    assert float(model.embed[0, 0]) == 1
    model.embed[...] = jnp.zeros((3, 2))
    assert float(model.head[0, 0]) == 0
    same(nnx.state(fx_ckpt.restore(tmp_path / "model", target=Tied(5.0))), nnx.state(Tied(1.0)))


def test_models_beside_each_other_share_what_they_did(tmp_path):
    def pair(fill):
        first, second = Tied(fill), Tied(fill + 1)
        second.embed = second.head = first.embed
        return {"first": first, "second": second, "optimizer": nnx.Dict(model=first)}

    path = fx_ckpt.save(tmp_path / "models", pair(1.0))
    restored = fx_ckpt.restore(path, target=pair(5.0))
    assert restored["first"].embed is restored["second"].head
    assert restored["optimizer"].model is restored["first"]
    assert float(restored["second"].embed[0, 0]) == 1


def test_one_model_given_twice_is_two_targets(tmp_path):
    model, target = Tied(1.0), Tied(5.0)
    path = fx_ckpt.save(tmp_path / "models", {"params": model, "averages": Tied(2.0)})
    restored = fx_ckpt.restore(path, target={"params": target, "averages": target})
    assert [float(restored[name].head[0, 0]) for name in ("params", "averages")] == [1, 2]
    state = nnx.state(target)
    path = fx_ckpt.save(tmp_path / "states", {"params": nnx.state(model), "averages": nnx.state(Tied(2.0))})
    restored = fx_ckpt.restore(path, target={"params": state, "averages": state})
    assert [float(restored[name]["embed"][0, 0]) for name in ("params", "averages")] == [1, 2]


def test_values_that_differ_do_not_fit_one_variable(tmp_path):
    path = fx_ckpt.save(tmp_path / "model", Tied(1.0, tied=False))
    with pytest.raises(RestoreMismatchError, match=r"head[^:]*: another value than .*embed") as caught:
        fx_ckpt.restore(path, target=Tied(5.0))
    assert any("layers" in line for line in caught.value.different)
    restored = fx_ckpt.restore(path, target=Tied(5.0, tied=False))
    assert restored.head is not restored.embed


def test_ties_are_restored_as_a_whole(tmp_path):
    path = fx_ckpt.save(tmp_path / "model", Tied(1.0))
    with pytest.raises(RestoreMismatchError, match="restore both or none"):
        fx_ckpt.restore(path, target=Tied(5.0), only=lambda path, leaf: "head" not in path)
