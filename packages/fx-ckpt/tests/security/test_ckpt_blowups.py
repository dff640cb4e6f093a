"""Small files and odd names that once took minutes, gigabytes, or errors of others."""

import contextlib
import errno
import json
import re
import time

import fx_ckpt
import numpy as np
import pytest
from fx_ckpt import checkpoints
from fx_ckpt.errors import ArgumentError, DamagedDataError, UnsupportedLeafError
from fx_ckpt.renaming import Rule
from fx_core.errors import FxError
from fx_core.files import MANIFEST, AtomicDirectory
from fx_core.patterns import glob
from fx_core.testing.faults import FaultyFileSystem, fail_at, io_error
from hypothesis import given, settings
from hypothesis import strategies as st

BACKENDS = ["msgpack", "safetensors", "orbax"]


@pytest.fixture
def quick():
    started = time.process_time()
    yield
    assert time.process_time() - started < 5


def resealed(base, path, change):
    manifest = json.loads((base / MANIFEST).read_text())
    with AtomicDirectory(path, format="fx-checkpoint", version=1) as new:
        (new.directory / "data").mkdir()
        new.manifest.update({k: v for k, v in manifest.items() if k not in ("files", "digest")} | change)
    return path


@pytest.mark.parametrize("parts", [23, 200])
@pytest.mark.parametrize("end", ["/kernel", "/kernel/x"])
def test_names_of_many_parts_do_not_double_the_time(quick, parts, end):
    rule = Rule("{at*}/{more*}/kernel", "{at*}.{more*}.weight", axes=(1, 0))
    name = "/".join("abc"[i % 3] for i in range(parts - 2)) + end
    assert (rule.to_theirs(name, 2) is None) == (end != "/kernel")


def test_long_names_are_refused_where_they_take_long(quick, tmp_path):
    for name in ("a." * 300 + "weight", "a" * 20_000 + ".weight"):
        fx_ckpt.save_safetensors(tmp_path / "m.safetensors", {name: np.ones((2, 2))})
        rule = Rule("{at*}/{more*}/kernel", "{at*}.{more*}.weight", axes=(1, 0))
        with pytest.raises(ArgumentError, match="too long"):
            fx_ckpt.load_safetensors(tmp_path / "m.safetensors", rules=[rule])
        target = {name.removesuffix(".weight"): {"kernel": np.zeros((2, 2))}}
        rules = [Rule("{at*}/kernel", "{at*}.weight", axes=(1, 0))]
        assert fx_ckpt.load_safetensors(tmp_path / "m.safetensors", target, rules=rules)


@given(st.text("ab*", max_size=12), st.text("ab", max_size=12))
@settings(max_examples=300, deadline=None)
def test_stars_match_as_a_regular_expression_would(pattern, text):
    assert glob(text, pattern) == bool(re.fullmatch(".*".join(map(re.escape, pattern.split("*"))), text))


def test_patterns_of_many_stars_are_quick(quick):
    assert not glob("a" * 20_000, "*a" * 50 + "b")


def test_keys_of_one_hash_are_refused(quick, tmp_path):
    prime = 2**61 - 1
    keys = [number * prime for number in range(1, 20_000)]
    children = [{"kind": "int"}] * len(keys)
    structure = {"kind": "mapping", "type": "dict", "keys": keys, "children": children}
    path = resealed(fx_ckpt.save(tmp_path / "x", {}), tmp_path / "y", {"structure": structure})
    with pytest.raises(DamagedDataError, match="too many keys with one hash"):
        fx_ckpt.inspect(path)


def test_many_honest_keys_are_read(quick, tmp_path):
    tree = {number * 10**15: 0 for number in range(2000)}
    assert len(fx_ckpt.inspect(fx_ckpt.save(tmp_path / "x", tree)).leaves()) == 2000


@pytest.mark.slow
@pytest.mark.parametrize("item", [b"\x80", b"\x90"])
def test_millions_of_empty_containers_are_refused(quick, item):
    count = 4_000_000
    data = b"\xdd" + count.to_bytes(4, "big") + item * count
    with pytest.raises(DamagedDataError, match="too many containers"):
        fx_ckpt.msgpack_restore(data)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("where", ["key", "inner key", "tuple key", "string"])
def test_halves_of_characters(tmp_path, backend, where):
    bad = "a\ud800"
    trees = {"key": {bad: 1}, "inner key": {"x": [{bad: np.ones(2)}]}, "tuple key": {(1, bad): 2}, "string": {"x": bad}}
    with pytest.raises((UnsupportedLeafError, UnsupportedLeafError), match="cannot be stored"):
        fx_ckpt.save(tmp_path / "x", trees[where], backend=backend)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("size", [300, 100_000])
