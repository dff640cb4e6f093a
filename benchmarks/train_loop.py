"""What TrainState, the loop kit and prefetching add to a training step."""

import tempfile
import time
from collections.abc import Iterator

import jax
import jax.numpy as jnp
import optax
from fx_train import Log, NanGuard, Run, StepState, StopOnSignal, Throughput, TrainState, make_train_step
from fx_train.data import Prefetch

from benchmarks.measure import Ratio, interleaved

STEPS = 200
OPTIMIZER = optax.adam(1e-3)


def _loss(params, x):
    return jnp.mean((x @ params["w"] + params["b"][None]) ** 2)


def _params():
    return {"w": jnp.eye(64), "b": jnp.zeros(64)}


def _callbacks():
    return [NanGuard(every=100), Throughput(every=100), Log("jsonl", every=100), StopOnSignal()]


@jax.jit
def _raw_step(step, params, opt_state, x):
    loss, grads = jax.value_and_grad(_loss)(params, x)
    updates, opt_state = OPTIMIZER.update(grads, opt_state, params)
    return step + 1, optax.apply_updates(params, updates), opt_state, loss


@jax.jit
def _state_step(state, x):
    loss, grads = jax.value_and_grad(_loss)(state.params, x)
    return state.apply_gradients(grads=grads), loss


_MADE_STEP = make_train_step(_loss, donate=False)


def _states(x: jax.Array) -> Iterator[Ratio]:
    def raw():
        step, params = jnp.int32(0), _params()
        opt_state = OPTIMIZER.init(params)
        for _ in range(STEPS):
            step, params, opt_state, _ = _raw_step(step, params, opt_state, x)
        return jax.block_until_ready(params)

    def with_state():
        state = TrainState.create(apply_fn=_loss, params=_params(), tx=OPTIMIZER).replace(step=jnp.int32(0))
        for _ in range(STEPS):
            state, _ = _state_step(state, x)
        return jax.block_until_ready(state.params)

    def with_made_step():
        state = StepState.create(params=_params(), tx=OPTIMIZER)
        for _ in range(STEPS):
            state, _ = _MADE_STEP(state, x)
        return jax.block_until_ready(state.params)

    yield interleaved(f"{STEPS} jitted steps with TrainState", with_state, raw, aim=1.05)
    yield interleaved(f"{STEPS} steps of make_train_step", with_made_step, raw, aim=1.05)


def _record() -> Iterator[Ratio]:
    count, metrics = 20_000, {"loss": 1.0}

    def bare():
        for _ in range(count):
            pass

    def with_run():
        with Run(tempfile.mkdtemp(), total_steps=count, callbacks=_callbacks()) as run:
            for _ in run.steps(range(count)):
                run.record(None, metrics)

    row = interleaved("a step that does nothing, in a Run with four callbacks", with_run, bare, rounds=5)
    added = (row.ours - row.raw) / count
    yield Ratio(row.case, row.ours / count, row.raw / count, note=f"{added * 1e6:.1f} µs added, aim ≤ 50")


@jax.jit
def _busy(x):
    return jax.lax.fori_loop(0, 3, lambda _, y: jnp.tanh(y @ x), x)


def _long_steps() -> Iterator[Ratio]:
    x, count = jnp.eye(448), 40
    jax.block_until_ready(_busy(x))
    started = time.perf_counter()
    for _ in range(20):
        jax.block_until_ready(_busy(x))
    step = (time.perf_counter() - started) / 20

    def bare():
        for _ in range(count):
            y = jax.block_until_ready(_busy(x))
        return y

    def with_run():
        with Run(tempfile.mkdtemp(), total_steps=count, callbacks=_callbacks()) as run:
            for _ in run.steps(range(count)):
                y = jax.block_until_ready(_busy(x))
                run.record(y, {"loss": 1.0})

    def load():
        for _ in range(count):
            time.sleep(0.8 * step)
            yield x

    def with_prefetch():
        with Prefetch(load(), 4) as ahead:
            for batch in ahead:
                y = jax.block_until_ready(_busy(batch))
        return y

    yield interleaved(f"steps of {step * 1e3:.1f} ms in a Run with four callbacks", with_run, bare, rounds=7, aim=1.01)
    yield interleaved("the same steps, a loader that waits 80 % of one", with_prefetch, bare, rounds=7, aim=1.1)


def cases() -> Iterator[Ratio]:
    yield from _states(jnp.ones((64, 64)))
    yield from _record()
    yield from _long_steps()
