"""What a run says to things that make no sense."""

import jax.numpy as jnp
import pytest
from fx_train import Log, NanGuard, ProgressBar, Run, StopEarly, Throughput
from fx_train.errors import (
    ArgumentError,
    ArgumentTypeError,
    MetricError,
    MissingPackageError,
    RunError,
    RunFileError,
)


def test_a_step_is_recorded_once(tmp_path):
    run = Run(tmp_path, total_steps=3)
    for step, _ in run.steps(range(3)):
        run.record(None, {})
        if step == 1:
            with pytest.raises(RunError, match="Step 1 was recorded already"):
                run.record(None, {})
    assert run.step == 3


def test_metrics_are_single_numbers(tmp_path):
    for value, text in [(jnp.ones(2), r"an array of shape \(2,\)"), ("high", "got: str"), (10**400, "got: int")]:
        with (
            pytest.raises(MetricError, match=text),
            Run(tmp_path, total_steps=1, callbacks=[Log("jsonl", every=1)]) as run,
        ):
            run.record(None, {"loss": value})


def test_runs_of_something_else(tmp_path):
    for callbacks, got in [([NanGuard], "the class NanGuard"), (3, "3"), (["log"], "'log'")]:
        with pytest.raises(ArgumentTypeError, match=f"got: {got}"):
            Run(tmp_path, total_steps=1, callbacks=callbacks)
    run = Run(tmp_path, total_steps=2)
    for data in (None, 5, lambda step: None):
        with pytest.raises(ArgumentTypeError, match=r"of type (NoneType|int)"):
            next(run.steps(data))
    with pytest.raises(MetricError, match="got: float"):
        run.record(None, 1.0)
    (tmp_path / "file").touch()
    with pytest.raises(RunFileError, match="A run needs a directory"), Run(tmp_path / "file", total_steps=1):
        raise AssertionError("not reached")


@pytest.mark.parametrize(
    ("make", "text"),
    [
        (lambda: StopEarly("loss", patience=-1), "this patience.*\n.*at least 0\n  got: -1"),
        (lambda: StopEarly("loss", min_delta=-0.5), "this min_delta"),
        (lambda: Throughput(every=1, batch=0), "this batch.*\n.*at least 1\n  got: 0"),
    ],
)
def test_options_of_callbacks_that_make_no_sense(make, text):
    with pytest.raises(ArgumentError, match=text):
        make()


def test_progress_bar_without_rich_names_the_extra(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "rich", None)
    with pytest.raises(MissingPackageError, match=r"fx-train\[progress\]"):
        ProgressBar()
