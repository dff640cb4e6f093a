"""Saves replace and remove what fx wrote, in whichever layout, and nothing else."""

import logging
import os
import shutil

import fx_ckpt
import numpy as np
import orbax.checkpoint as ocp
import pytest
from fx_ckpt import CheckpointManager, checkpoints
from fx_ckpt.errors import ArgumentError
from fx_core.errors import AlreadyExistsError
from fx_core.files import remove_directory

OLD, NEW = {"w": np.zeros(2), "v": np.zeros(3)}, {"w": np.ones(2), "v": np.ones(3)}


def everything(directory):
    return {path: path.read_bytes() if path.is_file() else None for path in directory.rglob("*")}


def folder(path):
    path.mkdir()
    (path / "thesis.tex").write_text("work")


def run(path):
    CheckpointManager(path, async_=False).save(1, OLD)


def dataset(path):
    (path / "data").mkdir(parents=True)
    (path / "manifest.json").write_text('{"files": {"data/x": 1}}')


def annotated(path):
    (fx_ckpt.save(path, OLD) / "README").write_text("our best one")


@pytest.mark.parametrize("make", [folder, run, dataset, annotated])
@pytest.mark.parametrize(
    "write",
    [
        lambda path: fx_ckpt.save(path, NEW, overwrite=True),
        lambda path: fx_ckpt.convert(fx_ckpt.save(path.parent / "other", NEW), "safetensors", path, overwrite=True),
    ],
    ids=["save", "convert"],
)
def test_overwrite_is_for_checkpoints(tmp_path, make, write):
    make(tmp_path / "x")
    before = everything(tmp_path / "x")
    with pytest.raises(AlreadyExistsError, match=r"does not replace what is not its own(.|\n)*move away"):
        write(tmp_path / "x")
    assert everything(tmp_path / "x") == before
    assert not [name for name in os.listdir(tmp_path) if ".fx-" in name]


def test_the_working_directory_is_a_directory_like_others(tmp_path, monkeypatch):
    folder(tmp_path / "here")
    monkeypatch.chdir(tmp_path / "here")
    for path in (".", "..", "../here"):
        with pytest.raises(AlreadyExistsError, match=r"here|thesis"):
            fx_ckpt.save(path, NEW, overwrite=True)
    assert (tmp_path / "here/thesis.tex").exists()


def test_a_manager_replaces_damaged_steps_and_nothing_that_is_none(tmp_path):
    manager = CheckpointManager(tmp_path, "msgpack", async_=False)
    manager.save(1, OLD)
    (manager.path(1) / "manifest.json").write_bytes(b"\0" * 7)
    manager.save(1, NEW, overwrite=True)
    assert manager.restore(1)["w"].sum() == 2
    (manager.path(1) / "notes").write_text("work")
    with pytest.raises(AlreadyExistsError, match="not its own: notes"):
        manager.save(1, OLD, overwrite=True)
    folder(tmp_path / "step_00000002")
    with pytest.raises(AlreadyExistsError, match=r"thesis\.tex"):
        manager.save(2, NEW)


def test_a_file_in_the_place_of_a_step_is_told_at_once_and_a_folder_without_files_is_nothing(tmp_path):
    manager = CheckpointManager(tmp_path, "msgpack")
    (tmp_path / "step_00000001").write_text("work")
    with pytest.raises(AlreadyExistsError, match="a file"):
        manager.save(1, NEW)
    (tmp_path / "step_00000002").mkdir()
    assert manager.save(2, NEW)
    assert manager.all_steps() == [2]


def test_retention_leaves_what_is_not_its_own_and_goes_on(tmp_path, caplog):
    manager = CheckpointManager(tmp_path, "msgpack", keep=1, async_=False)
    manager.save(1, OLD)
    (manager.path(1) / "notes").write_text("work")
    for step in (2, 3):
        manager.save(step, NEW)
    assert manager.all_steps() == [1, 3]
    assert (manager.path(1) / "notes").read_text() == "work"
    assert "files that are not its own: notes" in caplog.text


