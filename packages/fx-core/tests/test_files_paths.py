"""Paths that directories of files are written to: of this machine, with names that every system can have."""

import os
from pathlib import Path

import pytest
from fx_core.errors import AlreadyExistsError, ArgumentError, ArgumentTypeError
from fx_core.files import AtomicDirectory, local_path, read_manifest, settled, verify_files


def write(path):
    with AtomicDirectory(path, format="test", version=1) as new:
        (new.directory / "a.bin").write_bytes(b"0123456789")
    return path


def check(path):
    verify_files(path, read_manifest(path, format="test", version=1))


@pytest.mark.parametrize(
    "path", ["gs://bucket/run", "s3://b/x", "hdfs://host/x", "memory://x", "simplecache::s3://b/x"]
)
@pytest.mark.parametrize("kind", [str, Path])
def test_places_elsewhere_are_refused(tmp_path, monkeypatch, path, kind):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ArgumentError, match=r"not on this machine(.|\n)*copied file by file") as error:
        write(kind(path))
    assert "://" in error.value.path
    with pytest.raises(ValueError, match="://"):
        settled(kind(path))
    assert os.listdir(tmp_path) == []


def test_home_and_urls_of_this_machine(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    check(settled(write("~/x")))
    check(settled(write(f"file://{tmp_path}/y")))
    assert sorted(os.listdir(tmp_path)) == ["x", "y"]
    spaced = tmp_path / "a b%c"
    for url in (
        spaced.as_uri(),
        Path(spaced.as_uri()),
        spaced.as_uri().replace("://", "://localhost"),
        f"FILE:{tmp_path}/a b%25c",
    ):
        assert local_path(url) == spaced
    monkeypatch.chdir(tmp_path)
    assert local_path("./~/x") == tmp_path / "~/x"
    assert local_path("~") == tmp_path
    with pytest.raises(ArgumentError, match="on 'server', which is not this machine"):
        local_path("file://server/share")
    with pytest.raises(ArgumentError, match="home directory is not known"):
        local_path("~nobody-of-that-name/x")


@pytest.mark.parametrize(
    ("name", "problem"),
    [
        ("x" * 239, "too long(.|\n)*≤ 238 bytes(.|\n)*239 bytes"),
        ("\ud800", "half of a character"),
        ("a\0b", "zero byte"),
    ],
)
def test_names_that_cannot_be(tmp_path, name, problem):
    with pytest.raises(ArgumentError, match=problem):
        write(tmp_path / name)
    assert os.listdir(tmp_path) == []


def test_the_longest_name(tmp_path):
    check(write(tmp_path / ("x" * 238)))


def test_a_file_among_the_parents_is_named(tmp_path):
    (tmp_path / "x").write_text("work")
    for path in ("x/y", "x/y/z"):
        with pytest.raises(AlreadyExistsError, match="a file, where a directory is to be") as error:
            write(tmp_path / path)
        assert error.value.path == str(tmp_path / "x")


@pytest.mark.parametrize("path", [None, 3, b"run", ["run"]])
def test_paths_of_another_type(path):
    with pytest.raises(ArgumentTypeError, match="A path is a text or a path object"):
        local_path(path)
