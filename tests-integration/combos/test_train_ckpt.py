"""fx-train with fx-ckpt: the same seed and data give the same bits, also when a run is resumed from files."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from fx_ckpt import CheckpointManager
from fx_train import Checkpoints, Evaluate, NanGuard, Run, StepState, StopEarly, make_train_step
from fx_train.data import Batches
from fx_train.dynamic_scale import DynamicScale

X = np.random.default_rng(0).normal(size=(48, 5)).astype(np.float32)
DATA = {"x": X, "y": np.sin(X.sum(axis=1))}
TX = optax.inject_hyperparams(optax.adamw)(learning_rate=optax.linear_schedule(0.1, 0.01, 10))
STEPS = 9


def loss_fn(params, batch, key, variables):
    kept = batch["x"] * jax.random.bernoulli(key, 0.8, batch["x"].shape)
    loss = jnp.mean((jnp.tanh(kept @ params["w"]) @ params["v"] - batch["y"]) ** 2)
    seen = variables["stats"]["mean"] * 0.9 + 0.1 * kept.mean(axis=0)
    return loss, {}, {"stats": {"mean": seen}}


TRAIN_STEP = make_train_step(loss_fn, accumulate=2, weight="examples", clip=1.0, ema=0.9)


def initial():
    one, two = jax.random.split(jax.random.key(0))
    return StepState.create(
        params={"w": jax.random.normal(one, (5, 4)), "v": jax.random.normal(two, (4,))},
        variables={"stats": {"mean": jnp.zeros(5)}},
        key=jax.random.key(1),
        tx=TX,
        ema=True,
        dynamic_scale=DynamicScale(scale=2.0**6, growth_interval=3),
    )


def train(directory, manager=None, cut_off=None, train_step=TRAIN_STEP, place=lambda batch: batch):
    stop = StopEarly("eval/size", patience=100)
    callbacks = [Evaluate(lambda state: {"size": jnp.abs(state.ema["w"]).max()}, every=2), stop, NanGuard(every=3)]
    if manager is not None:
        callbacks.append(Checkpoints(manager, every=4))
    with Run(directory, total_steps=STEPS, callbacks=callbacks) as run:
        state = run.resume(initial())
        first = run.step
        for step, batch in run.steps(Batches(DATA, 16, seed=3)):
            if step == cut_off:
                raise KeyboardInterrupt
            state, metrics = train_step(state, place(batch))
            run.record(state, metrics)
    return state, stop.get_state(), first


def assert_same_bits(one, other):
    for a, b in zip(jax.tree.leaves(one), jax.tree.leaves(other), strict=True):
        if jnp.issubdtype(a.dtype, jax.dtypes.prng_key):
            a, b = jax.random.key_data(a), jax.random.key_data(b)
        np.testing.assert_array_equal(a, b)
        assert a.dtype == b.dtype


@pytest.mark.parametrize("backend", ["msgpack", "safetensors", "orbax"])
@pytest.mark.parametrize("cut_off", [3, 6])
def test_a_resumed_run_ends_with_the_bits_of_the_uninterrupted_one(tmp_path, backend, cut_off):
    expected, counts, _ = train(tmp_path / "whole")
    manager = CheckpointManager(tmp_path / "checkpoints", backend=backend)
    with pytest.raises(KeyboardInterrupt):
        train(tmp_path / "cut", manager, cut_off)
    again = CheckpointManager(tmp_path / "checkpoints", backend=backend)
    state, resumed_counts, first = train(tmp_path / "cut", again)
    assert first == cut_off
    assert_same_bits(state, expected)
    assert resumed_counts == counts
    assert list((tmp_path / "cut").iterdir()) == []
    at_the_end, _, first = train(tmp_path / "cut", CheckpointManager(tmp_path / "checkpoints", backend=backend))
    assert first == STEPS
    assert_same_bits(at_the_end, expected)


def test_the_same_seed_gives_the_same_bits_and_another_one_does_not(tmp_path):
    expected, _, _ = train(tmp_path / "a")
    again, _, _ = train(
        tmp_path / "b", train_step=make_train_step(loss_fn, accumulate=2, weight="examples", clip=1.0, ema=0.9)
    )
    assert_same_bits(again, expected)
    other = make_train_step(lambda p, b, key, variables: loss_fn(p, b, jax.random.fold_in(key, 1), variables), ema=0.9)
    different, _, _ = train(tmp_path / "c", train_step=other)
    assert not np.array_equal(different.params["w"], expected.params["w"])
