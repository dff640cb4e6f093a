"""fx-nnx with fx-train: TrainState holds the parameters of a model that was split."""

import fx_nnx as nnx
import jax
import jax.numpy as jnp
import optax
from fx_train import Run, TrainState


def test_train_state_holds_nnx_state(tmp_path):
    model = nnx.Linear(3, 1, rngs=nnx.Rngs(0))
    graphdef, params = nnx.split(model)
    x = jax.random.normal(jax.random.key(1), (8, 3))
    target = x.sum(axis=1, keepdims=True)
    state = TrainState.create(
        apply_fn=lambda params, x: nnx.merge(graphdef, params)(x), params=params, tx=optax.sgd(0.1)
    )

    @jax.jit
    def step(state):
        loss, grads = jax.value_and_grad(lambda p: jnp.mean((state.apply_fn(p, x) - target) ** 2))(state.params)
        return state.apply_gradients(grads=grads), {"loss": loss}

    losses = []
    with Run(tmp_path, total_steps=30) as run:
        for _ in run.steps([None] * 30):
            state, metrics = step(state)
            losses.append(float(metrics["loss"]))
            run.record(state, metrics)
    nnx.update(model, state.params)
    assert losses[-1] < 0.1 * losses[0]
    assert float(jnp.mean((model(x) - target) ** 2)) < losses[0]
