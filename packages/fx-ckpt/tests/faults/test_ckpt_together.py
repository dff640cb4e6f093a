"""Several writers, readers during clean-up and replacement, and saves in the background that fail."""

import os
import threading
import time

import fx_ckpt
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from fx_ckpt import CheckpointManager
from fx_ckpt.errors import NoCheckpointError
from fx_ckpt.testing.crashes import ERRORS
from fx_core.errors import AlreadyExistsError, DamagedFilesError, ManifestError
from fx_core.testing.faults import FaultyFileSystem, fail_from, io_error

pytestmark = pytest.mark.slow  # about threads and disks, and no part of it depends on versions

BACKENDS = ["msgpack", "safetensors"]


def tree_of(step, size=64):
    return {"a": np.full(size, step), "b": {"c": np.full((3, size), step, np.int16), "step": step}}


def assert_whole(tree):
    step = tree["b"]["step"]
    assert tree["a"].tolist() == [step] * len(tree["a"])
    assert (tree["b"]["c"] == step).all()
    return step


def until(stop, act):
    """Call a function in a thread until told to stop; gives the thread and what it raised."""
    problems = []

    def run():
        try:
            while not stop.is_set():
                act()
        except BaseException as error:
            problems.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    return thread, problems


@pytest.mark.parametrize("backend", BACKENDS)
def test_readers_during_clean_up_get_the_newest_step(tmp_path, backend):
    """Each save removes the step that readers may be reading."""
    stop, seen = threading.Event(), []
    with CheckpointManager(tmp_path, backend, keep=1, async_=False) as writer:
        writer.save(0, tree_of(0))
        readers = [until(stop, lambda: seen.append(assert_whole(CheckpointManager(tmp_path).restore()))) for _ in "12"]
        for step in range(1, 60):
            writer.save(step, tree_of(step))
        stop.set()
    for thread, problems in readers:
        thread.join()
        assert problems == []
    assert len(set(seen)) > 3
    assert os.listdir(tmp_path) == ["step_00000059"]


def test_a_step_that_was_asked_for_and_retired_meanwhile_is_absent(tmp_path, monkeypatch):
    manager = CheckpointManager(tmp_path, "msgpack", keep=1)
    manager.save(1, tree_of(1))
    original, steps, retired = fx_ckpt.operations.restore, iter((2, 3)), []

    def retired_meanwhile(path, *args, **options):
        monkeypatch.setattr("fx_ckpt.operations.restore", original)
        with CheckpointManager(tmp_path, "msgpack", keep=1) as other:
            other.save(next(steps), tree_of(2 + len(retired)))
            retired.append(path)
        return original(path, *args, **options)

    manager.wait()
    monkeypatch.setattr("fx_ckpt.operations.restore", retired_meanwhile)
    with pytest.raises(NoCheckpointError, match=r"no checkpoint of step 1(.|\n)*steps: 2"):
        manager.restore(1)
    monkeypatch.setattr("fx_ckpt.operations.restore", retired_meanwhile)
    assert manager.restore()["b"]["step"] == 3


@pytest.mark.parametrize("backend", BACKENDS)
def test_readers_during_replacement_never_see_a_mixture(tmp_path, backend):
    """Each save replaces what readers may be reading, by an exchange of directories."""
    path, stop, seen = tmp_path / "x", threading.Event(), []
    fx_ckpt.save(path, tree_of(0), backend=backend)
    readers = [until(stop, lambda: seen.append(assert_whole(fx_ckpt.restore(path)))) for _ in "12"]
    readers.append(until(stop, lambda: fx_ckpt.verify(path)))
    for step in range(1, 60):
        fx_ckpt.save(path, tree_of(step), backend=backend, overwrite=True)
    stop.set()
    for thread, problems in readers:
        thread.join()
        assert problems == []
    assert len(set(seen)) > 3
    assert os.listdir(tmp_path) == ["x"]


def test_a_checkpoint_that_is_replaced_without_end_is_an_error(tmp_path, monkeypatch):
    fx_ckpt.save(tmp_path / "x", tree_of(0), backend="msgpack")
    marks = iter(range(1000))
    monkeypatch.setattr("fx_core.replacing._mark", lambda path: next(marks))
    with pytest.raises(ManifestError, match="was replaced 20 times while it was read"):
        fx_ckpt.restore(tmp_path / "x")