def test_long_keys(tmp_path, backend, size):
    tree = {"x" * size: {"y": np.ones(2), "z" * size: 3}}
    if (backend, size) == ("orbax", 100_000):
        with pytest.raises(UnsupportedLeafError, match="Use shorter keys, or another backend"):
            fx_ckpt.save(tmp_path / "x", tree, backend=backend)
    else:
        path = fx_ckpt.save(tmp_path / "x", tree, backend=backend)
        assert fx_ckpt.restore(path)["x" * size]["y"].sum() == 2


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float8_e4m3b11fnuz", "int4"])
def test_many_axes(tmp_path, backend, dtype):
    import ml_dtypes  # noqa: F401 - names the dtypes

    array = np.arange(6).astype(dtype).reshape((1,) * 30 + (2, 1, 3))
    back = fx_ckpt.restore(fx_ckpt.save(tmp_path / "x", {"w": array, "e": array[:0]}, backend=backend))
    assert back["w"].shape == array.shape
    assert back["w"].tobytes() == array.tobytes()
    assert back["e"].shape == array[:0].shape


@pytest.mark.parametrize(
    "text",
    [
        "OS error 28: ENOSPC No space left on device",
        "OS error 5: EIO Input/output error",
        "Failed to write 595405 bytes to file 15: No space left on device [os_error_code='28']",
    ],
)
def test_a_full_disk_under_orbax_is_what_the_system_said(tmp_path, monkeypatch, text):
    from fx_ckpt.backends import orbax

    class Failing:
        def __enter__(self):
            return self

        def __exit__(self, *_):
            pass

        def save(self, *_):
            raise ValueError(f"Error writing x [{text}] [source locations='...']")

    monkeypatch.setattr(orbax, "_checkpointer", Failing)
    with pytest.raises(OSError, match=r"No space|Input") as error:
        fx_ckpt.save(tmp_path / "x", {"w": np.ones(2)}, backend="orbax")
    assert error.value.errno in (errno.ENOSPC, errno.EIO)
    assert list(tmp_path.iterdir()) == []


NAMES = st.text(st.characters(), max_size=8)
LEAVES = st.one_of(st.integers(), st.floats(), st.text(max_size=4), st.just(np.ones(2)))
TREES = st.recursive(LEAVES, lambda inner: st.dictionaries(NAMES, inner, max_size=3), max_leaves=5)


@pytest.mark.parametrize("backend", ["msgpack", "safetensors"])
@given(tree=TREES)
@settings(max_examples=60, deadline=None)
def test_any_name_is_stored_or_refused_by_an_error_of_fx(tmp_path_factory, backend, tree):
    path = tmp_path_factory.mktemp("names") / "x"
    try:
        fx_ckpt.save(path, tree, backend=backend)
    except FxError:
        return
    back = fx_ckpt.restore(path)
    assert repr(back) == repr(tree)


@given(st.text(max_size=300), st.sampled_from(["save", "restore", "manager", "flax", "safetensors"]))
@settings(max_examples=80, deadline=None)
def test_any_path_is_used_or_refused_by_an_error_of_fx(tmp_path_factory, name, how):
    base = tmp_path_factory.mktemp("paths")
    path = f"{base}/{name.replace('/', '').replace('..', '')}"
    calls = {
        "save": lambda: fx_ckpt.save(path, {"w": 1}),
        "restore": lambda: fx_ckpt.restore(path),
        "manager": lambda: fx_ckpt.CheckpointManager(path, async_=False).save(1, {"w": 1}),
        "flax": lambda: checkpoints.save_checkpoint(path, {"w": 1}, 1),
        "safetensors": lambda: fx_ckpt.save_safetensors(path, {"w": np.ones(1)}),
    }
    with contextlib.suppress(FxError):
        calls[how]()


def test_a_save_whose_directories_orbax_could_not_list_raises(tmp_path):
    tree = {"w": np.ones(3), "v": np.zeros(2)}
    with FaultyFileSystem(tmp_path) as system:
        fx_ckpt.save(tmp_path / "whole", tree, backend="orbax")
    lists = [index for index, call in enumerate(system.calls) if call.kind == "list"]
    silent = 0
    for index in lists:
        path = tmp_path / f"x{index}"
        fault = fail_at(index, io_error())
        try:
            with FaultyFileSystem(tmp_path, fault):
                fx_ckpt.save(path, tree, backend="orbax")
        except (OSError, FxError):
            continue
        assert fx_ckpt.restore(path)["w"].sum() == 3
        silent += 1
    assert silent < len(lists)
