"""What TrainState, the loop kit and prefetching add to a training step.

Steps of ours and by hand alternate one by one, and lower quartiles are compared: what other programs do to the machine
meets both, and comes in bursts.
"""

import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
import optax
from fx_train import Log, NanGuard, Run, StepState, StopOnSignal, Throughput, TrainState, make_train_step
from fx_train.data import Prefetch

from benchmarks.measure import Ratio

OPTIMIZER = optax.adam(1e-3)
WIDTHS = {64: 1500, 256: 300, 480: 150}
"""Width of the layers, and how many steps are measured."""


def _loss(params, x):
    for layer in params:
        x = jnp.tanh(x @ layer["w"] + layer["b"][None])
    return jnp.mean(x**2)


def _params(width: int) -> list[dict[str, jax.Array]]:
    return [{"w": jnp.eye(width), "b": jnp.zeros(width)} for _ in range(4)]


def _callbacks():
    return [NanGuard(every=100), Throughput(every=100), Log("jsonl", every=100), StopOnSignal()]


@jax.jit
def _raw_step(carry, x):
    step, params, opt_state = carry
    loss, grads = jax.value_and_grad(_loss)(params, x)
    updates, opt_state = OPTIMIZER.update(grads, opt_state, params)
    return (step + 1, optax.apply_updates(params, updates), opt_state), loss


@jax.jit
def _state_step(state, x):
    loss, grads = jax.value_and_grad(_loss)(state.params, x)
    return state.apply_gradients(grads=grads), loss


_MADE_STEP = make_train_step(_loss, donate=False)


def _alternating(steps: list[Callable[[], Any]], count: int) -> list[float]:
    """Lower quartiles of the seconds of functions that are called in turns."""
    taken: list[list[float]] = [[] for _ in steps]
    for step in steps:
        step()
    for _ in range(count):
        for step, times in zip(steps, taken):
            started = time.perf_counter()
            step()
            times.append(time.perf_counter() - started)
    return [statistics.quantiles(times, n=4)[0] for times in taken]


def _repeated(step: Callable[[Any, Any], Any], state: Any, x: jax.Array) -> Callable[[], Any]:
    kept = [state]

    def once() -> Any:
        kept[0], loss = step(kept[0], x)
        return jax.block_until_ready(loss)

    return once


def _states(width: int, count: int) -> Iterator[Ratio]:
    x, params = jnp.ones((64, width)), _params(width)
    state = TrainState.create(apply_fn=_loss, params=params, tx=OPTIMIZER).replace(step=jnp.int32(0))
    steps = [
        _repeated(_raw_step, (jnp.int32(0), params, OPTIMIZER.init(params)), x),
        _repeated(_state_step, state, x),
        _repeated(_MADE_STEP, StepState.create(params=params, tx=OPTIMIZER), x),
    ]
    raw, with_state, made = _alternating(steps, count)
    yield Ratio(f"four layers of {width}, TrainState", with_state, raw, aim=1.05)
    yield Ratio(f"four layers of {width}, make_train_step", made, raw, aim=1.05)


def _empty_steps() -> Iterator[Ratio]:
    count, metrics, taken = 20_000, {"loss": 1.0}, []
    for _ in range(5):
        with Run(tempfile.mkdtemp(), total_steps=count, callbacks=_callbacks()) as run:
            started = time.perf_counter()
            for _ in run.steps(range(count)):
                run.record(None, metrics)
            taken.append((time.perf_counter() - started) / count)
    added = statistics.median(taken)
    yield Ratio("a step that does nothing, in a Run", added, added, note=f"{added * 1e6:.1f} µs in all, aim ≤ 50")


def _long_steps() -> Iterator[Ratio]:
    width, count = 640, 600
    x, params = jnp.ones((64, width)), _params(width)
    batches = iter(lambda: x, None)
    bare, kept = [StepState.create(params=params, tx=OPTIMIZER) for _ in range(2)]
    plain, own, bodies = [], [], []

    def alone() -> None:
        nonlocal bare
        started = time.perf_counter()
        batch = next(batches)
        plain.append(time.perf_counter() - started)
        bare, metrics = _MADE_STEP(bare, batch)
        jax.block_until_ready(metrics)

    # What is compiled and loaded once is no part of a step.
    with Run(tempfile.mkdtemp(), total_steps=2, callbacks=_callbacks()) as run:
        for _ in run.steps([x] * 2):
            run.record(*_MADE_STEP(kept, x))
    with Run(tempfile.mkdtemp(), total_steps=2 * count, callbacks=_callbacks()) as run:
        steps = run.steps(batches)

        def in_run() -> None:
            nonlocal kept
            times = [time.perf_counter()]
            _, batch = next(steps)
            times.append(time.perf_counter())
            kept, metrics = _MADE_STEP(kept, batch)
            jax.block_until_ready(metrics)
            times.append(time.perf_counter())
            run.record(kept, metrics)
            times.append(time.perf_counter())
            own.append(times[3] - times[2] + times[1] - times[0])
            bodies.append(times[2] - times[1])

        without, with_run = _alternating([alone, in_run], count)
    yield Ratio(f"steps of {without * 1e3:.1f} ms in a Run", with_run, without, aim=1.01)
    # The device looks for broken numbers while the next step begins, which may hold that one up.
    looks = sum(bodies[step] - statistics.median(bodies) for step in range(100, count + 1, 100)) / count
    added = statistics.mean(own[1:]) - statistics.mean(plain[1:]) + looks
    note = f"{added * 1e6:.0f} µs, {100 * added / without:.1f} %, aim ≤ 1 %"
    yield Ratio("what a Run adds to such a step, in the mean", without + added, without, note=note)


@jax.jit
def _busy(x):
    return jax.lax.fori_loop(0, 3, lambda _, y: jnp.tanh(y @ x), x)


def _loading() -> Iterator[Ratio]:
    x = jnp.eye(512)
    jax.block_until_ready(_busy(x))
    (bare,) = _alternating([lambda: jax.block_until_ready(_busy(x))], 150)

    def load():
        while True:
            time.sleep(0.8 * bare)
            yield x

    with Prefetch(load(), 4) as ahead:
        loader = load()
        steps = [
            lambda: jax.block_until_ready(_busy(next(ahead))),
            lambda: jax.block_until_ready(_busy(next(loader))),
        ]
        # One after another: the thread would work ahead during the other's step.
        hidden, waited = (_alternating([step], 100)[0] for step in steps)
    yield Ratio(
        f"a loader of {0.8 * bare * 1e3:.1f} ms beside steps of {bare * 1e3:.1f}, prefetched", hidden, bare, aim=1.1
    )
    yield Ratio("the same loader, not prefetched", waited, bare)


def cases() -> Iterator[Ratio]:
    for width, count in WIDTHS.items():
        yield from _states(width, count)
    yield from _empty_steps()
    yield from _long_steps()
    yield from _loading()
