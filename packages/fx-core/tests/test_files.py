"""Atomic directories and manifests: whole or absent, and no byte changes unnoticed."""

import errno
import json
import os
import pickle
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest
from fx_core import filesystem
from fx_core.errors import AlreadyExistsError, ArgumentError, DamagedFilesError, FxError, ManifestError, StorageError
from fx_core.files import (
    MANIFEST,
    AtomicDirectory,
    canonical_json,
    clean_leftovers,
    read_manifest,
    remove_directory,
    settled,
    verify_files,
)


def write(path, content=b"0123456789", overwrite=False):
    with AtomicDirectory(path, format="test", version=1, overwrite=overwrite) as new:
        (new.directory / "sub").mkdir()
        (new.directory / "sub" / "a.bin").write_bytes(content)
        (new.directory / "b.bin").write_bytes(b"")
        new.manifest["note"] = {"x": [1, 2.5, None, True, "ü"]}
    return path


def check(path):
    manifest = read_manifest(path, format="test", version=1)
    verify_files(path, manifest)
    return manifest


def test_round_trip_and_nothing_else_left(tmp_path):
    manifest = check(write(tmp_path / "deep" / "thing"))
    assert manifest["note"] == {"x": [1, 2.5, None, True, "ü"]}
    assert set(manifest["files"]) == {"sub/a.bin", "b.bin"}
    assert os.listdir(tmp_path / "deep") == ["thing"]


def test_a_failing_writer_leaves_nothing(tmp_path):
    with pytest.raises(ZeroDivisionError), AtomicDirectory(tmp_path / "x", format="test", version=1) as new:  # noqa: PT012
        (new.directory / "half").write_bytes(b"1")
        raise ZeroDivisionError
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize(
    ("code", "fix"), [(errno.ENOSPC, "Free space"), (errno.EROFS, "can be written"), (errno.EIO, "Check the disk")]
)
@pytest.mark.parametrize("where", ["entering", "the body", "leaving"])
def test_what_the_system_cannot_write_is_named_and_leaves_what_was_there(tmp_path, monkeypatch, where, code, fix):
    write(tmp_path / "x", b"old")

    def fail(*_):
        raise OSError(code, os.strerror(code))

    name = {"entering": "lock", "leaving": "flush_tree"}.get(where)
    with monkeypatch.context() as patch, pytest.raises(StorageError, match=fix) as caught:  # noqa: PT012
        if name is not None:
            patch.setattr(filesystem, name, fail)
        with AtomicDirectory(tmp_path / "x", format="test", version=1, overwrite=True):
            if where == "the body":
                fail()
    error = pickle.loads(pickle.dumps(caught.value))
    assert isinstance(error, OSError)
    assert isinstance(error, FxError)
    assert (error.errno, error.filename, error.path) == (code, str(tmp_path / "x"), str(tmp_path / "x"))
    assert os.strerror(code) in str(error)
    assert (tmp_path / "x/sub/a.bin").read_bytes() == b"old"
    check(tmp_path / "x")
    clean_leftovers(tmp_path)
    assert os.listdir(tmp_path) == ["x"]


def test_what_python_has_a_class_for_stays_that(tmp_path):
    with pytest.raises(PermissionError), AtomicDirectory(tmp_path / "x", format="test", version=1):
        raise PermissionError(errno.EACCES, "no")
    assert os.listdir(tmp_path) == []


def test_a_taken_path_is_refused_and_kept(tmp_path):
    write(tmp_path / "x", b"old")
    with pytest.raises(AlreadyExistsError, match="something at this path already") as error:
        write(tmp_path / "x", b"new")
    assert error.value.path == str(tmp_path / "x")
    assert (tmp_path / "x/sub/a.bin").read_bytes() == b"old"


@pytest.mark.parametrize("atomic", [True, False])
def test_overwrite_replaces_and_cleans(tmp_path, monkeypatch, atomic):
    if not atomic:
        monkeypatch.setattr(filesystem, "exchange", lambda a, b: False)
    write(tmp_path / "x", b"old")
    check(write(tmp_path / "x", b"new", overwrite=True))
    assert (tmp_path / "x/sub/a.bin").read_bytes() == b"new"
    assert os.listdir(tmp_path) == ["x"]


def test_an_interrupted_replacement_is_read_from_the_old_place_and_settled_by_the_next_writer(tmp_path):
    write(tmp_path / "x", b"old")
    os.rename(tmp_path / "x", tmp_path / ".x.fx-old")
    assert settled(tmp_path / "x") == tmp_path / ".x.fx-old"
    check(settled(tmp_path / "x"))
    clean_leftovers(tmp_path, "x")
    assert settled(tmp_path / "x") == tmp_path / "x"
    check(tmp_path / "x")


def test_each_flipped_byte_is_noticed(tmp_path):
    path = write(tmp_path / "x")
    for name in ["sub/a.bin", MANIFEST]:
        whole = (path / name).read_bytes()
        for position in range(0, len(whole), 1 if name != MANIFEST else 7):
            for bit in (0x01, 0x20):
                torn = bytearray(whole)
                torn[position] ^= bit
                (path / name).write_bytes(torn)
                with pytest.raises((DamagedFilesError, ManifestError), match=name.replace("/", "/")):
                    check(path)
        (path / name).write_bytes(whole)
    check(path)


