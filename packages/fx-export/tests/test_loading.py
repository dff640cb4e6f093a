"""What loading a bundle imports, reads and checks, and in which order."""

import subprocess
import sys

import fx_export
import numpy as np
import pytest
from fx_core.errors import DamagedFilesError
from fx_core.testing import check_lazy_imports
from fx_export.errors import BundleError

X = np.ones((2, 3), np.float32)


def predict(weights, x):
    return x @ weights["kernel"] + weights["large"].sum()


@pytest.fixture(scope="module")
def bundle(tmp_path_factory):
    weights = {"kernel": np.ones((3, 2), np.float32), "large": np.ones(2**19, np.float32)}
    return fx_export.export(tmp_path_factory.mktemp("bundles") / "net", predict, weights, [X])


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


def test_weights_that_cannot_be_hashed_are_an_error(copy, monkeypatch):
    def digest(path):
        raise OSError(5, "Input/output error")

    monkeypatch.setattr("fx_export.checking.digest_file", digest)
    monkeypatch.setattr("fx_export.checking.verify_files", lambda directory, manifest, matches: matches(
        directory / "data/weights.bin", "sha256:"
    ))  # fmt: skip
    with pytest.raises(DamagedFilesError, match=r"data/weights\.bin: cannot be read: Input/output error"):
        fx_export.load(copy)


def test_what_was_compiled_for_fixed_sizes_is_loaded_with_the_bundle(bundle, tmp_path):
    expected = fx_export.load(bundle, compiled=tmp_path)(X)
    again = fx_export.load(bundle, compiled=tmp_path)
    (file,) = tmp_path.iterdir()
    file.unlink()
    np.testing.assert_array_equal(again(X), expected)
    np.testing.assert_array_equal(again(X), expected)
    # It was compiled neither for the first call nor for the second one.
    assert not list(tmp_path.iterdir())