def test_retention_goes_on_when_a_step_cannot_be_read_or_removed(tmp_path, monkeypatch, caplog):
    manager = CheckpointManager(tmp_path, "msgpack", keep=1, best="loss", async_=False)
    for step in (1, 2):
        manager.save(step, OLD, metrics={"loss": -step})
    first = manager.path(1)

    def refused(path):
        if path == first:
            raise PermissionError(13, "Permission denied", str(path))
        remove_directory(path)

    manager.best = None
    monkeypatch.setattr("fx_ckpt.manager.remove_directory", refused)
    assert manager.save(3, NEW)
    assert manager.all_steps() == [1, 3]
    assert "cannot be removed" in caplog.text

    def unreadable(path):
        raise PermissionError(13, "Permission denied", str(path))

    manager.best = "loss"
    monkeypatch.setattr("fx_ckpt.operations.inspect", unreadable)
    assert manager.save(4, NEW, metrics={"loss": 1})
    assert manager.all_steps() == [1, 4]
    assert "no metrics that can be read" in caplog.text


def test_steps_that_are_links(tmp_path):
    manager = CheckpointManager(tmp_path / "run", "msgpack", keep=1, async_=False)
    archived = fx_ckpt.save(tmp_path / "archived", OLD)
    manager.save(1, OLD)
    shutil.move(manager.path(1), tmp_path / "one")
    manager.path(1).symlink_to(tmp_path / "one")
    assert manager.restore()["w"].sum() == 0
    with pytest.raises(AlreadyExistsError, match="a symbolic link to"):
        manager.save(1, NEW, overwrite=True)
    manager.save(2, NEW)
    assert os.listdir(tmp_path / "run") == ["step_00000002"]
    assert fx_ckpt.restore(tmp_path / "one")["w"].sum() == fx_ckpt.restore(archived)["w"].sum() == 0


@pytest.mark.parametrize("backend", ["msgpack", "safetensors", "orbax"])
def test_backups_by_hard_links_leave_the_original_whole(tmp_path, backend):
    path = fx_ckpt.save(tmp_path / "x", NEW, backend=backend)
    shutil.copytree(path, tmp_path / "backup", copy_function=os.link)
    for place in (path, tmp_path / "backup"):
        assert fx_ckpt.restore(place)["w"].sum() == 2
    fx_ckpt.save(path, OLD, backend=backend, overwrite=True)
    assert fx_ckpt.restore(tmp_path / "backup")["w"].sum() == 2


@pytest.mark.parametrize("backend", ["msgpack", "safetensors"])
def test_files_that_are_links_to_places_inside(tmp_path, backend):
    path = fx_ckpt.save(tmp_path / "x", NEW, backend=backend)
    twin = CheckpointManager(tmp_path / "run", backend, async_=False)
    twin.save(1, NEW)
    (file,) = (path / "data").iterdir()
    file.rename(tmp_path / "moved")
    file.symlink_to(tmp_path / "moved")
    with pytest.raises(Exception, match="a symbolic link that leads out"):
        fx_ckpt.restore(path)


LAYOUTS = {
    "one file": lambda path, tree: fx_ckpt.save_safetensors(path, tree),
    "its name": lambda path, tree: fx_ckpt.save_safetensors(path / "model.safetensors", tree),
    "two": lambda path, tree: fx_ckpt.save_safetensors(path, tree, largest_file=20),
    "three": lambda path, tree: fx_ckpt.save_safetensors(path, {**tree, "u": tree["v"]}, largest_file=20),
}


