"""The files of `fx_ckpt.checkpoints` (Flax's names): a crash or a failing disk leaves the old steps or the new ones."""

import os
import shutil

import numpy as np
import orbax.checkpoint as ocp
import pytest
from fx_ckpt import checkpoints
from fx_core import filesystem
from fx_core.errors import StorageError
from fx_core.testing.disks import RecordedDisk
from fx_core.testing.faults import FaultyFileSystem, fail_at, fail_from, io_error, no_space


def tree_of(step):
    return {"w": np.full(5, step), "step": step}


def save(directory, step, **options):
    return checkpoints.save_checkpoint(directory, tree_of(step), step, keep=1, **options)


def check(directory, expected):
    tree = checkpoints.restore_checkpoint(directory, tree_of(0))
    assert tree["step"] in expected
    assert tree["w"].tolist() == [tree["step"]] * 5
    save(directory, 9)
    assert checkpoints.restore_checkpoint(directory, None)["step"] == 9
    return tree["step"]


@pytest.mark.parametrize(("step", "overwrite"), [(2, False), (1, True)], ids=["next step", "overwrite"])
def test_loss_of_power(tmp_path, step, overwrite):
    (tmp_path / "disk").mkdir()
    save(tmp_path / "disk", 1)
    with RecordedDisk(tmp_path / "disk") as disk:
        save(tmp_path / "disk", step, overwrite=overwrite)
    found = []
    for index, state in enumerate([*disk.power_losses(), *disk.kills()]):
        state.write(tmp_path / str(index))
        found.append(check(tmp_path / str(index), (1, step)))
    assert set(found) == {1, step}
    assert len(found) > 15


@pytest.mark.parametrize("error", [no_space, io_error])
@pytest.mark.parametrize("lasting", [False, True], ids=["once", "from then on"])
def test_failing_calls(tmp_path, error, lasting):
    raised = 0
    for index in range(100):
        directory = tmp_path / str(index)
        save(directory, 1)
        outcome = None
        with FaultyFileSystem(directory, fail_from(index, error()) if lasting else fail_at(index, error())) as system:
            try:
                save(directory, 2)
            except OSError as problem:
                outcome = problem
        found = check(directory, (1, 2))
        assert found == 2 or outcome is not None
        raised += outcome is not None
        if not system.failed:
            break
    assert raised >= 5


def test_what_a_killed_writer_left_is_removed_and_a_living_one_is_not(tmp_path):
    (tmp_path / ".checkpoint_3.0123abcd").write_bytes(b"half")
    (tmp_path / ".checkpoint_3.metadata").write_bytes(b"somebody's")

    def look(call):
        if call.kind == "replace":
            # A second writer of the same step, while the first one is at its end.
            checkpoints._clean(tmp_path / "checkpoint_3")

    with FaultyFileSystem(tmp_path, before=look):
        save(tmp_path, 3)
    assert sorted(os.listdir(tmp_path)) == [".checkpoint_3.metadata", "checkpoint_3"]
    assert checkpoints.restore_checkpoint(tmp_path, None)["step"] == 3


def asynchronous():
    return ocp.AsyncCheckpointer(ocp.PyTreeCheckpointHandler())


class Failing(ocp.PyTreeCheckpointer):
    """A checkpointer on a disk that gets full: it stops before the arrays, having begun its directory."""

    def save(self, directory, *args, force=False, **kwargs):
        if force and os.path.isdir(directory):
            shutil.rmtree(directory)  # as Orbax does
        os.makedirs(f"{directory}.orbax-checkpoint-tmp/d")
        raise ValueError("Failed to write 747042 bytes to file 14: No space left on device [os_error_code='28']")


@pytest.mark.parametrize("old", [None, ocp.PyTreeCheckpointer], ids=["a file", "a directory"])
@pytest.mark.parametrize(("step", "overwrite"), [(2, False), (1, True)], ids=["next step", "overwrite"])
def test_a_full_disk_under_a_checkpointer_leaves_the_old_step_and_nothing_else(tmp_path, old, step, overwrite):
    save(tmp_path, 1, orbax_checkpointer=old and old())
    with pytest.raises(StorageError, match="No space left"):
        save(tmp_path, step, overwrite=overwrite, orbax_checkpointer=Failing())
    assert os.listdir(tmp_path) == ["checkpoint_1"]
    check(tmp_path, (1,))


@pytest.mark.parametrize("exchange", [True, False])
@pytest.mark.parametrize("old", [None, ocp.PyTreeCheckpointer], ids=["a file", "a directory"])
@pytest.mark.parametrize("new", [ocp.PyTreeCheckpointer, asynchronous], ids=["at once", "in the background"])
def test_a_checkpointer_replaces_a_step_when_the_new_one_is_written(tmp_path, monkeypatch, exchange, old, new):
    if not exchange:
        monkeypatch.setattr(filesystem, "exchange", lambda a, b: False)
    save(tmp_path, 1, orbax_checkpointer=old and old())
    tree, checkpointer = {"w": np.full(5, 7), "step": 7}, new()
    checkpoints.save_checkpoint(tmp_path, tree, 1, overwrite=True, orbax_checkpointer=checkpointer)
    assert checkpoints.restore_checkpoint(tmp_path, tree_of(0))["step"] == 7
    assert os.listdir(tmp_path) == ["checkpoint_1"]
    checkpointer.close()


def test_later_steps_stay_if_the_step_that_takes_their_place_fails_in_the_background(tmp_path):
    class Late(ocp.PyTreeCheckpointer):
        begun = False

        def save(self, *_, **__):
            self.begun = True

        def wait_until_finished(self):
            if self.begun:
                raise OSError(28, os.strerror(28))

    save(tmp_path, 5)
    late = Late()
    with pytest.raises(StorageError, match="No space left"):
        save(tmp_path, 2, overwrite=True, orbax_checkpointer=late)
    assert os.listdir(tmp_path) == ["checkpoint_5"]
