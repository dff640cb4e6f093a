"""Positions of grain iterators in checkpoints of fx-ckpt: an interrupted run sees the batches it would have seen."""

import shutil

import grain
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from absl import flags
from fx_ckpt import CheckpointManager
from fx_ckpt.errors import CheckpointError
from fx_train import Checkpoints, Run, StepState, make_train_step
from fx_train.data import Batches, Prefetch

STEPS, INTERRUPTED, EVERY = 17, 9, 4  # an epoch has six batches
X = np.random.default_rng(0).normal(size=(26, 3)).astype(np.float32)
SOURCE = [{"x": x, "target": {"y": x.sum(), "index": i}} for i, x in enumerate(X)]


class Jitter(grain.transforms.RandomMap):
    """Noise that depends on the example and the epoch."""

    def random_map(self, element, rng):
        return {**element, "x": element["x"] + rng.normal(scale=0.01, size=3).astype(np.float32)}


def dataset():
    return grain.MapDataset.source(SOURCE).seed(3).shuffle().repeat().random_map(Jitter()).batch(4)


def plain():
    return iter(dataset().to_iter_dataset())


def threads():
    return iter(dataset().to_iter_dataset(grain.ReadOptions(num_threads=2, prefetch_buffer_size=3)))


def processes():
    if not flags.FLAGS.is_parsed():  # the workers ask for flags of grain
        flags.FLAGS(["test"])
    # Without the noise: workers could not import a class of this file.
    examples = grain.MapDataset.source(SOURCE).seed(3).shuffle().repeat().batch(4)
    return iter(examples.to_iter_dataset().mp_prefetch(grain.MultiprocessingOptions(num_workers=2)))


def window():
    """Shuffled once more, as a stream: what waits in the window belongs to the position."""
    stream = grain.MapDataset.source(SOURCE).seed(3).repeat().to_iter_dataset()
    return iter(grain.experimental.WindowShuffleIterDataset(stream, window_size=7, seed=1).batch(4))


def loader():
    """The loader of grain's first interface, whose position is bytes."""
    sampler = grain.samplers.IndexSampler(26, shard_options=grain.sharding.NoSharding(), shuffle=True, seed=1)
    operations = [grain.transforms.Batch(4, drop_remainder=True)]
    return iter(grain.DataLoader(data_source=SOURCE, sampler=sampler, operations=operations, worker_count=0))


def prefetched():
    return Prefetch(plain(), 3)


def loss_fn(params, batch, key):
    x = batch["x"] * jax.random.bernoulli(key, 0.9, batch["x"].shape)
    return jnp.mean((x @ params["w"] - batch["target"]["y"]) ** 2)


TX = optax.adam(0.1)
TRAIN_STEP = make_train_step(loss_fn)


def train(directory, data, *, fail_at=None, iterators=True, seen=None):
    """A run; gives its last state. What it saw goes into ``seen``."""
    manager = CheckpointManager(directory / "checkpoints", keep=2)
    checkpoints = Checkpoints(manager, every=EVERY, iterators={"data": data} if iterators else None)
    state = StepState.create(params={"w": jnp.zeros(3)}, tx=TX, key=jax.random.key(1))
    with Run(directory, total_steps=STEPS, callbacks=[checkpoints]) as run:
        state = run.resume(state)
        for step, batch in run.steps(data):
            if step == fail_at:
                raise KeyboardInterrupt
            if seen is not None:
                seen[step] = jax.tree.map(np.array, batch)
            state, metrics = TRAIN_STEP(state, batch)
            run.record(state, metrics)
    return state


def bits(state):
    state = state.replace(key=jax.random.key_data(state.key))
    return [np.asarray(x).tobytes() for x in jax.tree.leaves(state)]


def forget(directory, step):
    """Remove the newest checkpoint."""
    manager = CheckpointManager(directory / "checkpoints", keep=2)
    assert manager.latest_step() == step
    shutil.rmtree(manager.path(step))
    assert manager.latest_step() == step // EVERY * EVERY


def close(data):
    if isinstance(data, Prefetch):
        data.close()


WAYS = [(make, end) for make in (plain, threads, window, prefetched) for end in ("interrupted", "killed")]


@pytest.mark.parametrize(("make", "end"), [*WAYS, pytest.param(processes, "killed", marks=pytest.mark.slow)])
def test_an_interrupted_run_sees_the_same_batches_and_ends_with_the_same_bits(tmp_path, make, end):
    whole, parts = {}, {}
    data = make()
    expected = train(tmp_path / "whole", data, seen=whole)
    close(data)
    data = make()
    with pytest.raises(KeyboardInterrupt):
        train(tmp_path / "parts", data, fail_at=INTERRUPTED, seen=parts)
    close(data)
    if end == "killed":  # then it does not save what it did last
        forget(tmp_path / "parts", INTERRUPTED)
    data = make()
    resumed = train(tmp_path / "parts", data, seen=parts)
    close(data)
    assert sorted(parts) == list(range(STEPS))
    for step, batch in whole.items():
        jax.tree.map(np.testing.assert_array_equal, batch, parts[step])
    assert bits(resumed) == bits(expected)
    epoch = np.concatenate([whole[step]["target"]["index"] for step in range(6)])
    assert len(set(epoch.tolist())) == 24 or make is window
    assert epoch.tolist() != sorted(epoch.tolist())


def test_the_older_loader_of_grain_goes_on_too(tmp_path):
    whole, parts = {}, {}
    expected = train(tmp_path / "whole", loader(), seen=whole)
    with pytest.raises(KeyboardInterrupt):
        train(tmp_path / "parts", loader(), fail_at=EVERY * 2 + 1, seen=parts)
    forget(tmp_path / "parts", EVERY * 2 + 1)
    assert bits(train(tmp_path / "parts", loader(), seen=parts)) == bits(expected)
    for step in range(STEPS):
        np.testing.assert_array_equal(parts[step]["target"]["index"], whole[step]["target"]["index"])


def test_other_iterators_than_were_saved_are_refused(tmp_path):
    with pytest.raises(KeyboardInterrupt):
        train(tmp_path, plain(), fail_at=5)
    manager = CheckpointManager(tmp_path / "checkpoints", keep=2)
    with pytest.raises(CheckpointError, match="training"):
        manager.restore(iterators={"training": plain()})


@pytest.mark.parametrize("kind", ["function", "generator function"])
def test_functions_of_the_step_need_no_position(tmp_path, kind):
    batches = Batches({"x": X, "target": {"y": X.sum(1), "index": np.arange(26)}}, 4, seed=5)

    def stream(step):
        yield from batches(step)

    make = batches if kind == "function" else stream
    expected = train(tmp_path / "whole", make, iterators=False)
    with pytest.raises(KeyboardInterrupt):
        train(tmp_path / "parts", make, fail_at=INTERRUPTED, iterators=False)
    assert bits(train(tmp_path / "parts", make, iterators=False)) == bits(expected)


def test_a_list_of_batches_is_continued(tmp_path):
    examples = Batches({"x": X, "target": {"y": X.sum(1), "index": np.arange(26)}}, 4, seed=5)(0)
    batches = [batch for batch, _ in zip(examples, range(STEPS))]
    expected = train(tmp_path / "whole", batches, iterators=False)
    with pytest.raises(KeyboardInterrupt):
        train(tmp_path / "parts", batches, fail_at=INTERRUPTED, iterators=False)
    assert bits(train(tmp_path / "parts", batches, iterators=False)) == bits(expected)
