"""How runs end: by signals, by errors of callbacks, out of order."""

import os
import signal
import threading
import types

import jax
import numpy as np
import pytest
from fx_train import (
    Callback,
    Checkpoints,
    Evaluate,
    Run,
    StopEarly,
    StopOnSignal,
)
from fx_train.errors import (
    DataEndedError,
    RunError,
)


class Memory:
    """A checkpointer that keeps its trees in a dict."""

    def __init__(self):
        self.kept, self.metrics, self.metadata, self.waited = {}, {}, {}, 0

    def save(self, step, tree, *, metrics=None, iterators=None, metadata=None):
        positions = {name: iterator.get_state() for name, iterator in (iterators or {}).items()}
        self.kept[step], self.metrics[step] = (jax.tree.map(np.array, tree), positions), metrics
        self.metadata[step] = dict(metadata or {})

    def inspect(self, step):
        return types.SimpleNamespace(metadata=self.metadata[step])

    def restore(self, step=None, target=None, *, iterators=None):
        tree, positions = self.kept[step]
        for name, iterator in (iterators or {}).items():
            iterator.set_state(positions[name])
        return tree

    def latest_step(self):
        return max(self.kept, default=None)

    def wait(self):
        self.waited += 1


def train(directory, callbacks, losses, total_steps=None, data=None):
    """A run whose losses are given; the state is their sum."""
    with Run(directory, total_steps=total_steps or len(losses), callbacks=callbacks) as run:
        state = run.resume(0.0)
        for _, loss in run.steps(data or (lambda step: losses[step:])):
            state += loss
            run.record(state, {"loss": loss})
    return run


@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM"])
def test_a_signal_ends_the_run_after_its_step_and_a_second_one_at_once(tmp_path, name):
    manager, former = Memory(), signal.getsignal(getattr(signal, name))
    callbacks = [Checkpoints(manager, every=100), StopOnSignal()]
    with Run(tmp_path, total_steps=100, callbacks=callbacks) as run:
        for step, _ in run.steps(range(100)):
            if step == 4:
                os.kill(os.getpid(), getattr(signal, name))
            run.record(step, {})
    assert (run.step, run.stop_reason, manager.latest_step()) == (5, f"got {name}", 5)
    assert signal.getsignal(getattr(signal, name)) == former

    def hit_twice():
        with Run(tmp_path, total_steps=1, callbacks=[callbacks[1]]):
            os.kill(os.getpid(), getattr(signal, name))
            os.kill(os.getpid(), getattr(signal, name))

    with pytest.raises(KeyboardInterrupt, match="second time"):
        hit_twice()


def test_signals_are_for_the_main_thread(tmp_path):
    errors = []

    def work():
        try:
            with Run(tmp_path, total_steps=1, callbacks=[StopOnSignal()]):
                pass
        except RunError as error:
            errors.append(str(error))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert "main thread only" in errors[0]


def test_every_callback_ends_although_others_fail(tmp_path):
    ended = []

    class Fails(Callback):
        def on_end(self, run, error):
            ended.append(self)
            raise OSError("disk full")

    with (
        pytest.raises(OSError, match="disk full") as caught,
        Run(tmp_path, total_steps=1, callbacks=[Fails(), Fails()]),
    ):
        pass
    assert len(ended) == 2
    assert "Besides, when the run ended: OSError: disk full" in caught.value.__notes__[0]
    with pytest.raises(ZeroDivisionError) as caught, Run(tmp_path, total_steps=1, callbacks=[Fails()]):
        _ = 1 / 0
    assert "disk full" in caught.value.__notes__[0]


def test_an_interrupt_at_the_end_lets_the_others_end(tmp_path):
    ended, former = [], signal.getsignal(signal.SIGINT)

    class Witness(Callback):
        def on_end(self, run, error):
            ended.append(type(error))

    class Interrupted(Callback):
        def on_end(self, run, error):
            raise KeyboardInterrupt("again")

    with (
        pytest.raises(KeyboardInterrupt, match="again"),
        Run(tmp_path, total_steps=1, callbacks=[Witness(), StopOnSignal(), Interrupted()]),
    ):
        _ = 1 / 0
    assert ended == [ZeroDivisionError]
    assert signal.getsignal(signal.SIGINT) is former


def test_a_recorded_state_is_saved_although_another_callback_fails(tmp_path):
    class Fails(Callback):
        def on_step(self, run, state, metrics):
            _ = 1 / (run.step - 3)

    for name, callback in [("evaluation", Evaluate(lambda state: 1 / (state - 3), every=3)), ("callback", Fails())]:
        manager = Memory()
        with pytest.raises(ZeroDivisionError):
            train(tmp_path / name, [callback, Checkpoints(manager, every=9)], [1.0] * 5)
        assert (manager.latest_step(), float(manager.kept[3][0])) == (3, 3.0)


def test_what_started_ends_when_another_cannot_start(tmp_path):
    ended = []

    class Starts(Callback):
        def on_end(self, run, error):
            ended.append(type(error))

    class Fails(Callback):
        def on_start(self, run):
            raise OSError("no")

    with pytest.raises(OSError, match="no"), Run(tmp_path, total_steps=1, callbacks=[Starts(), Fails()]):
        raise AssertionError("not reached")
    assert ended == [OSError]


