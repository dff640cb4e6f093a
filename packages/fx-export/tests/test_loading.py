"""What loading a bundle imports, reads and checks, and in which order."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import fx_export
import jax
import numpy as np
import pytest
from fx_core.digests import BLOCK, digest_file
from fx_core.errors import DamagedFilesError, DtypeError, ManifestError
from fx_core.files import read_manifest
from fx_core.testing import check_lazy_imports
from fx_export import contents, stablehlo
from fx_export.errors import BundleError

X = np.ones((2, 3), np.float32)
WEIGHTS = {"kernel": np.ones((3, 2), np.float32), "large": np.ones(2**19, np.float32)}


def predict(weights, x):
    return x @ weights["kernel"] + weights["large"].sum()


@pytest.fixture(scope="module")
def bundle(tmp_path_factory):
    return fx_export.export(tmp_path_factory.mktemp("bundles") / "net", predict, WEIGHTS, [X])


@pytest.fixture
def copy(bundle, tmp_path):
    path = tmp_path / "copy"
    path.mkdir()
    for file in bundle.rglob("*"):
        if file.is_dir():
            (path / file.relative_to(bundle)).mkdir()
    for file in bundle.rglob("*"):
        if file.is_file():
            (path / file.relative_to(bundle)).write_bytes(file.read_bytes())
    return path


def change(path):
    content = bytearray(path.read_bytes())
    content[-1] ^= 0x40
    path.write_bytes(content)


def test_names_that_few_need_are_imported_later():
    check_lazy_imports(fx_export)


def test_loading_imports_no_plugins_and_nothing_that_exports(bundle):
    program = f"""
