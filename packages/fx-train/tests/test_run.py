import io
import json
import os
import signal

import jax.numpy as jnp
import pytest
from fx_train import (
    Callback,
    Checkpoints,
    Describe,
    Evaluate,
    Log,
    NanGuard,
    ProgressBar,
    Run,
    StopEarly,
    StopOnSignal,
    Throughput,
)
from fx_train.errors import ArgumentError, DataEndedError, RunError, RunFileError
from fx_train.loop.callbacks import Cadence
from rich.console import Console


class Memory:
    """A checkpointer that keeps its trees in a dict."""

    def __init__(self):
        self.kept = {}

    def save(self, step, tree, *, metrics=None):
        self.kept[step] = (tree, metrics)

    def restore(self, step=None, *, target=None):
        return self.kept[step][0]

    def latest_step(self):
        return max(self.kept, default=None)


def batches_from(step):
    while True:
        yield step * step
        step += 1


def train(directory, callbacks, total_steps=7, stop_at=None):
    with Run(directory, total_steps=total_steps, callbacks=callbacks) as run:
        state = run.resume([])
        for step, batch in run.steps(batches_from):
            if step == stop_at:
                raise KeyboardInterrupt
            state = [*state, batch]
            run.record(state, {"last": batch})
    return state


def test_resumed_run_ends_like_the_uninterrupted_one(tmp_path):
    manager = Memory()
    with pytest.raises(KeyboardInterrupt):
        train(tmp_path, [Checkpoints(manager, every=2)], stop_at=5)
    assert manager.latest_step() == 5
    assert train(tmp_path, [Checkpoints(manager, every=2)]) == train(tmp_path, [])
    assert sorted(manager.kept) == [2, 4, 5, 6, 7]
    assert manager.kept[7][1] == {"last": 36.0}


def test_finished_run_has_no_steps_left(tmp_path):
    manager = Memory()
    first = train(tmp_path, [Checkpoints(manager, every=10)])
    assert train(tmp_path, [Checkpoints(manager, every=10)], stop_at=7) == first


def test_steps_continue_a_plain_iterable():
    run = Run("unused", total_steps=2)
    seen = []
    for step, batch in run.steps(["a", "b", "c"]):
        seen.append((step, batch))
        run.record(None, {})
    assert seen == [(0, "a"), (1, "b")]


def test_too_few_batches_are_an_error():
    run = Run("unused", total_steps=3)
    steps = run.steps(["a"])
    next(steps)
    run.record(None, {})
    with pytest.raises(DataEndedError, match="expected: 3 steps\n  got: 1 steps"):
        next(steps)


def test_forgotten_record_is_an_error():
    run = Run("unused", total_steps=3)
    with pytest.raises(RunError, match="Step 0 was not recorded"):
        for _ in run.steps(["a", "b", "c"]):
            pass


@pytest.mark.parametrize("every", [0, -1, 1.5, True])
def test_cadence_must_be_a_positive_int(every):
    with pytest.raises(ArgumentError, match="Checkpoints cannot act every"):
        Checkpoints(Memory(), every=every)


def test_callbacks_start_in_order_and_end_in_reverse_with_the_error(tmp_path):
    events = []

    class Witness(Callback):
        def __init__(self, name):
            self.name = name

        def on_start(self, run):
            events.append(("start", self.name))

        def on_end(self, run, error):
            events.append(("end", self.name, type(error)))

    with pytest.raises(ZeroDivisionError), Run(tmp_path, total_steps=1, callbacks=[Witness("a"), Witness("b")]):
        _ = 1 / 0
    assert events == [("start", "a"), ("start", "b"), ("end", "b", ZeroDivisionError), ("end", "a", ZeroDivisionError)]


def test_log_appends_json_lines(tmp_path):
    train(tmp_path, [Log("jsonl", every=3)])
    lines = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert [(line["step"], line["last"]) for line in lines] == [(3, 4.0), (6, 25.0), (7, 36.0)]


def test_progress_bar_shows_steps_and_metrics_in_a_terminal_only(tmp_path):
    terminal = Console(file=io.StringIO(), force_terminal=True, width=120)
    train(tmp_path, [ProgressBar("digits", console=terminal, refresh=0.0)])
    assert "7/7" in terminal.file.getvalue()
    assert "last 36" in terminal.file.getvalue()
    pipe = Console(file=io.StringIO(), force_terminal=False)
    train(tmp_path, [ProgressBar(console=pipe)])
    assert pipe.file.getvalue() == ""


