"""fx-train with fx-export: the state of a run is exported as the network that it trains."""

import fx_export
import fx_linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from fx_train import TrainState


class Network(nn.Module):
    norm: bool

    @nn.compact
    def __call__(self, x, train=False):
        x = nn.Dense(2)(x)
        return nn.BatchNorm(use_running_average=not train, momentum=0.5)(x) if self.norm else x


class StateWithNorms(TrainState):
    batch_stats: dict


def trained(norm, x):
    """A state after one step, whose statistics are no longer the first ones."""
    model = Network(norm)
    variables = model.init(jax.random.key(0), x)
    kind = StateWithNorms if norm else TrainState
    state = kind.create(apply_fn=model.apply, tx=optax.sgd(0.1), **variables)
    rest = {name: value for name, value in variables.items() if name != "params"}

    def loss(params):
        out, changed = state.apply_fn({"params": params, **rest}, x, train=True, mutable=["batch_stats"])
        return jnp.mean(out**2), changed

    grads, changed = jax.grad(loss, has_aux=True)(state.params)
    return state.apply_gradients(grads=grads, **changed), rest


@pytest.mark.parametrize("norm", [False, True], ids=["without batch_stats", "with batch_stats"])
def test_a_train_state_exports_what_it_trained(norm, tmp_path):
    x = jnp.linspace(-1, 3, 15).reshape(5, 3)
    state, first = trained(norm, x)
    loaded = fx_export.load(
        fx_export.export(tmp_path / "net", state, None, ["float32[batch, 3]"], call={"train": False})
    )
    collections = {"batch_stats": state.batch_stats} if norm else {}
    expected = state.apply_fn({"params": state.params, **collections}, x, train=False)
    np.testing.assert_allclose(loaded(x), expected, rtol=1e-5, atol=1e-6)
    assert set(loaded.program.weight_names) >= {"params/Dense_0/kernel", "params/Dense_0/bias"}
    assert any(name.startswith("batch_stats/") for name in loaded.program.weight_names) == norm
    if norm:
        before = state.apply_fn({"params": state.params, **first}, x, train=False)
        assert np.abs(np.asarray(loaded(x)) - before).max() > 1e-2


def test_given_variables_take_the_place_of_those_of_the_state(tmp_path):
    x = jnp.ones((1, 3))
    state, _ = trained(False, x)
    other = {"params": jax.tree.map(jnp.zeros_like, state.params)}
    assert np.all(np.asarray(fx_export.load(fx_export.export(tmp_path / "net", state, other, [x]))(x)) == 0)