import sys, numpy as np, fx_export
fx_export.load({str(bundle)!r})(np.ones((2, 3), np.float32))
unwanted = ("pluggy", "fx_core.plugins", "fx_core.meta", "fx_export.exporting", "fx_export.verification")
print([name for name in unwanted if name in sys.modules])
"""
    done = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True)
    assert done.stdout == "[]\n"


def test_large_weights_that_were_changed_are_noticed_while_they_are_read(copy):
    change(copy / "data/weights.bin")
    with pytest.raises(DamagedFilesError, match=r"data/weights\.bin: the content has changed"):
        fx_export.load(copy)


def test_all_damaged_files_are_listed_at_once(copy):
    change(copy / "data/weights.bin")
    change(copy / "data/program.bin")
    (copy / "data/new.bin").write_bytes(b"")
    with pytest.raises(DamagedFilesError) as caught:
        fx_export.load(copy)
    assert sorted(caught.value.problems) == [
        "data/new.bin: not in the manifest",
        "data/program.bin: the content has changed",
        "data/weights.bin: the content has changed",
    ]


def test_damage_is_named_before_what_follows_from_it(copy, monkeypatch):
    def read(*arguments):
        raise BundleError("it cannot be read")

    monkeypatch.setattr("fx_export.stablehlo.read_weights", read)
    with pytest.raises(BundleError, match="it cannot be read"):
        fx_export.load(copy)
    change(copy / "data/weights.bin")
    with pytest.raises(DamagedFilesError, match=r"data/weights\.bin: the content has changed"):
        fx_export.load(copy)


def test_weights_that_cannot_be_read_are_an_error(copy, monkeypatch):
    def read_block(path, start, into):
        if path.name == "weights.bin":
            raise OSError(5, "Input/output error")
        return reads(path, start, into)

    reads = contents.read_block
    monkeypatch.setattr(contents, "read_block", read_block)
    with pytest.raises(DamagedFilesError, match=r"data/weights\.bin: cannot be read: Input/output error"):
        fx_export.load(copy)


def test_what_was_compared_is_what_is_used(copy, tmp_path, monkeypatch):
    other = fx_export.export(tmp_path / "other", lambda w, x: -predict(w, x), WEIGHTS, [X], verify=False)

    def read_index(path, *how):
        # Somebody puts another program there, after the files were compared.
        (copy / "data/program.bin").write_bytes((other / "data/program.bin").read_bytes())
        return reads(path, *how)

    reads = stablehlo.read_index
    monkeypatch.setattr(stablehlo, "read_index", read_index)
    np.testing.assert_array_equal(fx_export.load(copy)(X), predict(WEIGHTS, X))
    with pytest.raises(DamagedFilesError, match=r"data/program\.bin"):
        fx_export.load(copy)


@pytest.fixture(scope="module")
def large(tmp_path_factory):
    weights = {**WEIGHTS, "large": np.ones(BLOCK // 2 + 1, np.float32)}
    return fx_export.export(tmp_path_factory.mktemp("bundles") / "large", predict, weights, [X], verify=False)


def test_large_files_have_digests_by_blocks_which_older_versions_do_not_take_for_damage(bundle, large):
    manifest = json.loads((large / "manifest.json").read_text())
    kinds = {name: file["digest"].partition(":")[0] for name, file in manifest["files"].items()}
    assert kinds == {"data/index.json": "sha256", "data/program.bin": "sha256", "data/weights.bin": "sha256-4m"}
    assert manifest["version"] == 2
    with pytest.raises(ManifestError, match=r"The format is newer than this fx\."):
        read_manifest(large, format="fx-bundle", version=1)
    # What they can read says so.
    assert read_manifest(bundle, format="fx-bundle", version=1)["version"] == 1
    assert fx_export.load(large)(X).shape == (2, 2)


@pytest.mark.parametrize("place", [0, BLOCK - 1, BLOCK, 2 * BLOCK])
def test_a_changed_byte_of_any_block_is_noticed(large, tmp_path, place):
    path = Path(shutil.copytree(large, tmp_path / "copy"))
    with open(path / "data/weights.bin", "r+b") as file:
        file.seek(place)
        file.write(b"\1")
    with pytest.raises(DamagedFilesError, match=r"data/weights\.bin: the content has changed"):
        fx_export.load(path)


def test_large_files_with_one_digest_load(large, tmp_path, monkeypatch):
    monkeypatch.setattr("fx_export.exporting.digest_by_blocks", digest_file)
    weights = {**WEIGHTS, "large": np.ones(BLOCK // 2 + 1, np.float32)}
    path = fx_export.export(tmp_path / "net", predict, weights, [X], verify=False, key=b"secret")
    assert read_manifest(path, format="fx-bundle", version=1)["files"]["data/weights.bin"]["digest"][:7] == "sha256:"
    np.testing.assert_array_equal(fx_export.load(path, key=b"secret")(X), fx_export.load(large)(X))
    change(path / "data/weights.bin")
    with pytest.raises(DamagedFilesError, match=r"data/weights\.bin: the content has changed"):
        fx_export.load(path, key=b"secret")


def test_what_was_compiled_for_fixed_sizes_is_loaded_with_the_bundle(bundle, tmp_path):
    expected = fx_export.load(bundle, compiled=tmp_path)(X)
    again = fx_export.load(bundle, compiled=tmp_path)
    (file,) = tmp_path.iterdir()
    file.unlink()
    np.testing.assert_array_equal(again(X), expected)
    np.testing.assert_array_equal(again(X), expected)
    # It was compiled neither for the first call nor for the second one.
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("mmap", [False, True])
def test_a_bundle_that_is_replaced_while_it_is_loaded_is_loaded_again(copy, mmap, monkeypatch):
    def read_index(path, *how):
        if not replaced:
            replaced.append(path)
            new = {**WEIGHTS, "large": WEIGHTS["large"] * 3}
            fx_export.export(copy, predict, new, [X], metadata={"new": True}, overwrite=True, verify=False)
        return reads(path, *how)

    replaced, reads = [], stablehlo.read_index
    monkeypatch.setattr(stablehlo, "read_index", read_index)
    loaded = fx_export.load(copy, mmap=mmap)
    assert loaded.metadata == {"new": True}
    np.testing.assert_allclose(loaded(X), predict({**WEIGHTS, "large": WEIGHTS["large"] * 3}, X))


def test_files_of_two_bundles_are_not_taken_together(tmp_path, monkeypatch):
    from fx_export.onnx import exporter

    def load_model(self, directory):
        if load_model in replaced:
            replaced.remove(load_model)
            write(3, overwrite=True)
        return loads(self, directory)

    def write(factor, **how):
        return fx_export.export(tmp_path / "net", predict, WEIGHTS, [X], format="onnx", metadata={"f": factor}, **how)

    replaced, loads, path = [], exporter.OnnxExporter.load, write(1)
    monkeypatch.setattr(exporter.OnnxExporter, "load", load_model)
    replaced.append(load_model)
    # The model that runs is the one whose metadata these are.
    assert fx_export.load(path).metadata == {"f": 3}


def test_a_damaged_bundle_is_read_once(copy, monkeypatch):
    change(copy / "data/weights.bin")
    read, calls = contents.read_block, []
    monkeypatch.setattr(contents, "read_block", lambda path, *rest: [calls.append(path.name), read(path, *rest)][1])
    with pytest.raises(DamagedFilesError):
        fx_export.load(copy)
    assert calls.count("weights.bin") == 1


def test_programs_of_64_bits_say_what_they_need(tmp_path):
    with jax.enable_x64(True):
        path = fx_export.export(tmp_path / "wide", lambda w, x: x * w, np.ones((1, 3)), ["float32[n, 3]"])
        inputs = fx_export.export(tmp_path / "inputs", lambda w, x: x * 2, {}, ["int64[n]"])
        assert fx_export.load(path)(np.ones((2, 3), np.float32)).dtype == np.float64
        assert fx_export.load(inputs)(np.ones(2, np.int64)).tolist() == [2, 2]
    with pytest.raises(
        BundleError, match=r"it computes with float64, and this process with 32 bits(.|\n)*JAX_ENABLE_X64"
    ):
        fx_export.load(path)
    with pytest.raises(DtypeError, match=r"int32 in place of int64(.|\n)*JAX_ENABLE_X64"):
        fx_export.load(inputs)(np.ones(2, np.int64))
    with pytest.raises(DtypeError, match="int32 in place of int64"):
        fx_export.renew(inputs)


def test_an_index_with_another_dtype_of_a_weight(tmp_path):
    """What JAX makes of it here is the dtype of the program."""
    path = fx_export.export(tmp_path / "net", lambda w, x: x * w["b"], {"a": np.ones(4), "b": np.ones(3)}, [np.ones(3)])
    index = json.loads((path / "data/index.json").read_text())
    for weight in index["weights"]:
        weight["dtype"] = "float64" if weight["offset"] == 0 else weight["dtype"]
    (path / "data/index.json").write_text(json.dumps(index))
    with pytest.raises(BundleError, match="the program takes other weights"):
        fx_export.bundle.exporter_named("stablehlo").load(path / "data")
