"""Files and directories, here and elsewhere."""

import sys

import pytest
from fx_core import io
from fx_core.errors import AlreadyExistsError, ArgumentError


@pytest.fixture(params=["here", "elsewhere"])
def place(request, tmp_path):
    if request.param == "here":
        return str(tmp_path)
    pytest.importorskip("fsspec")
    root = f"memory://{tmp_path.name}"
    io.makedirs(root)
    return root


def write(path, content=b"content"):
    with io.GFile(path, "wb") as file:
        file.write(content)


def test_files(place):
    path, second, third = (f"{place}/{name}" for name in ("first", "second", "third"))
    assert not io.exists(path)
    write(path)
    assert io.exists(path)
    assert io.getsize(path) == 7
    io.copy(path, second)
    with pytest.raises(AlreadyExistsError):
        io.copy(path, second)
    with pytest.raises(AlreadyExistsError):
        io.rename(path, second)
    write(path, b"other")
    io.copy(path, second, overwrite=True)
    io.rename(second, third)
    with io.open_file(third) as file:
        assert file.read() == "other"
    assert sorted(io.listdir(place)) == ["first", "third"]
    io.rename(path, third, overwrite=True)
    io.remove(third)
    assert io.listdir(place) == []
    with pytest.raises(FileNotFoundError):
        io.GFile(path, "rb")


def test_directories(place):
    io.makedirs(f"{place}/a/b")
    io.makedirs(f"{place}/a/b")
    write(f"{place}/a/b/x1")
    write(f"{place}/a/b/y1")
    assert io.isdir(f"{place}/a")
    assert not io.isdir(f"{place}/a/b/x1")
    (found,) = io.glob(f"{place}/a/b/x*")
    assert found.endswith("/a/b/x1")
    assert io.exists(found)
    io.rename(f"{place}/a", f"{place}/c")
    assert sorted(io.listdir(f"{place}/c/b")) == ["x1", "y1"]
    io.rmtree(f"{place}/c")
    assert not io.exists(f"{place}/c/b/x1")


def test_from_one_place_to_another(tmp_path):
    pytest.importorskip("fsspec")
    write(tmp_path / "file", b"12345")
    io.copy(tmp_path / "file", "memory://copied")
    assert io.getsize("memory://copied") == 5
    with pytest.raises(ArgumentError, match="another file system"):
        io.rename("memory://copied", tmp_path / "moved")


def test_urls_that_nobody_opens(monkeypatch):
    pytest.importorskip("fsspec")
    with pytest.raises(ArgumentError, match="cannot open this URL"):
        io.exists("nosuchplace://bucket")
    monkeypatch.setitem(sys.modules, "fsspec", None)
    with pytest.raises(ArgumentError, match=r"(?s)where: gs://bucket/x.*fx-core\[remote\]"):
        io.exists("gs://bucket/x")


def test_modes_of_flax(tmp_path):
    with io.override_mode(io.BackendMode.TF):
        assert io.io_mode is io.BackendMode.TF
        write(tmp_path / "x")
    assert io.io_mode is io.BackendMode.DEFAULT
    assert io.exists(tmp_path / "x")
