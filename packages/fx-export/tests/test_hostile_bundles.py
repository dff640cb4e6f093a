"""Bundles that someone has changed and sealed anew, as an attacker does who knows the format."""

import contextlib
import json

import fx_export
import numpy as np
import pytest
from fx_core.errors import DamagedFilesError
from fx_core.files import MANIFEST, AtomicDirectory
from fx_export.errors import BundleError
from fx_export.stablehlo import StableHLOExporter
from hypothesis import given, settings
from hypothesis import strategies as st


@pytest.fixture(scope="module")
def bundle(tmp_path_factory):
    path = tmp_path_factory.mktemp("bundles") / "net"
    weights = {"a": np.ones((3, 2), np.float32), "b": np.ones(2, np.float32)}
    return fx_export.export(path, lambda w, x: {"y": x @ w["a"] + w["b"][None]}, weights, ["float32[batch, 3]"])


def sealed(bundle, path, change):
    with AtomicDirectory(path, format="fx-bundle", version=1, overwrite=True) as new:
        (new.directory / "data").mkdir()
        for file in (bundle / "data").iterdir():
            (new.directory / "data" / file.name).write_bytes(file.read_bytes())
        manifest = json.loads((bundle / MANIFEST).read_text())
        new.manifest.update({k: v for k, v in manifest.items() if k not in ("files", "digest")})
        change(new)
    return path


def hostile(index):
    return lambda new: (new.directory / "data/index.json").write_text(json.dumps(index))


def other(**entries):
    def change(new):
        path = new.directory / "data/index.json"
        path.write_text(json.dumps({**json.loads(path.read_text()), **entries}))

    return change


@pytest.mark.parametrize(
    ("change", "text"),
    [
        (other(uses=[1, 0]), "the program takes other weights"),
        (other(uses=[0]), "the program takes other weights"),
        (other(uses=[0, 1, 1]), "the program takes other weights"),
        (other(input_names=["x", "y"]), "names of its 1 inputs or outputs are malformed"),
        (other(output_names=[3]), "names of its 1 inputs or outputs are malformed"),
        (lambda new: new.manifest.pop("exporter"), "the manifest lacks 'exporter'"),
        (lambda new: (new.directory / "data/index.json").write_text("{"), "the index is missing or no JSON"),
        (hostile([]), "the index is no object"),
        (hostile({"weights": 3}), "the index of the weights is no list"),
        (hostile({"weights": [{}]}), "lacks name, dtype, shape or offset"),
        (hostile({"weights": [{"name": "w", "dtype": "O", "shape": [1], "offset": 0}]}), "unknown dtype or shape"),
        (hostile({"weights": [{"name": "w", "dtype": "int8", "shape": [-1], "offset": 0}]}), "unknown dtype or shape"),
        (hostile({"weights": [{"name": "w", "dtype": "int8", "shape": [2**40], "offset": 0}]}), "outside of the file"),
        (
            hostile({"weights": [{"name": "w", "dtype": "int8", "shape": [0, 2**62, 2**62], "offset": 0}]}),
            "unknown dtype",
        ),
        (hostile({"weights": [{"name": "w", "dtype": "int8", "shape": [1] * 65, "offset": 0}]}), "unknown dtype"),
        (lambda new: new.manifest.update(exporter=3), "'exporter' in the manifest is no str"),
        (lambda new: new.manifest.update(metadata=[]), "'metadata' in the manifest is no dict"),
        (lambda new: new.manifest.update(written_by=None), "'written_by' in the manifest is no dict"),
        (lambda new: new.manifest.update(verification=[1]), "'verification' in the manifest lists no trials"),
        (lambda new: new.manifest.update(verification="x"), "'verification' in the manifest lists no trials"),
        (lambda new: new.manifest.update(verification={}), "'verification' in the manifest lists no trials"),
        (lambda new: new.manifest.update(verification={"trials": 3}), "'verification' in the manifest lists no trials"),
        (hostile({"weights": [{"name": "w", "dtype": "int8", "shape": [1], "offset": -1}]}), "outside of the file"),
        (lambda new: (new.directory / "data/program.bin").write_bytes(b"junkjunk"), "JAX does not read the program"),
        (lambda new: (new.directory / "data/program.bin").write_bytes(b""), "JAX does not read the program"),
    ],
)
def test_hostile_bundles_that_are_sealed_correctly(bundle, tmp_path, change, text):
    with pytest.raises(BundleError, match=rf"This bundle cannot be read: (.|\n)*{text}"):
        fx_export.load(sealed(bundle, tmp_path / "changed", change))


@pytest.mark.parametrize("share", [0.02, 0.1, 0.3, 0.5, 0.8, 0.95])
def test_programs_that_are_cut(bundle, tmp_path, share):
    for file in (bundle / "data").iterdir():
        whole = file.read_bytes()
        kept = whole[: int(len(whole) * share)] if file.name == "program.bin" else whole
        (tmp_path / file.name).write_bytes(kept)
    with pytest.raises(BundleError, match="JAX does not read the program"):
        StableHLOExporter().load(tmp_path)


@pytest.mark.parametrize("place", [0, 0.25, 0.5, 0.75, 0.999])
def test_programs_that_were_changed_never_reach_jax(bundle, tmp_path, monkeypatch, place):
    """Its compiler may end the process at a malformed one; digests of the files are compared before."""
    copy = sealed(bundle, tmp_path / "copy", lambda new: None)
    whole = bytearray((copy / "data/program.bin").read_bytes())
    whole[int(place * len(whole))] ^= 0x40
    (copy / "data/program.bin").write_bytes(whole)
    monkeypatch.setattr("jax.export.deserialize", lambda content: pytest.fail("JAX got the program"))
    with pytest.raises(DamagedFilesError, match=r"program\.bin"):
        fx_export.load(copy)


ODD = st.sampled_from(
    ["null", "true", "-1", "0", "9223372036854775808", "0.5", '""', '"x"', '"../x"', "[]", "[0]", "[[1]]", "{}"]
)


@settings(max_examples=40, deadline=None)
@given(places=st.lists(st.tuples(st.integers(0, 50), ODD), min_size=1, max_size=3))
def test_any_index_is_read_or_refused(bundle, tmp_path_factory, places):
    index = json.loads((bundle / "data/index.json").read_text())

    def containers(value):
        if isinstance(value, dict | list):
            yield from ((value, key) for key in (value if isinstance(value, dict) else range(len(value))))
            for inner in value.values() if isinstance(value, dict) else value:
                yield from containers(inner)

    for place, odd in places:
        found = list(containers(index))
        holder, key = found[place % len(found)]
        holder[key] = json.loads(odd)
    path = tmp_path_factory.mktemp("index")
    for file in (bundle / "data").iterdir():
        (path / file.name).write_bytes(file.read_bytes())
    (path / "index.json").write_text(json.dumps(index))
    with contextlib.suppress(BundleError):
        program = StableHLOExporter().load(path)
        assert program(np.zeros((2, 3), np.float32))["y"].tolist() == [[1, 1], [1, 1]]
