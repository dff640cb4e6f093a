"""fx-linen with fx-train: TrainState around a module, counted by a Run."""

import fx_linen as nn
import jax
import jax.numpy as jnp
import optax
from fx_train import Log, Run, TrainState


def test_train_state_and_run_drive_a_linen_module(tmp_path):
    model = nn.Dense(1)
    x = jax.random.normal(jax.random.key(1), (8, 3))
    target = x.sum(axis=1, keepdims=True)
    params = model.init(jax.random.key(0), x)["params"]
    state = TrainState.create(apply_fn=model.apply, params=params, tx=optax.sgd(0.1))

    @jax.jit
    def step(state):
        def loss(params):
            return jnp.mean((state.apply_fn({"params": params}, x) - target) ** 2)

        value, grads = jax.value_and_grad(loss)(state.params)
        return state.apply_gradients(grads=grads), {"loss": value}

    losses = []
    with Run(tmp_path, total_steps=30, callbacks=[Log("jsonl", every=10)]) as run:
        for _ in run.steps([None] * 30):
            state, metrics = step(state)
            losses.append(float(metrics["loss"]))
            run.record(state, metrics)
    assert int(state.step) == run.step == 30
    assert losses[-1] < 0.1 * losses[0]
    assert len((tmp_path / "metrics.jsonl").read_text().splitlines()) == 3
