import grain
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from fx_train import Checkpoints, Run, StepState, make_train_step
from fx_train.data import Batches, Prefetch
from fx_train.errors import ArgumentTypeError, BatchError

X = np.random.default_rng(0).normal(size=(24, 3)).astype(np.float32)
ARRAYS = {"x": X, "y": X.sum(axis=1)}


def taken(iterator, count):
    return [batch for batch, _ in zip(iterator, range(count))]


def grain_data():
    source = [{"x": x, "y": y} for x, y in zip(ARRAYS["x"], ARRAYS["y"])]
    return iter(grain.MapDataset.source(source).seed(3).shuffle().repeat().batch(4).to_iter_dataset())


def test_batches_begin_anywhere_and_epochs_differ():
    batches = Batches(ARRAYS, 5, seed=2)
    assert batches.per_epoch == 4
    stream = [batch["y"].tolist() for batch in taken(batches(0), 12)]
    assert [batch["y"].tolist() for batch in taken(batches(7), 5)] == stream[7:]
    epochs = [[y for batch in stream[i : i + 4] for y in batch] for i in (0, 4)]
    assert all(len(set(epoch)) == 20 for epoch in epochs)
    assert stream[:4] != stream[4:8]
    assert taken(Batches(ARRAYS, 5, seed=None)(0), 1)[0]["y"].tolist() == ARRAYS["y"][:5].tolist()


def test_processes_share_a_batch():
    whole = next(Batches(ARRAYS, 6)(3))
    parts = [next(Batches(ARRAYS, 6, process=(index, 3))(3))["x"] for index in range(3)]
    np.testing.assert_array_equal(np.concatenate(parts), whole["x"])


def test_data_that_makes_no_batches():
    with pytest.raises(BatchError, match="got: 24 examples and a batch of 25"):
        Batches(ARRAYS, 25)
    with pytest.raises(BatchError, match=r"a batch of 2\.0"):
        Batches(ARRAYS, 2.0)
    with pytest.raises(BatchError, match="0 examples make no batch"):
        Batches(np.zeros((0, 2)), 1)
    with pytest.raises(BatchError, match=r"\(3,\), \(4,\)"):
        Batches([np.zeros(3), np.zeros(4)], 1)
    with pytest.raises(BatchError, match="between 3 processes"):
        Batches(ARRAYS, 4, process=(0, 3))


def test_prefetched_batches_are_on_the_device():
    sharding = jax.sharding.SingleDeviceSharding(jax.devices()[0])
    for place in (sharding, {"x": sharding, "y": sharding}, lambda batch: jax.device_put(batch)):
        with Prefetch(Batches(ARRAYS, 4)(0), place=place) as ahead:
            batch = next(ahead)
        assert isinstance(batch["x"], jax.Array)
        np.testing.assert_array_equal(batch["y"], next(Batches(ARRAYS, 4)(0))["y"])


def test_a_position_is_the_one_of_the_last_batch_handed_out():
    with Prefetch(grain_data(), 3) as ahead:
        start = ahead.get_state()
        first = taken(ahead, 6)
        position = ahead.get_state()
        # zip took a seventh batch before it stopped; going back gives it again.
        after = next(ahead)["y"]
        ahead.set_state(position)
        np.testing.assert_array_equal(next(ahead)["y"], after)
        ahead.set_state(start)
        for batch in first:
            np.testing.assert_array_equal(next(ahead)["y"], batch["y"])


class Living:
    """Gives the very position that it goes on with."""

    def __init__(self):
        self.position = {"at": 0, "seen": np.zeros(1, int)}

    def __iter__(self):
        return self

    def __next__(self):
        self.position["at"] += 1
        self.position["seen"] += 1
        return self.position["at"]

    def get_state(self):
        return self.position

    def set_state(self, position):
        self.position = position


def test_positions_stay_what_they_were_while_the_iterator_goes_on(tmp_path):
    with Prefetch(Living(), 3) as ahead:
        start = ahead.get_state()
        for expected in (1, 2):
            assert next(ahead) == expected
            position = ahead.get_state()
            assert (position["at"], position["seen"].tolist()) == (expected, [expected])
        for _ in range(2):
            ahead.set_state(start)
            assert next(ahead) == 1
    saved, data = {}, Living()

    class Manager(Memory):
        def save(self, step, tree, *, metrics=None, iterators=None):
            saved[step] = iterators["data"].get_state()

    with Run(tmp_path, total_steps=2, callbacks=[Checkpoints(Manager(), every=1, iterators={"data": data})]) as run:
        for _ in run.steps(data):
            run.record({}, {})
    assert {step: position["at"] for step, position in saved.items()} == {1: 1, 2: 2}


def test_a_generator_has_no_position():
    with Prefetch(Batches(ARRAYS, 4)(0)) as ahead:
        for call in (ahead.get_state, lambda: ahead.set_state(None)):
            with pytest.raises(ArgumentTypeError, match="The position of a generator cannot be saved"):
                call()


class Memory:
    """A checkpointer that keeps its trees in a dict."""

    def __init__(self):
        self.kept = {}

    def save(self, step, tree, *, metrics=None, iterators=None):
        positions = {name: iterator.get_state() for name, iterator in (iterators or {}).items()}
        self.kept[step] = jax.tree.map(np.array, tree), positions

    def restore(self, step=None, target=None, *, iterators=None):
        tree, positions = self.kept[step]
        for name, iterator in (iterators or {}).items():
            iterator.set_state(positions[name])
        return tree

    def latest_step(self):
        return max(self.kept, default=None)


def loss_fn(params, batch, key):
    x = batch["x"] * jax.random.bernoulli(key, 0.9, batch["x"].shape)
    return jnp.mean((x @ params["w"] - batch["y"]) ** 2)


TX = optax.adam(0.1)
TRAIN_STEP = make_train_step(loss_fn, accumulate=2, weight="examples")


def train(directory, data, manager, iterators=None, until=None):
    state = StepState.create(params={"w": jnp.zeros(3)}, tx=TX, key=jax.random.PRNGKey(1))
    with Run(directory, total_steps=11, callbacks=[Checkpoints(manager, every=4, iterators=iterators)]) as run:
        state = jax.tree.map(jnp.asarray, run.resume(state))
        for step, batch in run.steps(data):
            if step == until:
                run.stop("killed")
            state, metrics = TRAIN_STEP(state, batch)
            run.record(state, metrics)
    return state


@pytest.mark.parametrize("kind", ["function", "grain", "prefetched grain"])
def test_an_interrupted_run_ends_with_the_bits_of_the_uninterrupted_one(tmp_path, kind):
    def make():
        if kind == "function":
            return Batches(ARRAYS, 4), None
        data = grain_data() if kind == "grain" else Prefetch(grain_data())
        return data, {"data": data}

    def run(manager, until=None):
        data, iterators = make()
        state = train(tmp_path, data, manager, iterators, until)
        if isinstance(data, Prefetch):
            data.close()
        return state

    expected, again, manager = run(Memory()), run(Memory()), Memory()
    run(manager, until=6)
    assert manager.latest_step() == 7
    resumed = run(manager)
    jax.tree.map(np.testing.assert_array_equal, expected, again)
    jax.tree.map(np.testing.assert_array_equal, expected, resumed)
    assert int(resumed.step) == 11