def _counts_in_place(run, state, fails_at=-1, breaks_at=-1):
    """A loop whose body changes its state before it records it, as a step of an NNX module does."""
    state = run.resume(state)
    for step, _ in run.steps(lambda first: iter(range(first, 9))):
        state["n"] += 1
        if step == fails_at:
            raise RuntimeError("between the update and record")
        if step == breaks_at:
            return
        run.record(state, {"loss": 0.0})


@pytest.mark.parametrize("fails_at", [1, 2, 4])
def test_a_state_that_the_next_step_changed_in_place_is_not_saved_as_the_last_one(tmp_path, fails_at):
    manager, state = Memory(), {"n": np.zeros(())}
    with (
        pytest.raises(RuntimeError) as caught,
        Run(tmp_path, total_steps=9, callbacks=[Checkpoints(manager, every=3)]) as run,
    ):
        _counts_in_place(run, state, fails_at)
    assert all(int(kept["n"]) == step for step, (kept, _) in manager.kept.items())
    assert "had begun, which changes it in place" in caught.value.__notes__[0]
    with Run(tmp_path, total_steps=9, callbacks=[Checkpoints(manager, every=3)]) as run:
        _counts_in_place(run, {"n": np.zeros(())})
    assert int(manager.kept[9][0]["n"]) == 9


def test_nor_is_it_where_the_loop_is_left_before_the_step_is_recorded(tmp_path, caplog):
    manager = Memory()
    with Run(tmp_path, total_steps=9, callbacks=[Checkpoints(manager, every=2)]) as run:
        _counts_in_place(run, {"n": np.zeros(())}, breaks_at=3)
    assert {step: int(kept["n"]) for step, (kept, _) in manager.kept.items()} == {2: 2}
    assert "The state of step 3 could not be saved" in caplog.text


def test_a_state_that_is_changed_in_place_is_saved_after_an_error_that_comes_between_steps(tmp_path):
    manager = Memory()

    def loop(run):
        state = run.resume([np.zeros(())])
        for _ in run.steps([None] * 3):
            state[0] += 1
            run.record(state, {})

    with pytest.raises(DataEndedError), Run(tmp_path, total_steps=9, callbacks=[Checkpoints(manager, every=9)]) as run:
        loop(run)
    assert {step: int(kept[0]) for step, (kept, _) in manager.kept.items()} == {3: 3}


@pytest.mark.parametrize("last", [2, 5])
@pytest.mark.parametrize("own_loop", [False, True])
def test_new_states_are_saved_although_parts_that_hold_nothing_stay_the_same(tmp_path, own_loop, last):
    manager, static = Memory(), jax.tree_util.Partial(abs)

    def loop(run):
        state = {"n": {"m": 0}}
        for step, _ in enumerate(range(9)) if own_loop else run.steps([None] * 9):
            state = {"n": {"m": state["n"]["m"] + 1}}
            if step == last:
                raise RuntimeError
            run.record((static, state), {})

    with pytest.raises(RuntimeError), Run(tmp_path, total_steps=9, callbacks=[Checkpoints(manager, every=9)]) as run:
        loop(run)
    assert {step: int(kept[1]["n"]["m"]) for step, (kept, _) in manager.kept.items()} == {last: last}


@jax.tree_util.register_pytree_node_class
class Cell:
    """A variable whose value is changed in place."""

    def __init__(self, value):
        self.value = value

    def tree_flatten(self):
        return (self.value,), None

    @classmethod
    def tree_unflatten(cls, aux, children):
        return cls(*children)


@pytest.mark.parametrize("own_loop", [False, True])
@pytest.mark.parametrize("last", [1, 2, 5])
def test_variables_are_seen_in_containers_that_are_made_anew(tmp_path, own_loop, last):
    manager, cell = Memory(), Cell(0)

    def loop(run):
        for step, _ in enumerate(range(9)) if own_loop else run.steps([None] * 9):
            cell.value += 1
            if step == last:
                raise RuntimeError
            run.record({"model": {"w": cell}}, {})

    with pytest.raises(RuntimeError), Run(tmp_path, total_steps=9, callbacks=[Checkpoints(manager, every=9)]) as run:
        loop(run)
    assert manager.kept == {}


def test_a_metric_that_decides_what_is_best_may_come_later_than_the_first_checkpoint(tmp_path, caplog):
    manager = Memory()
    manager.best = "eval/loss"
    callbacks = [Checkpoints(manager, every=2), Evaluate(lambda state: {"loss": 1.0}, every=3)]
    train(tmp_path, callbacks, [1.0] * 4)
    assert [str(manager.metrics[step]["eval/loss"]) for step in (2, 4)] == ["nan", "1.0"]
    assert "No step had the metric 'eval/loss' yet" in caplog.text


def test_a_run_that_is_stopped_before_its_first_evaluation_ends_without_complaint(tmp_path):
    callbacks = [StopOnSignal(exit_status=143), Evaluate(lambda state: {"loss": 1.0}, every=9), StopEarly("eval/loss")]

    def loop(run):
        for step, _ in run.steps([None] * 9):
            if step == 1:
                signal.raise_signal(signal.SIGTERM)
            run.record({}, {"loss": 1.0})

    with pytest.raises(SystemExit) as ended, Run(tmp_path, total_steps=9, callbacks=callbacks) as run:
        loop(run)
    assert ended.value.code == 143
    assert not hasattr(ended.value, "__notes__")
