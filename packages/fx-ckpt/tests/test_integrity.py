"""Whole or not at all, and no byte changes unnoticed; hooks see what happens."""

import errno
import json
import os
import subprocess
import sys
import textwrap

import fx_ckpt
import jax.numpy as jnp
import numpy as np
import pytest
from fx_ckpt import checkpoints
from fx_ckpt.errors import DamagedDataError
from fx_core.errors import AlreadyExistsError, DamagedFilesError, ManifestError, StorageError
from fx_core.files import MANIFEST, AtomicDirectory
from fx_core.plugins import hookimpl, registry
from fx_core.testing.faults import FaultyFileSystem, fail_from, no_space

TREE = {"w": jnp.arange(6.0).reshape(2, 3), "step": 3}


@pytest.mark.parametrize("backend", ["msgpack", "safetensors", "orbax"])
def test_damage_in_any_file_is_found_and_named(tmp_path, backend):
    path = fx_ckpt.save(tmp_path / "x", TREE, backend=backend)
    names = [MANIFEST, *fx_ckpt.inspect(path).files]
    assert len(names) >= 2
    for name in names:
        whole = (path / name).read_bytes()
        middle = len(whole) // 2
        flipped = whole[:middle] + bytes([whole[middle] ^ 1]) + whole[middle + 1 :] if whole else b"x"
        for damaged in (flipped, whole[:-1] if whole else b"xy", whole + b"\0", None):
            if damaged is None:
                (path / name).unlink()
            else:
                (path / name).write_bytes(damaged)
            for check in (fx_ckpt.restore, fx_ckpt.verify):
                with pytest.raises((DamagedFilesError, ManifestError), match=name):
                    check(path)
        (path / name).write_bytes(whole)
    assert fx_ckpt.verify(path).backend == backend


def test_swapped_and_added_files_are_found(tmp_path):
    one = fx_ckpt.save(tmp_path / "1", TREE, backend="msgpack")
    two = fx_ckpt.save(tmp_path / "2", {**TREE, "step": 4}, backend="msgpack")
    (one / "data/state.msgpack").write_bytes((two / "data/state.msgpack").read_bytes())
    with pytest.raises(DamagedFilesError, match=r"state\.msgpack: the content has changed"):
        fx_ckpt.restore(one)
    (two / "data/more").touch()
    with pytest.raises(DamagedFilesError, match="data/more: not in the manifest"):
        fx_ckpt.restore(two)


def test_other_directories_are_no_checkpoints(tmp_path):
    with pytest.raises(ManifestError, match="no manifest here"):
        fx_ckpt.restore(tmp_path)
    with AtomicDirectory(tmp_path / "bundle", format="fx-bundle", version=1):
        pass
    with pytest.raises(ManifestError, match="something else"):
        fx_ckpt.inspect(tmp_path / "bundle")


@pytest.mark.parametrize("change", [{"structure": 3}, {"metrics": []}, {"backend": None}])
def test_hostile_manifests_that_are_sealed_correctly(tmp_path, change):
    path = fx_ckpt.save(tmp_path / "x", TREE, backend="msgpack")
    manifest = json.loads((path / MANIFEST).read_text())
    with AtomicDirectory(tmp_path / "y", format="fx-checkpoint", version=1) as new:
        fields = {k: v for k, v in manifest.items() if k not in ("files", "digest", *change)}
        new.manifest.update(fields, **{k: v for k, v in change.items() if v is not None})
    with pytest.raises(DamagedDataError, match="stored structure of the tree is not valid"):
        fx_ckpt.restore(tmp_path / "y")


def test_a_taken_path_is_kept_unless_overwrite(tmp_path):
    path = fx_ckpt.save(tmp_path / "x", TREE, backend="msgpack")
    with pytest.raises(AlreadyExistsError):
        fx_ckpt.save(path, {"step": 9}, backend="msgpack")
    assert fx_ckpt.restore(path)["step"] == 3
    fx_ckpt.save(path, {"step": 9}, backend="orbax", overwrite=True)
    assert fx_ckpt.restore(path) == {"step": 9}
    assert os.listdir(tmp_path) == ["x"]


WRITERS = {
    "msgpack": lambda path, tree: fx_ckpt.save(path, tree, backend="msgpack", overwrite=True),
    "safetensors": lambda path, tree: fx_ckpt.save(path, tree, backend="safetensors", overwrite=True),
    "orbax": lambda path, tree: fx_ckpt.save(path, tree, backend="orbax", overwrite=True),
    "save_checkpoint": lambda path, tree: checkpoints.save_checkpoint(path, tree, 1, overwrite=True),
    "save_safetensors": lambda path, tree: fx_ckpt.save_safetensors(path / "m.safetensors", tree),
}


@pytest.mark.parametrize("writer", WRITERS)
def test_a_full_disk_is_named_and_leaves_what_was_there(tmp_path, writer):
    WRITERS[writer](tmp_path / "x", {"w": np.ones(2)})
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    full = FaultyFileSystem(tmp_path, fail_from(0, no_space()))
    with full, pytest.raises(StorageError, match="Free space there") as error:
        WRITERS[writer](tmp_path / "x", {"w": np.zeros(2)})
    assert error.value.errno == errno.ENOSPC
    assert error.value.path.startswith(str(tmp_path / "x"))
    assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == before


def test_plugins_hear_of_saves_and_restores_and_may_stop_a_save(tmp_path):
    heard = []

    class Listener:
        @hookimpl
        def fx_saving(self, path, tree, metadata):
            heard.append(("saving", path, dict(metadata)))
            if metadata.get("stop"):
                raise PermissionError("not today")

        @hookimpl
        def fx_restored(self, path, tree, metadata):
            heard.append(("restored", path, tree["step"]))

    registry().register(Listener(), name="listener")
    try:
        path = fx_ckpt.save(tmp_path / "x", TREE, backend="msgpack", metadata={"a": 1})
        fx_ckpt.restore(path)
        with pytest.raises(PermissionError, match="not today"):
            fx_ckpt.save(tmp_path / "y", TREE, backend="msgpack", metadata={"stop": True})
    finally:
        registry().unregister("listener")
    assert heard[:2] == [("saving", path, {"a": 1}), ("restored", path, 3)]
    assert os.listdir(tmp_path) == ["x"]


def test_importing_loads_no_orbax():
    program = "import sys, fx_ckpt; assert not [m for m in sys.modules if m.startswith(('orbax', 'tensorstore'))]"
    subprocess.run([sys.executable, "-c", program], check=True)


def test_without_orbax_the_error_names_the_extra(tmp_path):
    program = textwrap.dedent(f"""
        import sys
        sys.modules["orbax"] = sys.modules["orbax.checkpoint"] = None
        import fx_ckpt
        fx_ckpt.save({str(tmp_path / "m")!r}, {{"a": 1}}, backend="msgpack")
        try:
            fx_ckpt.save({str(tmp_path / "o")!r}, {{"a": 1}}, backend="orbax")
        except Exception as error:
            assert "fx-ckpt[orbax]" in str(error), error
        else:
            raise SystemExit("no error")
    """)
    subprocess.run([sys.executable, "-c", program], check=True)
    assert os.listdir(tmp_path) == ["m"]
