"""Any byte flipped, any length cut, any file removed, added or swapped: an error that names the file."""

import fx_ckpt
import numpy as np
import pytest
from fx_ckpt.testing.damage import added_files, cut_files, every_damage, flipped_bytes, removed_files, swapped_files
from fx_ckpt.testing.scenarios import tree_of
from fx_core.errors.files import DamagedFilesError


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    return fx_ckpt.save(tmp_path_factory.mktemp("small") / "x" / "x", tree_of(1), backend="msgpack")


def test_every_byte_of_a_small_checkpoint(small):
    assert flipped_bytes(small) > 900


def test_every_length_of_a_small_checkpoint(small):
    assert cut_files(small) > 900


@pytest.mark.parametrize(("backend", "every"), [("msgpack", 29), ("safetensors", 1), ("orbax", 97)])
def test_every_kind_of_damage(tmp_path, backend, every):
    found = every_damage(backend, (tree_of(1), tree_of(2)), tmp_path, every)
    assert min(found.values()) >= 3


def test_a_flipped_byte_in_a_large_file(tmp_path):
    """Large files are read in blocks, by several threads."""
    tree = {"a": np.arange(3 * 2**20, dtype=np.float32)}
    path = fx_ckpt.save(tmp_path / "x", tree, backend="msgpack")
    assert flipped_bytes(path, every=2**20 - 7) > 10
    (name,) = fx_ckpt.inspect(path).files
    assert name.startswith("data/")


def test_each_check_fails_when_damage_goes_unnoticed(small, tmp_path, monkeypatch):
    """The checks themselves are checked: with verification switched off they fail."""
    monkeypatch.setattr("fx_ckpt.operations.verify_files", lambda *args, **kwargs: None)
    for act in (flipped_bytes, cut_files, removed_files, added_files, lambda path: swapped_files(path, path)):
        with pytest.raises(Exception, match=r"noticed nothing|These bytes cannot be read|lacks a file"):
            act(fx_ckpt.save(tmp_path / act.__name__ / "x", tree_of(1), backend="msgpack"))


def test_nothing_is_returned_and_the_target_is_left_alone(small):
    target = tree_of(1)
    data = small / "data" / "state.msgpack"
    whole = data.read_bytes()
    data.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    result = None
    with pytest.raises(DamagedFilesError):
        result = fx_ckpt.restore(small, target)
    data.write_bytes(whole)
    assert result is None
    assert target["w"].tobytes() == tree_of(1)["w"].tobytes()
