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
    StopOnSignal,
)
from fx_train.errors import (
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
