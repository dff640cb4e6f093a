"""Atomic directories on disks that lose power, fill up and fail, at every call; hostile directories."""

import errno
import itertools
import os
import threading

import pytest
from fx_core import filesystem
from fx_core._canonical_json import sealed
from fx_core.errors import AlreadyExistsError, DamagedFilesError, ManifestError
from fx_core.files import MANIFEST, AtomicDirectory, clean_leftovers, files_below, read_manifest, settled, verify_files
from fx_core.testing.disks import RecordedDisk
from fx_core.testing.faults import (
    CHANGES,
    FaultyFileSystem,
    fail_at,
    fail_from,
    io_error,
    no_space,
    not_permitted,
    read_only,
)

pytestmark = pytest.mark.slow  # about disks, and no part of it depends on versions

OLD, NEW, NEXT = b"old " * 10, b"new " * 11, b"next " * 12


def write(path, content, overwrite=True):
    with AtomicDirectory(path, format="test", version=1, overwrite=overwrite) as new:
        (new.directory / "sub").mkdir()
        (new.directory / "sub" / "a.bin").write_bytes(content)
        (new.directory / "b.bin").write_bytes(content[:4])
    return path


def read(path):
    """The content; None if there is nothing. Anything half-way fails."""
    path = settled(path)
    if not path.exists():
        return None
    verify_files(path, read_manifest(path, format="test", version=1))
    return (path / "sub/a.bin").read_bytes()


def attempt(path):
    """Write; the number of the error, if there is one."""
    try:
        write(path, NEW)
    except OSError as raised:
        return raised.errno
    return None


def check(parent, expected):
    """What is there is one of ``expected``; the next write works, and nothing else is left."""
    found = read(parent / "x")
    assert found in expected
    write(parent / "x", NEXT)
    assert read(parent / "x") == NEXT
    assert os.listdir(parent) == ["x"]
    return found


@pytest.mark.parametrize("atomic", [True, False], ids=["exchange", "two renames"])
@pytest.mark.parametrize("old", [None, OLD], ids=["new", "replaced"])
def test_whatever_a_crash_leaves_is_the_old_or_the_new(tmp_path, monkeypatch, old, atomic):
    if not atomic:
        monkeypatch.setattr(filesystem, "exchange", lambda a, b: False)
    root = tmp_path / "disk"
    root.mkdir()
    if old:
        write(root / "x", old)
    with RecordedDisk(root) as disk:
        write(root / "x", NEW)
    found = []
    for index, state in enumerate([*disk.kills(), *disk.power_losses()]):
        state.write(tmp_path / str(index))
        found.append(check(tmp_path / str(index), (old, NEW)))
    assert set(found) == {old, NEW}
    assert len(found) > 60


def test_a_crash_after_a_failed_flush_loses_neither(tmp_path):
    """The exchange is done and not yet flushed: what was replaced must stay, for the disk may not know."""
    for index in range(6):
        root = tmp_path / f"{index}"
        root.mkdir()
        write(root / "x", OLD)
        flushes = itertools.count()

        def fault(call, index=index, flushes=flushes):
            return io_error() if call.kind == "fsync" and next(flushes) == index else None

        disk = RecordedDisk(root, fault)
        with disk, pytest.raises(OSError, match="Input/output error"):
            write(root / "x", NEW)
        last = len(disk.moments) - 1
        for number, state in enumerate(state for state in disk.power_losses() if state.after == last):
            state.write(tmp_path / f"{index}-{number}")
            check(tmp_path / f"{index}-{number}", (OLD, NEW))
        check(root, (OLD, NEW))


@pytest.mark.parametrize("atomic", [True, False], ids=["exchange", "two renames"])
def test_cleaning_after_a_kill_loses_nothing_when_the_power_fails(tmp_path, monkeypatch, atomic):
    """A killed writer's replacement is not on the disk yet when the next one removes what was replaced."""
    if not atomic:
        monkeypatch.setattr(filesystem, "exchange", lambda a, b: False)

    class Killed(BaseException):
        pass

    def run(name, fatal):
        root = tmp_path / name
        root.mkdir()
        write(root / "x", OLD)
        alive = [True]

        def fault(call):
            alive[0] = alive[0] and call.index != fatal
            return None if alive[0] else Killed()

        with RecordedDisk(root, fault) as disk:
            try:
                write(root / "x", NEW)
            except Killed:
                fatal, alive[0] = None, True
            clean_leftovers(root, "x")
        return disk

    whole = run("whole", None)
    moves = [call.index for call in whole.calls if call.kind in ("exchange", "rename")]
    assert moves
    for fatal in sorted({move + after for move in moves for after in (1, 2)}):
        for number, state in enumerate(run(f"{fatal}", fatal).power_losses(samples=1)):
            state.write(tmp_path / f"{fatal}-{number}")
            check(tmp_path / f"{fatal}-{number}", (OLD, NEW))


@pytest.mark.parametrize("error", [no_space, io_error, not_permitted, read_only])
@pytest.mark.parametrize("lasting", [False, True], ids=["once", "from then on"])
def test_a_failing_call_raises_and_leaves_the_old_or_the_new(tmp_path, error, lasting):
    outcomes = []
    for index in range(1000):
        root = tmp_path / str(index)
        root.mkdir()
        write(root / "x", OLD)
        fault = fail_from(index, error()) if lasting else fail_at(index, error())
        with FaultyFileSystem(root, fault) as system:
            raised = attempt(root / "x")
        assert raised in (None, error().errno)
        outcomes.append("done" if raised is None else "raised")
        found = check(root, (OLD, NEW))
        assert found == NEW or outcomes[-1] == "raised"
        if not system.failed:
            break
    assert outcomes.count("raised") > 15


