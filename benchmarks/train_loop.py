"""What TrainState and the loop kit add to a training step."""

import tempfile
from collections.abc import Iterator

import jax
import jax.numpy as jnp
import optax
from fx_train import Run, TrainState

from benchmarks.measure import Ratio, interleaved

STEPS = 200


def _loss(params, x):
    return jnp.mean((x @ params["w"] + params["b"][None]) ** 2)


def cases() -> Iterator[Ratio]:
    optimizer = optax.adam(1e-3)
    x = jnp.ones((64, 64))

    def new_params():
        return {"w": jnp.eye(64), "b": jnp.zeros(64)}

    @jax.jit
    def state_step(state, x):
        loss, grads = jax.value_and_grad(_loss)(state.params, x)
        return state.apply_gradients(grads=grads), loss

    @jax.jit
    def raw_step(step, params, opt_state, x):
        loss, grads = jax.value_and_grad(_loss)(params, x)
        updates, opt_state = optimizer.update(grads, opt_state, params)
        return step + 1, optax.apply_updates(params, updates), opt_state, loss

    def with_state():
        state = TrainState.create(apply_fn=_loss, params=new_params(), tx=optimizer)
        for _ in range(STEPS):
            state, _ = state_step(state, x)
        return jax.block_until_ready(state.params)

    def with_run():
        state = TrainState.create(apply_fn=_loss, params=new_params(), tx=optimizer)
        with Run(tempfile.gettempdir(), total_steps=STEPS) as run:
            for _, batch in run.steps([x] * STEPS):
                state, loss = state_step(state, batch)
                run.record(state, {"loss": loss})
        return jax.block_until_ready(state.params)

    def raw():
        step, params = 0, new_params()
        opt_state = optimizer.init(params)
        for _ in range(STEPS):
            step, params, opt_state, _ = raw_step(step, params, opt_state, x)
        return jax.block_until_ready(params)

    yield interleaved(f"{STEPS} jitted steps with TrainState", with_state, raw, aim=1.05)
    yield interleaved(f"{STEPS} jitted steps with TrainState and Run", with_run, raw)