@pytest.mark.parametrize("first", LAYOUTS)
@pytest.mark.parametrize("second", LAYOUTS)
def test_a_save_over_another_layout_is_what_is_loaded(tmp_path, first, second):
    LAYOUTS[first](tmp_path, OLD)
    (tmp_path / "config.json").write_text("theirs")
    (tmp_path / "model-of-mine.safetensors").write_bytes(b"theirs")
    LAYOUTS[second](tmp_path, NEW)
    loaded = fx_ckpt.load_safetensors(tmp_path)
    assert {name: array.sum() for name, array in loaded.items()}.items() >= {"w": 2, "v": 3}.items()
    assert all(array.min() == 1 for array in loaded.values())
    fresh = tmp_path / "fresh"
    LAYOUTS[second](fresh, NEW)
    theirs = {"fresh", "config.json", "model-of-mine.safetensors"}
    assert set(os.listdir(tmp_path)) - theirs == set(os.listdir(fresh))


@pytest.mark.parametrize("first", LAYOUTS)
@pytest.mark.parametrize("second", LAYOUTS)
def test_an_interrupted_save_over_another_is_no_mixture(tmp_path, first, second, monkeypatch):
    saved = []
    for stop in range(12):
        path = tmp_path / str(stop)
        LAYOUTS[first](path, OLD)
        calls = iter(range(100))

        def failing(*arguments, real, stop=stop, calls=calls):
            if next(calls) == stop:
                raise KeyboardInterrupt
            return real(*arguments)

        with monkeypatch.context() as patch:
            replace, unlink = os.replace, type(path).unlink
            patch.setattr(os, "replace", lambda *a, real=replace, f=failing: f(*a, real=real))
            patch.setattr(
                type(path),
                "unlink",
                lambda self, missing_ok=False, real=unlink, f=failing: f(self, missing_ok, real=real),
            )
            try:
                LAYOUTS[second](path, NEW)
            except KeyboardInterrupt:
                pass
            else:
                saved.append(stop)
        try:
            loaded = fx_ckpt.load_safetensors(path)
        except fx_ckpt.errors.DamagedDataError:
            continue
        assert len({float(x) for array in loaded.values() for x in array}) == 1
    assert saved


def test_a_directory_in_the_place_of_a_file_and_the_other_way_round(tmp_path):
    (tmp_path / "m.safetensors").mkdir()
    (tmp_path / "dir").write_text("work")
    for name, found in {"m.safetensors": "a directory", "dir": "a file"}.items():
        with pytest.raises(AlreadyExistsError, match=found):
            fx_ckpt.save_safetensors(tmp_path / name, NEW)
    with pytest.raises(ArgumentError, match=r"'metadata' is wrong(.|\n)*text by name"):
        fx_ckpt.save_safetensors(tmp_path / "x", NEW, metadata={"step": 3})


@pytest.mark.parametrize("overwrite", [True, False])
def test_steps_of_flax_keep_all_with_zero(tmp_path, overwrite):
    for step in (1, 2, 3):
        checkpoints.save_checkpoint(tmp_path, OLD, step, keep=0, overwrite=overwrite)
    assert checkpoints.available_steps(tmp_path) == [1, 2, 3]
    with pytest.raises(ArgumentError, match="0 for all"):
        checkpoints.save_checkpoint(tmp_path, OLD, 4, keep=-1)


def test_what_flax_did_not_write_stays(tmp_path, caplog):
    caplog.set_level(logging.WARNING)
    folder(tmp_path / "checkpoint_1")
    (tmp_path / "checkpoint_2").write_text("a list of things to do")
    fx_ckpt.save(tmp_path / "checkpoint_3", OLD)
    for step in (1, 2, 3):
        with pytest.raises(AlreadyExistsError):
            checkpoints.save_checkpoint(tmp_path, NEW, step, overwrite=True)
    checkpoints.save_checkpoint(tmp_path, NEW, 4, keep=1)
    checkpoints.save_checkpoint(tmp_path, NEW, 0, keep=1, overwrite=True)
    assert checkpoints.available_steps(tmp_path) == [0, 1, 2, 3]
    assert caplog.text.count("is kept") >= 6