def test_two_writers_in_one_directory_leave_whole_steps(tmp_path):
    """Each has its own steps; both retire, and both clean up."""
    errors = []

    def write(steps):
        manager = CheckpointManager(tmp_path, "msgpack", keep=2, async_=False)
        for step in steps:
            try:
                manager.save(step, tree_of(step))
            except (fx_ckpt.errors.StepTakenError, AlreadyExistsError) as error:
                errors.append(error)

    threads = [threading.Thread(target=write, args=(range(first, 60, 2),)) for first in (1, 2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    manager = CheckpointManager(tmp_path)
    for step in manager.all_steps():
        assert assert_whole(manager.restore(step)) == step
    assert len(errors) < 59
    with manager:
        manager.save(99, tree_of(99))
    assert not [name for name in os.listdir(tmp_path) if name.startswith(".")]


@pytest.mark.parametrize("error", ERRORS)
def test_a_failed_save_in_the_background_is_told_and_loses_nothing(tmp_path, error):
    manager = CheckpointManager(tmp_path, "msgpack", keep=1)
    manager.save(1, tree_of(1))
    manager.wait()
    with FaultyFileSystem(tmp_path, fail_from(12, ERRORS[error]())):
        manager.save(2, tree_of(2))
        with pytest.raises(OSError, match=ERRORS[error]().strerror):
            manager.wait()
    assert manager.latest_step() == 1
    assert assert_whole(manager.restore()) == 1
    manager.save(2, tree_of(2))
    assert manager.latest_step() == 2
    assert assert_whole(manager.restore()) == 2
    assert os.listdir(tmp_path) == ["step_00000002"]


def test_the_next_call_tells_of_a_failed_save_once(tmp_path):
    for act in (
        lambda manager: manager.latest_step(),
        lambda manager: manager.save(2, tree_of(2)),
        lambda manager: manager.restore(),
        lambda manager: manager.path(1),
        lambda manager: manager.__exit__(None, None, None),
    ):
        manager = CheckpointManager(tmp_path / "run", "msgpack")
        with FaultyFileSystem(tmp_path, fail_from(3, io_error())):
            manager.save(1, tree_of(1))
            while manager._background.busy:
                time.sleep(0.001)
        with pytest.raises(OSError, match="Input/output error"):
            act(manager)
        assert manager.latest_step() is None


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_save_in_the_background_holds_what_the_tree_was(tmp_path, backend):
    """NumPy arrays are written to, and JAX arrays donated, right after `save` returns."""
    hold, numbers = threading.Event(), np.arange(1000.0)
    donated = jnp.arange(1000.0)
    manager = CheckpointManager(tmp_path, backend)
    expected = {"numpy": numbers.copy(), "jax": np.asarray(donated).copy()}

    def wait_for_changes(call):
        if call.kind == "mkdir":
            assert hold.wait(30)

    with FaultyFileSystem(tmp_path, before=wait_for_changes):
        manager.save(1, {"numpy": numbers, "jax": donated})
        numbers[:] = -1
        jax.jit(lambda x: x * 0 - 1, donate_argnums=0)(donated).block_until_ready()
        assert manager._background.busy
        hold.set()
        manager.wait()
    saved = manager.restore()
    assert saved["numpy"].tobytes() == expected["numpy"].tobytes()
    assert np.asarray(saved["jax"]).tobytes() == expected["jax"].tobytes()


def test_a_step_is_listed_only_when_it_is_on_the_disk(tmp_path):
    """Another manager looks at every call of the save."""
    seen = []
    manager = CheckpointManager(tmp_path, "msgpack")
    manager.save(1, tree_of(1))
    manager.wait()

    def look(call):
        seen.append((call.kind, CheckpointManager(tmp_path).latest_step()))

    with FaultyFileSystem(tmp_path, before=look):
        manager.save(2, tree_of(2))
        manager.wait()
    kinds = [kind for kind, _ in seen]
    visible = [step for _, step in seen].index(2)
    assert [step for _, step in seen] == [1] * visible + [2] * (len(seen) - visible)
    # Files, directories and the manifest were flushed before; the flush of the parent is what comes after the rename.
    assert kinds[:visible].count("fsync") >= 4
    assert kinds[visible - 1] == "rename"
    assert "fsync" in kinds[visible:]


def test_retention_with_damaged_steps_removes_no_good_one_but_the_old(tmp_path):
    manager = CheckpointManager(tmp_path, "msgpack", keep=2, best="loss", mode="min", async_=False)
    for step in (1, 2, 3):
        manager.save(step, tree_of(step), metrics={"loss": step})
    assert manager.all_steps() == [1, 2, 3]
    (manager.path(1) / "manifest.json").write_bytes(b"{}")
    manager.save(4, tree_of(4), metrics={"loss": 4})
    # Step 1 is the best no more: nobody can read it. Step 2 is the best of the rest when it would have been retired.
    assert manager.all_steps() == [2, 3, 4]
    (manager.path(4) / "data/state.msgpack").write_bytes(b"")
    with pytest.raises(DamagedFilesError, match=r"state\.msgpack: 0 bytes"):
        manager.restore()
    assert assert_whole(manager.restore(3)) == 3
    manager.save(5, tree_of(5), metrics={"loss": 5})
    assert assert_whole(manager.restore()) == 5
    assert assert_whole(manager.restore(manager.best_step())) == 2


def test_steps_that_took_each_others_place_are_noticed(tmp_path):
    manager = CheckpointManager(tmp_path, "msgpack", async_=False)
    manager.save(1, tree_of(1))
    manager.save(2, tree_of(2))
    os.rename(manager.path(1), tmp_path / "aside")
    os.rename(manager.path(2), manager.path(1))
    os.rename(tmp_path / "aside", manager.path(2))
    for step in (1, 2):
        with pytest.raises(ManifestError, match=rf"another step(.|\n)*expected: {step}(.|\n)*rename it back"):
            manager.restore(step)
        with pytest.raises(ManifestError, match="another step"):
            manager.inspect(step)