def test_the_faster_of_two_writers_wins_and_the_other_is_told(tmp_path):
    with pytest.raises(AlreadyExistsError, match="something at this path already"):  # noqa: SIM117
        with AtomicDirectory(tmp_path / "x", format="test", version=1):
            write(tmp_path / "x", NEW, overwrite=False)
    assert check(tmp_path, (NEW,)) == NEW


def test_a_race_for_a_path_is_told_as_well(tmp_path, monkeypatch):
    """The other writer comes between the look and the rename."""
    monkeypatch.setattr(AtomicDirectory, "check_free", lambda self: None)
    monkeypatch.setattr("fx_core.files._exists", lambda path: False)
    write(tmp_path / "x", OLD)
    with pytest.raises(AlreadyExistsError, match="something at this path already"):
        write(tmp_path / "x", NEW, overwrite=False)
    monkeypatch.undo()
    assert check(tmp_path, (OLD,)) == OLD


def test_many_writers_at_once_never_show_a_mixture(tmp_path):
    contents = [bytes([65 + writer]) * 50 for writer in range(4)]

    def keep_writing(content):
        for _ in range(8):
            write(tmp_path / "x", content)

    write(tmp_path / "x", contents[0])
    threads = [threading.Thread(target=keep_writing, args=(content,)) for content in contents]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert check(tmp_path, contents) in contents


def test_a_directory_that_cannot_be_listed_is_an_error_not_an_empty_one(tmp_path):
    write(tmp_path / "x", OLD)
    manifest = read_manifest(tmp_path / "x", format="test", version=1)

    def fault(call):
        return not_permitted() if call.kind == "list" and call.path.endswith("sub") else None

    with FaultyFileSystem(tmp_path, fault):
        with pytest.raises(OSError, match="Permission denied"):
            list(files_below(tmp_path / "x"))
        with pytest.raises(DamagedFilesError, match=r"sub: Permission denied"):
            verify_files(tmp_path / "x", manifest)
        with pytest.raises(OSError, match="Permission denied"):
            write(tmp_path / "y", NEW)
    with (
        FaultyFileSystem(tmp_path, lambda call: io_error() if call.kind == "open" else None),
        pytest.raises(DamagedFilesError, match=r"sub/a\.bin: cannot be read: Input/output error"),
    ):
        verify_files(tmp_path / "x", manifest)


def test_links_and_pipes_are_not_opened(tmp_path):
    path = write(tmp_path / "x", OLD)
    manifest = read_manifest(path, format="test", version=1)
    (path / "b.bin").unlink()
    os.mkfifo(path / "b.bin")
    with pytest.raises(DamagedFilesError, match=r"b\.bin: not a regular file"):
        verify_files(path, manifest)
    (path / MANIFEST).rename(tmp_path / "elsewhere")
    elsewhere = tmp_path / "elsewhere"
    for trap in (os.mkfifo, lambda p: os.symlink(elsewhere, p)):
        trap(path / MANIFEST)
        with pytest.raises(ManifestError, match="The manifest is not a regular file"):
            read_manifest(path, format="test", version=1)
        (path / MANIFEST).unlink()
    (path / MANIFEST).mkdir()
    with pytest.raises(ManifestError, match="The manifest is not a regular file"):
        read_manifest(path, format="test", version=1)


@pytest.mark.parametrize(
    "name", ["../x", "/etc/passwd", "a/../../b", "a//b", "", ".", "a/.", "a\0b", "a\\b", MANIFEST, "C:\\x"]
)
def test_names_that_leave_the_directory_are_refused(tmp_path, name):
    path = tmp_path / "y"
    path.mkdir()
    files = {name: {"size": 1, "digest": "sha256:0"}}
    (path / MANIFEST).write_bytes(sealed({"format": "test", "version": 1, "files": files}))
    with pytest.raises(ManifestError, match="names files outside of its directory"):
        read_manifest(path, format="test", version=1)


def test_the_layer_sees_what_a_save_does_and_nothing_elsewhere(tmp_path):
    (tmp_path / "in").mkdir()
    with FaultyFileSystem(tmp_path / "in") as system:
        write(tmp_path / "out", OLD)
        assert system.calls == []
        write(tmp_path / "in/x", OLD)
        write(tmp_path / "in/x", NEW)
        with open(tmp_path / "in/text", "w+", encoding="utf-8", newline="\n") as file:
            file.write("ü\n")
            file.seek(0)
            assert file.read() == "ü\n"
        handle = os.open(tmp_path / "in/raw", os.O_CREAT | os.O_WRONLY)
        os.write(handle, b"12")
        os.pwrite(handle, b"3", 1)
        os.ftruncate(handle, 1)
        os.close(handle)
        os.link(tmp_path / "in/raw", tmp_path / "in/second")
        os.replace(tmp_path / "in/second", tmp_path / "in/third")
        os.symlink("third", tmp_path / "in/link")
    assert {call.kind for call in system.calls} >= CHANGES - {"truncate"}
    assert (tmp_path / "in/third").read_bytes() == b"1"


def test_errors_have_their_numbers():
    numbers = [error("p").errno for error in (no_space, io_error, not_permitted, read_only)]
    assert numbers == [errno.ENOSPC, errno.EIO, errno.EACCES, errno.EROFS]