def test_cuts_missing_added_and_linked_files_are_named(tmp_path):
    path = write(tmp_path / "x")
    manifest = read_manifest(path, format="test", version=1)
    (path / "sub/a.bin").write_bytes(b"012345678")
    (path / "b.bin").unlink()
    (path / "more").write_bytes(b"")
    with pytest.raises(DamagedFilesError) as error:
        verify_files(path, manifest)
    assert error.value.problems == (
        "b.bin: missing",
        "more: not in the manifest",
        "sub/a.bin: 9 bytes, 10 were written",
    )
    (path / "more").unlink()
    (tmp_path / "outside").write_bytes(b"0123456789")
    (path / "sub/a.bin").unlink()
    (path / "sub/a.bin").symlink_to(tmp_path / "outside")
    with pytest.raises(DamagedFilesError, match=r"sub/a\.bin: a symbolic link that leads out"):
        verify_files(path, manifest)


def test_many_problems_are_counted():
    error = DamagedFilesError("x", [f"f{i}: missing" for i in range(50)])
    assert "… and 30 more" in str(error)
    assert len(error.problems) == 50


def test_other_formats_versions_and_absence_are_told_apart(tmp_path):
    path = write(tmp_path / "x")
    with pytest.raises(ManifestError, match="holds something else"):
        read_manifest(path, format="other", version=1)
    with pytest.raises(ManifestError, match=r"newer than this fx(.|\n)*upgrade"):
        read_manifest(path, format="test", version=0)
    with pytest.raises(ManifestError, match="no manifest here"):
        read_manifest(tmp_path / "absent", format="test", version=1)


@pytest.mark.parametrize("text", [b"", b"[]", b"{", b"[" * 100_000, b'{"files": {}}', b"\xff", b"null"])
def test_hostile_manifests_are_damaged_ones(tmp_path, text):
    (tmp_path / MANIFEST).write_bytes(text)
    with pytest.raises(ManifestError, match="damaged"):
        read_manifest(tmp_path, format="test", version=1)


def test_a_manifest_over_the_limit_is_not_read(tmp_path, monkeypatch):
    monkeypatch.setattr("fx_core.manifests._LARGEST_MANIFEST", 10)
    with pytest.raises(ManifestError, match="too large"):
        check(write(tmp_path / "x"))


@pytest.mark.parametrize(
    ("value", "problem"),
    [({1: 2}, "key 1 is of type int"), ({"a": (1,)}, "type tuple"), ([float("nan")], "not a finite number")],
)
def test_json_that_would_change_is_refused(value, problem):
    with pytest.raises(ArgumentError, match=f"The metadata cannot be stored as JSON(.|\n)*{problem}"):
        canonical_json(value, "metadata")


def test_endless_nesting_is_refused():
    loop: list = []
    loop.append(loop)
    with pytest.raises(ArgumentError, match="nested more than 500 deep"):
        canonical_json(loop, "metadata")


def test_leftovers_of_the_dead_go_and_those_of_the_living_stay(tmp_path):
    program = textwrap.dedent(f"""
        import os, signal
        from fx_core.files import AtomicDirectory
        with AtomicDirectory({str(tmp_path / "x")!r}, format="test", version=1) as new:
            (new.directory / "half").write_bytes(b"1")
            os.kill(os.getpid(), signal.SIGKILL)
    """)
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == -signal.SIGKILL
    (dead,) = os.listdir(tmp_path)
    assert dead.startswith(".x.fx-new-")
    with AtomicDirectory(tmp_path / "y", format="test", version=1) as living:
        assert [p.name for p in clean_leftovers(tmp_path)] == [dead]
        assert living.directory.exists()
    assert os.listdir(tmp_path) == ["y"]


def test_the_next_writer_of_the_same_path_cleans(tmp_path):
    (tmp_path / ".x.fx-new-0000").mkdir()
    (tmp_path / ".y.fx-new-0000").mkdir()
    write(tmp_path / "x")
    assert sorted(os.listdir(tmp_path)) == [".y.fx-new-0000", "x"]


def test_where_locks_are_missing_leftovers_stay_and_writing_works(tmp_path, monkeypatch):
    monkeypatch.setattr(filesystem, "fcntl", None)
    (tmp_path / ".x.fx-new-0000").mkdir()
    check(write(tmp_path / "x"))
    assert sorted(os.listdir(tmp_path)) == [".x.fx-new-0000", "x"]


def test_remove_directory(tmp_path):
    remove_directory(write(tmp_path / "x"))
    assert os.listdir(tmp_path) == []


def test_manifest_is_plain_json(tmp_path):
    stored = json.loads((write(tmp_path / "x") / MANIFEST).read_text())
    assert stored["format"] == "test"
    assert stored["digest"].startswith("sha256:")


