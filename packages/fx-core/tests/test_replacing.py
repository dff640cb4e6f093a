"""Directories that are replaced while they are read."""

import pytest
from fx_core.errors.files import ManifestError
from fx_core.files import AtomicDirectory
from fx_core.replacing import read_whole


def write(path, text):
    with AtomicDirectory(path, format="test", version=1, overwrite=True) as new:
        (new.directory / "text").write_text(text)


@pytest.mark.parametrize("fails", [False, True])
def test_what_is_read_while_it_is_replaced_is_read_again(fails, tmp_path):
    def read(source):
        seen.append((source / "text").read_text())
        if len(seen) < 3:
            write(source, f"text {len(seen)}")
            if fails:
                raise OSError(5, "of two directories")
        return seen[-1]

    seen = []
    write(tmp_path / "x", "text 0")
    assert read_whole(tmp_path / "x", "test", read) == "text 2"
    assert seen == ["text 0", "text 1", "text 2"]


def test_errors_of_what_was_not_replaced_come_out(tmp_path):
    def read(source):
        seen.append(source)
        raise OSError(5, "the disk")

    seen = []
    write(tmp_path / "x", "text")
    with pytest.raises(OSError, match="the disk"):
        read_whole(tmp_path / "x", "test", read)
    with pytest.raises(OSError, match="the disk"):
        read_whole(tmp_path / "nothing", "test", read)
    assert len(seen) == 2


def test_what_is_replaced_each_time_is_an_error(tmp_path):
    write(tmp_path / "x", "text")
    with pytest.raises(ManifestError, match="The test was replaced 20 times while it was read"):
        read_whole(tmp_path / "x", "test", lambda source: write(source, "new"))
