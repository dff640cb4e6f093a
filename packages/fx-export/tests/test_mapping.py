"""Bundles whose weights are mapped in place of being read."""

import errno
import gc
import os
import shutil
import subprocess
import sys
from pathlib import Path

import fx_export
import jax
import numpy as np
import pytest
from fx_core.digests import BLOCK
from fx_core.errors import ArgumentTypeError, DamagedFilesError
from fx_export import contents, weights

X = np.ones((2, 3), np.float32)
WEIGHTS = {
    "byte": np.ones(1, np.int8),
    "kernel": np.arange(6, dtype=np.float32).reshape(3, 2),
    "large": np.arange(BLOCK // 2 + 1, dtype=np.float32),
}


def predict(weights, x):
    return x @ weights["kernel"] + weights["large"][-1] + weights["byte"][0]


def written(path, factor=1, **how):
    scaled = {name: (array * factor).astype(array.dtype) for name, array in WEIGHTS.items()}
    return fx_export.export(path, predict, scaled, [X], verify=False, **how)


@pytest.fixture(scope="module")
def bundle(tmp_path_factory):
    return written(tmp_path_factory.mktemp("bundles") / "net")


@pytest.fixture
def copy(bundle, tmp_path):
    return Path(shutil.copytree(bundle, tmp_path / "copy"))


def mapped_files(array):
    """Files whose pages hold an array."""
    place = array.unsafe_buffer_pointer()
    for line in Path("/proc/self/maps").read_text().splitlines():
        first, _, last = line.split()[0].partition("-")
        if int(first, 16) <= place < int(last, 16):
            yield line.partition("/")[2]


@pytest.mark.skipif(not os.path.exists("/proc/self/maps"), reason="the system does not list what is mapped")
def test_the_network_computes_with_the_pages_of_the_file(bundle):
    mapped, read = fx_export.load(bundle, mmap=True), fx_export.load(bundle)
    file = str(bundle / "data/weights.bin").lstrip("/")
    assert [list(mapped_files(array)) for array in mapped.program.weights] == [[file]] * 3
    assert not any(file in mapped_files(array) for array in read.program.weights)
    np.testing.assert_array_equal(mapped(X), read(X))


def test_networks_of_one_bundle_share_the_mapping(tmp_path):
    halves = {"first": fx_export.EntryPoint(predict, [X]), "twice": fx_export.EntryPoint(lambda w, x: 2 * x, [X])}
    loaded = fx_export.load(fx_export.export_several(tmp_path / "net", halves, WEIGHTS), mmap=True)
    np.testing.assert_array_equal(loaded["first"](X), predict(WEIGHTS, X))
    np.testing.assert_array_equal(loaded["twice"](X), 2 * X)
    places = [[array.unsafe_buffer_pointer() for array in loaded[name].weights] for name in halves]
    assert places[0] == places[1]


def test_executables_that_were_kept_take_mapped_weights(bundle, tmp_path):
    for _ in range(2):
        loaded = fx_export.load(bundle, compiled=tmp_path / "compiled", mmap=True)
        np.testing.assert_array_equal(loaded(X), predict(WEIGHTS, X))


def test_nothing_writes_into_the_file(copy):
    before = (copy / "data/weights.bin").read_bytes()
    loaded = fx_export.load(copy, mmap=True)
    large = loaded.program.weights[-1]
    assert not np.asarray(large).flags.writeable
    changed = jax.jit(lambda array: array + 1, donate_argnums=0)(large)
    np.testing.assert_array_equal(changed, WEIGHTS["large"] + 1)
    assert (copy / "data/weights.bin").read_bytes() == before
    np.testing.assert_array_equal(fx_export.load(copy, mmap=True)(X), predict(WEIGHTS, X))


def test_a_function_that_donates_its_variables_is_mapped(tmp_path):
    donating = jax.jit(lambda w, x: ({name: array * 2 for name, array in w.items()}, predict(w, x)), donate_argnums=0)
    loaded = fx_export.load(fx_export.export(tmp_path / "net", donating, WEIGHTS, [X], verify=False), mmap=True)
    for _ in range(2):
        doubled, y = loaded(X)
        np.testing.assert_array_equal(y, predict(WEIGHTS, X))
        np.testing.assert_array_equal(doubled["large"], 2 * WEIGHTS["large"])


def test_arrays_keep_the_mapping(copy):
    arrays = fx_export.load(copy, mmap=True).program.weights
    shutil.rmtree(copy)
    gc.collect()
    for array, expected in zip(arrays, WEIGHTS.values(), strict=True):
        np.testing.assert_array_equal(array, expected)


def test_a_bundle_that_is_replaced_keeps_its_weights_where_it_is_loaded(copy):
    old = fx_export.load(copy, mmap=True)
    written(copy, factor=3, overwrite=True)
    np.testing.assert_array_equal(old(X), predict(WEIGHTS, X))
    new = fx_export.load(copy, mmap=True)
    fx_export.renew(copy)
    expected = X @ (3 * WEIGHTS["kernel"]) + 3 * WEIGHTS["large"][-1] + 3
    np.testing.assert_array_equal(new(X), expected)
    np.testing.assert_array_equal(fx_export.load(copy, mmap=True)(X), expected)
    np.testing.assert_array_equal(old(X), predict(WEIGHTS, X))


def test_two_processes_load_one_bundle(bundle):
    program = f"""
import numpy as np, fx_export
network = fx_export.load({str(bundle)!r}, mmap=True)
print(np.asarray(network(np.ones((2, 3), np.float32))).tolist(), flush=True)
input()
"""
    command = [sys.executable, "-c", program]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    # Each has answered before the first one ends.
    with subprocess.Popen(command, **pipes) as one, subprocess.Popen(command, **pipes) as other:
        answers = [each.stdout.readline() for each in (one, other)]
        for each in (one, other):
            each.communicate("\n")
    assert answers == [f"{predict(WEIGHTS, X).tolist()}\n"] * 2


@pytest.mark.parametrize("place", [0, BLOCK + 1, -1])
def test_a_changed_byte_is_noticed(copy, place):
    file = copy / "data/weights.bin"
    content = bytearray(file.read_bytes())
    content[place] ^= 0x40
    file.write_bytes(content)
    with pytest.raises(DamagedFilesError, match=r"data/weights\.bin: the content has changed"):
        fx_export.load(copy, mmap=True)


def test_a_file_that_was_cut_is_not_mapped(copy):
    os.truncate(copy / "data/weights.bin", BLOCK)
    with pytest.raises(DamagedFilesError, match=r"data/weights\.bin: "):
        fx_export.load(copy, mmap=True)
    os.truncate(copy / "data/weights.bin", 0)
    with pytest.raises(DamagedFilesError, match=r"data/weights\.bin: "):
        fx_export.load(copy, mmap=True)


def test_what_the_system_does_not_map_is_read(bundle, monkeypatch):
    def refuses(number, *arguments, **how):
        if number != -1:
            raise OSError(errno.ENODEV, os.strerror(errno.ENODEV))
        return maps(number, *arguments, **how)

    maps = contents.mmap.mmap
    monkeypatch.setattr(contents.mmap, "mmap", refuses)
    np.testing.assert_array_equal(fx_export.load(bundle, mmap=True)(X), predict(WEIGHTS, X))


def test_a_bundle_without_weights(tmp_path):
    path = fx_export.export(tmp_path / "net", lambda _, x: 2 * x, (), [X])
    np.testing.assert_array_equal(fx_export.load(path, mmap=True)(X), 2 * X)


def test_arrays_at_other_places_are_copied(tmp_path, monkeypatch):
    monkeypatch.setattr(weights, "_ALIGNMENT", 1)
    loaded = fx_export.load(written(tmp_path / "net"), mmap=True)
    np.testing.assert_array_equal(loaded(X), predict(WEIGHTS, X))
    np.testing.assert_array_equal(loaded.program.weights[-1], WEIGHTS["large"])


def test_bundles_of_the_first_version_are_mapped():
    path, x = Path(__file__).parent / "data/bundle_0_1", np.ones((4, 3), np.float32)
    np.testing.assert_array_equal(fx_export.load(path, mmap=True)(x)["logits"], fx_export.load(path)(x)["logits"])


def test_other_formats_and_values_are_refused(bundle, tmp_path):
    with pytest.raises(ArgumentTypeError, match="mmap: True or False") as caught:
        fx_export.load(bundle, mmap="no")
    assert caught.value.got == "'no'"
    path = fx_export.export(tmp_path / "net", lambda _, x: 2 * x, (), [X], format="onnx")
    with pytest.raises(ArgumentTypeError, match="The exporter 'onnx' does not take this"):
        fx_export.load(path, mmap=True)