def test_an_empty_directory_is_nothing(tmp_path):
    (tmp_path / "x").mkdir()
    check(write(tmp_path / "x"))
    (tmp_path / "y").mkdir()
    check(write(tmp_path / "y", overwrite=True))
    assert sorted(os.listdir(tmp_path)) == ["x", "y"]


def make_file(path):
    path.write_text("work")


def make_link(path):
    (path.parent / "other").mkdir()
    (path.parent / "other/thesis.tex").write_text("work")
    path.symlink_to(path.parent / "other")


def make_dangling_link(path):
    path.symlink_to("nowhere")


def make_folder(path):
    path.mkdir()
    for name in ("a.tex", "b.tex", "c.tex", "d.tex"):
        (path / name).write_text("work")


def make_manifest_of_others(path):
    path.mkdir()
    (path / MANIFEST).write_text('{"name": "an extension of a browser", "files": {}}')


def make_damaged(path):
    (write(path) / MANIFEST).write_bytes(b"\0" * 10)


def make_other_format(path):
    with AtomicDirectory(path, format="other", version=1):
        pass


def make_with_notes(path):
    (write(path) / "sub" / "notes.md").write_text("work")


@pytest.mark.parametrize(
    ("make", "found"),
    [
        (make_file, "a file"),
        (make_link, "a symbolic link to "),
        (make_dangling_link, "a symbolic link to nowhere"),
        (make_folder, r"a directory that holds a\.tex, b\.tex, c\.tex and 1 more"),
        (make_manifest_of_others, r"a manifest\.json that is not one of a test, or is damaged"),
        (make_damaged, "or is damaged"),
        (make_other_format, "is not one of a test"),
        (make_with_notes, r"a test with files that are not its own: sub/notes\.md"),
    ],
)
@pytest.mark.parametrize("overwrite", [True, False])
def test_what_is_not_ours_is_never_replaced(tmp_path, make, found, overwrite):
    make(tmp_path / "x")
    before = {path: path.is_file() and path.read_bytes() for path in tmp_path.rglob("*")}
    with pytest.raises(AlreadyExistsError, match=f"something at this path already(.|\n)*{found}(.|\n)*move away"):
        write(tmp_path / "x", overwrite=overwrite)
    assert {path: path.is_file() and path.read_bytes() for path in tmp_path.rglob("*")} == before


def test_what_others_put_there_while_it_was_written_is_not_replaced(tmp_path):
    with (
        pytest.raises(AlreadyExistsError, match="a file"),
        AtomicDirectory(tmp_path / "x", format="test", version=1, overwrite=True),
    ):
        (tmp_path / "x").write_text("work")
    assert os.listdir(tmp_path) == ["x"]


def test_a_damaged_directory_is_replaced(tmp_path):
    path = write(tmp_path / "x", b"old")
    (path / "sub/a.bin").unlink()
    manifest = (path / MANIFEST).read_bytes()
    (path / MANIFEST).write_bytes(manifest.replace(b"sha256:", b"sha257:"))
    check(write(path, b"new", overwrite=True))


def test_links_to_directories_are_removed_alone(tmp_path):
    write(tmp_path / "archive")
    (tmp_path / "x").symlink_to(tmp_path / "archive")
    remove_directory(tmp_path / "x")
    assert os.listdir(tmp_path) == ["archive"]
    check(tmp_path / "archive")


def test_what_may_not_be_removed_stays_under_its_name(tmp_path, monkeypatch):
    path = write(tmp_path / "x")
    monkeypatch.setattr(os, "access", lambda place, mode: not os.fspath(place).endswith("sub"))
    with pytest.raises(PermissionError, match="x/sub"):
        remove_directory(path)
    assert os.listdir(tmp_path) == ["x"]


def test_links_inside_and_second_names_are_everyday(tmp_path):
    path = write(tmp_path / "x")
    os.link(path / "sub/a.bin", tmp_path / "backup")
    os.link(path / MANIFEST, tmp_path / "backup of the manifest")
    (path / "b.bin").unlink()
    (path / "b.bin").symlink_to("sub/a.bin")
    with pytest.raises(DamagedFilesError, match=r"b\.bin: 10 bytes, 0 were written"):
        check(path)
    (path / "b.bin").unlink()
    (path / "b.bin").write_bytes(b"")
    check(path)


def test_two_equal_files_may_be_one_and_a_link(tmp_path):
    with AtomicDirectory(tmp_path / "x", format="test", version=1) as new:
        (new.directory / "sub").mkdir()
        (new.directory / "a").write_bytes(b"same")
        (new.directory / "sub/b").write_bytes(b"same")
    (tmp_path / "x/sub/b").unlink()
    (tmp_path / "x/sub/b").symlink_to("../a")
    check(tmp_path / "x")


def test_the_root_of_a_file_system_is_a_place_like_others():
    root = Path(Path.cwd().anchor)
    assert settled(root) == root
    with pytest.raises(ManifestError, match="There is no manifest here"):
        read_manifest(settled(root), format="f", version=1)
    for overwrite in (False, True):
        with pytest.raises(AlreadyExistsError):
            AtomicDirectory(root, format="f", version=1, overwrite=overwrite).check_free()