@pytest.mark.parametrize("order", [("flax", "orbax"), ("orbax", "flax"), ("orbax", "orbax"), ("flax", "flax")])
@pytest.mark.parametrize("atomic", [True, False])
def test_a_step_in_another_layout_is_replaced(tmp_path, order, atomic, monkeypatch):
    if not atomic:
        monkeypatch.setattr("fx_core.filesystem.exchange", lambda a, b: False)
    writers = {"flax": None, "orbax": ocp.PyTreeCheckpointer()}
    for writer, tree in zip(order, (OLD, NEW)):
        checkpoints.save_checkpoint(tmp_path, tree, 1, overwrite=True, orbax_checkpointer=writers[writer])
    assert checkpoints.restore_checkpoint(tmp_path, None)["w"].sum() == 2
    assert os.listdir(tmp_path) == ["checkpoint_1"]


class Failing:
    def save(self, path, tree, force=False):
        raise OSError(28, "No space left on device")


def test_a_failing_orbax_leaves_the_old_step(tmp_path):
    checkpoints.save_checkpoint(tmp_path, NEW, 1)
    with pytest.raises(OSError, match="No space"):
        checkpoints.save_checkpoint(tmp_path, OLD, 1, overwrite=True, orbax_checkpointer=Failing())
    assert checkpoints.restore_checkpoint(tmp_path, None)["w"].sum() == 2
    assert os.listdir(tmp_path) == ["checkpoint_1"]


WRITERS = {
    "save": lambda path: fx_ckpt.save(path, NEW),
    "manager": lambda path: CheckpointManager(path, async_=False).save(1, NEW),
    "save_checkpoint": lambda path: checkpoints.save_checkpoint(path, NEW, 1),
    "save_safetensors": lambda path: fx_ckpt.save_safetensors(path, NEW),
}
READERS = {
    "restore": fx_ckpt.restore,
    "inspect": fx_ckpt.inspect,
    "verify": fx_ckpt.verify,
    "convert": lambda path: fx_ckpt.convert(path, "msgpack"),
    "all_steps": lambda path: CheckpointManager(path).all_steps(),
    "restore_checkpoint": lambda path: checkpoints.restore_checkpoint(path, None),
    "available_steps": checkpoints.available_steps,
    "latest_checkpoint": checkpoints.latest_checkpoint,
    "load_safetensors": fx_ckpt.load_safetensors,
}


@pytest.mark.parametrize("name", [*WRITERS, *READERS])
def test_places_elsewhere_are_refused_by_every_function(tmp_path, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    for path in ("gs://bucket/run", "s3://bucket/x.safetensors"):
        with pytest.raises(ArgumentError, match="paths are not on this machine"):
            {**WRITERS, **READERS}[name](path)
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("name", WRITERS)
def test_home_is_home_for_every_function(tmp_path, monkeypatch, name):
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    WRITERS[name]("~/x")
    assert os.listdir(tmp_path / "work") == []
    assert os.listdir(tmp_path / "home") == ["x"]
    read = {
        "save": fx_ckpt.restore,
        "manager": lambda path: CheckpointManager(path).restore(),
        "save_checkpoint": lambda path: checkpoints.restore_checkpoint(path, None),
        "save_safetensors": fx_ckpt.load_safetensors,
    }
    assert read[name]("~/x")["w"].sum() == 2


@pytest.mark.parametrize("name", WRITERS)
def test_a_file_in_the_place_of_a_directory(tmp_path, name):
    (tmp_path / "x").write_text("work")
    with pytest.raises(AlreadyExistsError, match="a file"):
        WRITERS[name](tmp_path / "x")
    with pytest.raises(AlreadyExistsError, match="a file"):
        WRITERS[name](tmp_path / "x" / "y")
    assert (tmp_path / "x").read_text() == "work"
