"""A series of checkpoints: which steps stay, which is newest and best, and what a dying writer leaves."""

import os

import fx_ckpt
import jax.numpy as jnp
import numpy as np
import pytest
from fx_ckpt import CheckpointManager
from fx_ckpt.errors import ArgumentError, NoCheckpointError, StepTakenError
from fx_core.errors.files import DamagedFilesError


def manager(path, **options):
    return CheckpointManager(path / "run", backend="msgpack", **options)


def save(run, steps, metrics=None):
    for step in steps:
        run.save(step, {"step": step}, metrics=None if metrics is None else {"loss": metrics[step]})
    run.wait()


def test_steps_come_back_and_the_newest_is_the_default(tmp_path):
    run = manager(tmp_path)
    assert run.all_steps() == []
    assert run.latest_step() is None
    save(run, [1, 5, 10])
    assert run.all_steps() == [1, 5, 10]
    assert run.latest_step() == 10
    assert run.restore() == {"step": 10}
    assert run.restore(5, target={"step": 0}) == {"step": 5}
    assert CheckpointManager(tmp_path / "run").restore(1) == {"step": 1}


def test_metrics_and_metadata_are_kept(tmp_path):
    run = manager(tmp_path)
    run.save(3, {}, metrics={"loss": np.float32(0.5), "bad": float("nan")}, metadata={"git": "abc"})
    info = run.inspect()
    assert info.step == 3
    assert info.metrics["loss"] == 0.5
    assert np.isnan(info.metrics["bad"])
    assert info.metadata == {"git": "abc"}


def test_retention_keeps_the_newest_the_multiples_and_the_best(tmp_path):
    run = manager(tmp_path, keep=2, keep_every=5, best="loss", mode="min")
    save(run, range(1, 13), {step: abs(step - 3) for step in range(1, 13)})
    assert run.all_steps() == [3, 5, 10, 11, 12]
    assert run.best_step() == 3


def test_the_best_ignores_nan_and_takes_the_last_of_equal_ones(tmp_path):
    run = manager(tmp_path, best="loss", mode="max")
    save(run, [1, 2, 3, 4], {1: 2.0, 2: 2.0, 3: float("nan"), 4: 1.0})
    assert run.best_step() == 2


def test_one_step_always_stays(tmp_path):
    run = manager(tmp_path, keep=1)
    save(run, [1, 2])
    run.save(1, {"step": "again"}, overwrite=True)
    assert run.restore(1) == {"step": "again"}


def test_save_interval_and_force(tmp_path):
    run = manager(tmp_path, save_interval=10)
    assert not run.save(5, {})
    assert run.save(10, {})
    assert run.save(11, {}, force=True)
    assert run.all_steps() == [10, 11]


def test_earlier_steps_are_refused_unless_overwrite(tmp_path):
    run = manager(tmp_path)
    save(run, [5])
    for step in (5, 4):
        with pytest.raises(StepTakenError, match=rf"Step {step} cannot be saved(.|\n)*a step after 5"):
            run.save(step, {})
    run.save(5, {"step": "new"}, overwrite=True)
    assert run.restore() == {"step": "new"}


def test_absent_steps(tmp_path):
    run = manager(tmp_path)
    with pytest.raises(NoCheckpointError, match=r"There is no checkpoint here(.|\n)*steps: none"):
        run.restore()
    save(run, [5])
    with pytest.raises(NoCheckpointError, match=r"no checkpoint of step 7(.|\n)*steps: 5"):
        run.restore(7)


def test_leftovers_are_ignored_and_cleaned_by_the_next_save(tmp_path):
    run = manager(tmp_path)
    save(run, [1])
    directory = tmp_path / "run"
    (directory / ".step_00000002.fx-new-0000/data").mkdir(parents=True)
    (directory / "step_00000003").mkdir()
    (directory / "step_4").mkdir()
    os.rename(directory / "step_00000001", directory / ".step_00000001.fx-old")
    assert run.all_steps() == [1]
    assert run.restore() == {"step": 1}
    save(run, [2])
    assert sorted(os.listdir(directory)) == ["step_00000001", "step_00000002", "step_00000003", "step_4"]
    assert run.all_steps() == [1, 2]


def test_damage_is_an_error_not_an_older_step(tmp_path):
    run = manager(tmp_path)
    save(run, [1, 2])
    (run.path(2) / "data/state.msgpack").write_bytes(b"x")
    with pytest.raises(DamagedFilesError, match=r"state\.msgpack"):
        run.restore()
    assert run.restore(1) == {"step": 1}


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"keep": 0}, "'keep' is wrong(.|\n)*a positive integer(.|\n)*got: 0"),
        ({"keep_every": 1.5}, "'keep_every' is wrong"),
        ({"save_interval": True}, "'save_interval' is wrong"),
        ({"mode": "least"}, "'mode' is wrong(.|\n)*max"),
    ],
)
def test_wrong_options(tmp_path, options, text):
    with pytest.raises(ArgumentError, match=text):
        manager(tmp_path, **options)


@pytest.mark.parametrize(
    "value",
    [np.ones(2), None, "0.5", 1j, np.array([1j]), [], 10**400, object()],
    ids=["two", "none", "text", "complex", "array of complex", "list", "too large", "object"],
)
def test_metrics_that_are_no_numbers(tmp_path, value):
    with pytest.raises(
        ArgumentError, match=r"'metrics' is wrong.\n.*real numbers\n.*'m'(.|\n)*everything else as metadata"
    ):
        manager(tmp_path).save(1, {}, metrics={"m": value})
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("name", [1, None, b"loss"])
def test_names_of_metrics_that_are_no_strings_are_refused_before_anything_is_written(tmp_path, name):
    """In a manifest, 1 and "1" would be one name."""
    with pytest.raises(ArgumentError, match=r"'metrics' is wrong.\n.*names that are strings"):
        manager(tmp_path).save(1, {}, metrics={name: 1.0, str(name): 2.0})
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(ArgumentError, match=r"'best' is wrong"):
        manager(tmp_path, best=name or 0)


def test_metrics_are_numbers_of_any_kind(tmp_path):
    run = manager(tmp_path)
    values = {"a": True, "b": jnp.bfloat16(0.5), "c": np.ones((1, 1)), "d": [2], "e": -np.inf, "f": 3}
    run.save(1, {}, metrics=values)
    assert run.inspect().metrics == {"a": 1, "b": 0.5, "c": 1, "d": 2, "e": -np.inf, "f": 3}


def test_wrong_steps_and_metrics(tmp_path):
    for step in (-1, 1.0, True):
        with pytest.raises(ArgumentError, match="'step' is wrong"):
            manager(tmp_path).save(step, {})
    with pytest.raises(ArgumentError, match="the metric 'loss', which decides"):
        manager(tmp_path, best="loss").save(1, {}, metrics={"acc": 1.0})
    with pytest.raises(ArgumentError, match="'best' is wrong"):
        manager(tmp_path).best_step()


def test_large_steps_and_a_context(tmp_path):
    with manager(tmp_path) as run:
        save(run, [99_999_999, 100_000_000, 12_345_678_901])
    run.wait()
    assert run.all_steps() == [99_999_999, 100_000_000, 12_345_678_901]
    assert fx_ckpt.inspect(run.path(100_000_000)).step == 100_000_000