def test_a_directory_that_cannot_be_made(tmp_path):
    (tmp_path / "file").touch()
    with (
        pytest.raises(RunFileError, match=r"got: .*Not a directory"),
        Run(tmp_path / "file" / "run", total_steps=1),
    ):
        raise AssertionError("not reached")


@pytest.mark.parametrize("at_the_last_step", [False, True])
def test_schedulers_are_told_that_a_stopped_run_is_not_done(tmp_path, monkeypatch, at_the_last_step):
    monkeypatch.setenv("FX_ATTEMPT", "0")
    manager = Memory()

    class Ask(Callback):
        def on_step(self, run, state, metrics):
            if run.step == (7 if at_the_last_step else 3):
                # From a launcher and from whoever ended that, too: one signal.
                os.kill(os.getpid(), signal.SIGTERM)
                os.kill(os.getpid(), signal.SIGTERM)

    callbacks = [Checkpoints(manager, every=100), Ask(), StopOnSignal(exit_status=143)]
    if at_the_last_step:
        assert len(train(tmp_path, callbacks)) == 7
    else:
        with pytest.raises(SystemExit, match="143"):
            train(tmp_path, callbacks)
    assert manager.latest_step() == (7 if at_the_last_step else 3)


def test_idle_callbacks_are_called_when_it_is_time_or_when_another_adds_metrics(tmp_path):
    class Lazy(Callback):
        def __init__(self):
            self.examined, self.called = [], []

        def examine(self, run, state, metrics):
            self.examined.append(run.step)

        def on_step(self, run, state, metrics):
            self.called.append(run.step)
            self.idle_until = run.step + 3

    lazy = Lazy()
    for _ in range(2):
        with Run(tmp_path, total_steps=8, callbacks=[lazy, Evaluate(lambda state: {"score": 1.0}, every=6)]) as run:
            for _ in run.steps(range(8)):
                run.record(None, {"loss": 1.0})
    # The evaluations are at steps 6 and 8; a second run starts afresh.
    assert lazy.called == [1, 4, 6, 8] * 2
    assert lazy.examined == [1, 4] * 2


@pytest.mark.parametrize("every", [1, 3, 10])
@pytest.mark.parametrize("total", [1, 5, 9, 10])
def test_a_cadence_knows_its_next_step(every, total):
    due = Cadence("Log", every)
    for step in range(total):
        assert due.after(step, total) == next(later for later in range(step + 1, total + 1) if due(later, total))
    assert due.after(total, total) > total


def test_callbacks_serve_a_second_run_like_the_first(tmp_path):
    screen = io.StringIO()
    callbacks = [
        ProgressBar(console=Console(file=screen, force_terminal=True, width=100)),
        Evaluate(lambda state: {"score": 1.0}, every=2),
        StopEarly("loss", patience=2),
        Throughput(every=3),
        Log("jsonl", every=2),
        NanGuard(every=2),
        Checkpoints(Memory(), every=4),
        Describe({"width": 3}),
    ]

    def run(name, losses, more):
        callbacks[6].manager = Memory()
        with Run(tmp_path / name, total_steps=len(losses), callbacks=callbacks) as run:
            for step, loss in run.steps(losses):
                run.record({name: jnp.ones(step + 1)}, {"loss": loss, **more})
        entries = [json.loads(line) for line in (tmp_path / name / "metrics.jsonl").read_text().splitlines()]
        about = json.loads((tmp_path / name / "run.json").read_text())
        return entries, about, callbacks[6].manager.kept

    run("first", [3.0, 2.0, 1.0, 0.5], {})
    screen.truncate(0)
    entries, about, kept = run("second", [9.0, 8.0, 7.0, 6.0, 5.0, 4.0], {"more": 1.0})
    assert [(entry["step"], "loss" in entry, "more" in entry) for entry in entries] == [
        (2, True, True),
        (3, False, False),
        (4, True, True),
        (6, True, True),
    ]
    assert all(entry.get("steps_per_second", 1) > 0 for entry in entries)
    assert (about["outcome"], about["config"], about["parameters"][0]["path"]) == ("done", {"width": 3}, "second")
    assert sorted(kept) == [4, 6]
    assert set(kept[4][1]) == {"loss", "more", "eval/score", "steps_per_second"}
    assert "6/6" in screen.getvalue()
    assert "/4" not in screen.getvalue()
