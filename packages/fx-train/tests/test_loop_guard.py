"""What is put off until the device is done: looks at numbers, and entries of logs."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from fx_train import Callback, Checkpoints, Evaluate, Log, Mean, NanGuard, Run
from fx_train.errors import NonFiniteError
from fx_train.loop import guard, log


class Kept(dict):
    """Checkpoints by step."""

    def save(self, step, tree, *, metrics=None):
        self[step] = tree

    def restore(self, step=None, target=None):
        return self[step]

    def latest_step(self):
        return max(self, default=None)


def test_guard_names_step_and_parameter_before_anyone_acts(tmp_path):
    manager = Kept()

    def run_into_nan():
        state = {"dense": {"kernel": jnp.ones(3)}, "count": 1}
        with Run(tmp_path, total_steps=5, callbacks=[Checkpoints(manager, every=1), NanGuard()]) as run:
            for step, _ in run.steps(range(5)):
                if step == 2:
                    state["dense"]["kernel"] = jnp.array([1.0, jnp.nan, jnp.inf])
                run.record(state, {"loss": jnp.float32(jnp.nan if step == 2 else 1)})

    with pytest.raises(NonFiniteError) as caught:
        run_into_nan()
    assert manager.latest_step() == 2
    assert (caught.value.step, caught.value.metrics) == (3, ["loss"])
    assert "Step 3 gave numbers" in str(caught.value)
    assert "metrics loss; in the state ['dense']['kernel'] (2 of 3 numbers)" in str(caught.value)


def test_guard_sees_a_broken_state_behind_a_finite_loss(tmp_path):
    states = [{}, *({f"w{i}": jnp.float32(value) for i in range(7)} for value in (1, np.inf, np.inf))]

    def run_into_infinity():
        with Run(tmp_path, total_steps=4, callbacks=[NanGuard(every=2)]) as run:
            for step, _ in run.steps(range(4)):
                run.record(states[step], {"loss": np.nan if step == 2 else 1.0})

    with pytest.raises(NonFiniteError, match=r"Step 4 gave.*\n.*\n.*w0.*w4.* \(1 of 1 numbers\), 2 more"):
        run_into_infinity()


def test_a_broken_state_with_which_an_evaluation_fails_is_not_saved(tmp_path):
    def measure(state):
        raise ValueError("no probabilities")

    manager = Kept()
    callbacks = [Evaluate(measure, every=2), NanGuard(), Checkpoints(manager, every=9)]

    def run():
        with Run(tmp_path, total_steps=4, callbacks=callbacks) as run:
            for step, _ in run.steps(range(4)):
                run.record(np.float32([1, np.nan][step]), {})

    with pytest.raises(ValueError, match="no probabilities"):
        run()
    assert not manager


@pytest.fixture
def device(monkeypatch):
    """A device that is not done before its ``finished`` is set; who waits for it is noted in ``waited``."""

    class Device:
        finished, waited = False, 0

    def waiting(function):
        def wait(*args):
            Device.waited += not Device.finished
            return function(*args)

        return wait

    for module in (guard, log):
        monkeypatch.setattr(module, "are_ready", lambda tree: Device.finished)
    monkeypatch.setattr(log, "as_floats", waiting(log.as_floats))
    monkeypatch.setattr(guard._Look, "broken", waiting(guard._Look.broken))
    return Device


def test_guard_does_not_wait_and_names_the_step_it_looked_at(tmp_path, device):
    manager = Kept()

    def run_into_nan():
        with Run(tmp_path, total_steps=99, callbacks=[NanGuard(every=3), Checkpoints(manager, every=100)]) as run:
            for step, _ in run.steps(range(99)):
                device.finished = step == 4
                run.record({"w": jnp.float32(np.nan if step == 2 else 0)}, {"loss": 1.0})

    with pytest.raises(NonFiniteError, match=r"Step 3 gave.*\n.*\n.*\['w'\] \(0 of 1 numbers after step 5\)"):
        run_into_nan()
    assert (device.waited, dict(manager)) == (0, {})


def test_guard_waits_at_the_next_look(tmp_path, device):
    waited = []
    with Run(tmp_path, total_steps=7, callbacks=[NanGuard(every=2)]) as run:
        for _ in run.steps(range(7)):
            run.record({"w": jnp.float32(0)}, {"loss": 1.0})
            waited.append(device.waited)
    # There is a look at the last step too, which is answered at once.
    assert waited == [0, 0, 0, 1, 1, 2, 4]


def test_guard_waits_where_the_run_ends_early(tmp_path):
    class Stop(Callback):
        def on_step(self, run, state, metrics):
            run.stop("enough")

    def run_into_nan():
        with Run(tmp_path, total_steps=9, callbacks=[NanGuard(), Stop()]) as run:
            for _ in run.steps(range(9)):
                run.record({"w": jnp.float32(np.nan)}, {"loss": 1.0})

    with pytest.raises(NonFiniteError, match=r"Step 1 gave.*\n.*\n.*\['w'\] \(not counted\)"):
        run_into_nan()


def test_guard_looks_at_every_state_that_is_saved(tmp_path):
    def run_into_nan(error):
        managers = [Kept(), Kept()]
        callbacks = [NanGuard(every=100), *(Checkpoints(manager, every=3) for manager in managers)]
        with Run(tmp_path, total_steps=9, callbacks=callbacks) as run:
            try:
                for step, _ in run.steps(range(9)):
                    run.record({"w": jnp.float32(np.inf if step in (4, 5) else 1)}, {"loss": 1.0})
                    if step == 4 and error is not None:
                        raise error
            finally:
                kept.extend(managers)

    kept = []
    with pytest.raises(NonFiniteError, match="Step 6 gave"):
        run_into_nan(None)
    with pytest.raises(KeyError) as caught:
        run_into_nan(KeyError("body"))
    assert "NonFiniteError: Step 5 gave" in caught.value.__notes__[0]
    assert [list(manager) for manager in kept] == [[3]] * 4


def test_a_state_whose_memory_was_taken_is_not_looked_at(tmp_path):
    step = jax.jit(lambda x: x + 1, donate_argnums=0)
    with Run(tmp_path, total_steps=3, callbacks=[NanGuard(every=2)]) as run:
        state = jnp.zeros(3)
        for _ in run.steps(range(3)):
            run.record(state, {})
            state = step(state)
            break
    assert run.step == 1


def test_plain_numbers_and_metric_objects_are_looked_at(tmp_path):
    def run_into_nan(state, metrics):
        with Run(tmp_path, total_steps=1, callbacks=[NanGuard()]) as run:
            run.record(state, metrics)

    metrics = {"a": np.nan, "ok": 1.0, "b": np.float32(np.nan), "c": Mean.empty().update(jnp.float32(np.nan))}
    with pytest.raises(NonFiniteError, match=r"metrics a, b, c; in the state \['w'\] \(inf\)"):
        run_into_nan({"w": np.inf, "v": 1.0}, metrics)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_one_bad_number_of_any_kind_is_seen(value):
    kinds = [jnp.float32, jnp.bfloat16, jnp.float16, jnp.float8_e5m2, jnp.complex64]
    good = [jnp.full((3, 2), 2, kind) for kind in kinds]
    more = [jnp.ones((0, 2)), np.ones(2), jnp.arange(3), jax.random.key(0), 3.0]
    assert guard.is_finite([*good, *more, jnp.full(2, jnp.finfo(jnp.float32).max * (1 + 1j))])
    for place, leaf in enumerate(good):
        assert not guard.is_finite([*good[:place], leaf.at[2, 1].set(value), *good[place + 1 :]])
    assert not guard.is_finite([*more, np.array([1.0, value])])


def test_log_does_not_wait_and_keeps_the_order(tmp_path, device):
    logged = []
    with Run(tmp_path, total_steps=5, callbacks=[Log("jsonl", every=1)]) as run:
        for step, _ in run.steps(range(5)):
            device.finished = step == 2
            run.record(0.0, {"loss": jnp.float32(step)})
            logged.append(len(lines(tmp_path)))
    assert (logged, device.waited) == ([0, 0, 3, 3, 3], 2)
    assert [(line["step"], line["loss"]) for line in lines(tmp_path)] == [(step + 1, float(step)) for step in range(5)]


def test_what_waits_is_logged_before_a_checkpoint_and_when_the_body_fails(tmp_path, device):
    seen = []

    class Seen(Kept):
        def save(self, step, tree, *, metrics=None):
            seen.append((step, len(lines(tmp_path))))

    def run_into_error():
        with Run(tmp_path, total_steps=5, callbacks=[Log("jsonl", every=1), Checkpoints(Seen(), every=2)]) as run:
            for step, _ in run.steps(range(5)):
                run.record(0.0, {"loss": float(step)})
                _ = 1 / (step - 2)

    with pytest.raises(ZeroDivisionError):
        run_into_error()
    assert seen == [(2, 2), (3, 3)]


def test_what_waits_for_processes_that_ended_is_not_logged_and_said(tmp_path, device, monkeypatch, caplog):
    monkeypatch.setattr(log, "_PATIENCE", 0.0)
    monkeypatch.setattr(log.jax, "process_count", lambda: 2)

    def run_into_error():
        with Run(tmp_path, total_steps=5, callbacks=[Log("jsonl", every=1)]) as run:
            run.record(0.0, {"loss": 1.0})
            run.record(0.0, {"loss": 2.0})
            raise KeyError("body")

    with pytest.raises(KeyError):
        run_into_error()
    assert lines(tmp_path) == []
    assert "Metrics of steps 1, 2 are not logged" in caplog.text


def lines(directory):
    return [json.loads(line) for line in (directory / "metrics.jsonl").read_text().splitlines()]


@pytest.mark.parametrize("size", [10, 1000, 4096, 50_000, 1_000_000, 10_000_000])
def test_one_number_that_is_not_finite_is_seen_wherever_it_is(size):
    random = np.random.default_rng(size)
    numbers = random.standard_normal(size, np.float32)
    assert guard.is_finite({"w": jnp.asarray(numbers)})
    places = [0, size - 1, *random.integers(size, size=6 if size < 10_000_000 else 1)]
    for place, broken in zip(places, [np.nan, np.inf, -np.inf, *[np.nan] * 5]):
        state = {"w": jnp.asarray(numbers).at[place].set(broken)}
        assert not guard.is_finite(state), (place, broken)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float8_e4m3fn", "complex64"])
def test_nan_is_seen_in_every_dtype(dtype):
    numbers = jnp.ones((70, 100), dtype)
    assert guard.is_finite([numbers])
    assert not guard.is_finite([numbers.at[17, 23].set(jnp.nan)])


def test_numbers_of_the_host_are_judged_as_they_are():
    assert guard.is_finite([np.float64(1e300), np.array([1e300]), 1, np.arange(3), 1 + 2j])
    for broken in (np.array([1.0, np.nan]), np.float32(np.inf), float("nan"), complex(0, np.inf)):
        assert not guard.is_finite([broken])


def test_the_error_counts_numbers_in_arrays_of_the_host(tmp_path):
    def run_into_nan():
        with Run(tmp_path, total_steps=1, callbacks=[NanGuard()]) as run:
            for _ in run.steps(range(1)):
                run.record({"w": np.array([1e300, np.nan])}, {"loss": 1.0})

    with pytest.raises(NonFiniteError, match=r"\['w'\] \(1 of 2 numbers\)"):
        run_into_nan()
