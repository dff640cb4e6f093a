"""Several networks in one bundle, names of inputs and outputs, and how long a bundle is read."""

import datetime
import json
import warnings
from pathlib import Path

import fx_export
import jax
import numpy as np
import pytest
from fx_core.files import AtomicDirectory
from fx_export import EntryPoint
from fx_export.errors import (
    ArgumentTypeError,
    BundleError,
    ExpiryWarning,
    InputMismatchError,
    ItemNotFoundError,
    VerificationError,
)
from fx_export.expiry import check_expiry, dates

WEIGHTS = {"kernel": np.arange(6, dtype=np.float32).reshape(3, 2) / 10, "bias": np.ones(2, np.float32)}


def forward(w, x):
    return x @ w["kernel"] + w["bias"][None]


def backward(w, y):
    return {"x": y @ w["kernel"].T, "sum": y.sum()}


HALVES = {
    "forward": EntryPoint(forward, ["x:float32[batch, 3]"]),
    "backward": EntryPoint(backward, ["y:float32[rows, 2]"], constraints=["rows <= 4"]),
}


@pytest.fixture(scope="module")
def halves(tmp_path_factory):
    return fx_export.export_several(tmp_path_factory.mktemp("x") / "net", HALVES, WEIGHTS, metadata={"n": 1})


def test_entry_points_share_what_they_have_in_common(halves):
    network = fx_export.load(halves)
    x = np.ones((4, 3), np.float32)
    np.testing.assert_allclose(network["forward"](x), forward(WEIGHTS, x), rtol=1e-6)
    np.testing.assert_allclose(network["backward"](x[:, :2])["x"], x[:, :2] @ WEIGHTS["kernel"].T, rtol=1e-6)
    assert sorted(network.entry_points) == ["backward", "forward"]
    weights = json.loads((halves / "data/index.json").read_text())["weights"]
    assert sorted(w["name"] for w in weights) == ["bias", "kernel"]
    assert (halves / "data/weights.bin").stat().st_size < 100
    pairs = [program.weights for program in network.entry_points.values()]
    assert all(one is other for one, other in zip(*pairs, strict=True))
    assert network.metadata == {"n": 1}
    assert {trial.partition(":")[0] for trial in network.verification["trials"]} == {"forward", "backward"}
    with pytest.raises(InputMismatchError, match="rows"):
        network["backward"](np.ones((5, 2), np.float32))


def test_one_has_to_be_chosen(halves, tmp_path):
    network = fx_export.load(halves)
    with pytest.raises(ItemNotFoundError, match=r"several networks(.|\n)*backward, forward"):
        network(np.ones((4, 3), np.float32))
    with pytest.raises(LookupError, match="no entry point 'sideways'"):
        network["sideways"]
    one = fx_export.export(tmp_path / "one", forward, WEIGHTS, ["float32[batch, 3]"])
    with pytest.raises(ItemNotFoundError, match="it is one network"):
        fx_export.load(one)["forward"]


@pytest.mark.parametrize("format", ["stablehlo", "onnx"])
def test_names_of_files_are_names_of_entry_points_too(format, tmp_path):
    names = ["weights", "program", "index", "model", "manifest", "data"]
    factors = dict(zip(names, range(2, 8)))
    entries = {
        name: fx_export.EntryPoint(lambda w, x, factor=factor: x * w * factor, ["float32[batch, 3]"])
        for name, factor in factors.items()
    }
    path = fx_export.export_several(tmp_path / "net", entries, np.float32(10), format=format, verify=False)
    loaded = fx_export.load(path)
    for name, factor in factors.items():
        np.testing.assert_array_equal(loaded[name](np.ones((2, 3), np.float32)), np.full((2, 3), 10.0 * factor))


def test_names_of_entry_points_are_identifiers(tmp_path):
    for entries in ({}, {"../x": HALVES["forward"]}, {3: HALVES["forward"]}):
        with pytest.raises(ArgumentTypeError, match="identifiers"):
            fx_export.export_several(tmp_path / "x", entries, WEIGHTS)


@pytest.mark.parametrize(
    ("format", "option", "value", "text"),
    [
        ("stablehlo", "opset", 21, r"options out of platforms=.*, stablehlo=None(.|\n)*got: opset"),
        ("onnx", "platforms", ["cpu"], r"options out of opset=23, fuse=True, .*(.|\n)*got: platforms"),
        ("litert", "opset", 21, r"options out of sizes=None, int8=False(.|\n)*got: opset"),
        ("onnx", "fuse", "no", r"fuse: True or False(.|\n)*'no'"),
        ("onnx", "input_names", "x", "1 different names, for input"),
        ("stablehlo", "output_names", [3], "1 different names"),
    ],
    ids=str,
)
def test_options_of_other_formats_are_refused_with_those_of_this_one(format, option, value, text, tmp_path):
    with pytest.raises(ArgumentTypeError, match=text):
        fx_export.export(tmp_path / "x", forward, WEIGHTS, ["float32[batch, 3]"], format=format, **{option: value})
    assert not list(tmp_path.iterdir())
    if option == "opset":
        with pytest.raises(ArgumentTypeError, match="opset"):
            fx_export.export_several(tmp_path / "x", HALVES, WEIGHTS, format=format, **{option: value})
    assert list(tmp_path.iterdir()) == []


def test_an_entry_point_that_computes_something_else_stops_the_export(tmp_path, monkeypatch):
    monkeypatch.setattr(
        "fx_export.stablehlo.Program.__call__", lambda self, *inputs: self.exported.call(self.weights, *inputs) * 0
    )
    with pytest.raises(VerificationError, match="something else than the model"):
        fx_export.export_several(tmp_path / "x", {"forward": HALVES["forward"]}, WEIGHTS)
    assert list(tmp_path.iterdir()) == []


def test_other_formats_have_a_directory_for_each(tmp_path):
    pytest.importorskip("onnxruntime")
    network = fx_export.load(fx_export.export_several(tmp_path / "net", HALVES, WEIGHTS, format="onnx"))
    x = np.ones((2, 3), np.float32)
    np.testing.assert_allclose(network["forward"](x), forward(WEIGHTS, x), rtol=1e-6)
    assert (tmp_path / "net/data/forward/model.onnx").is_file()


def test_hostile_names_and_indices(halves, tmp_path):
    def changed(name, manifest, index):
        with AtomicDirectory(tmp_path / name, format="fx-bundle", version=1) as new:
            data = new.directory / "data"
            data.mkdir()
            for file in (halves / "data").iterdir():
                (data / file.name).write_bytes(file.read_bytes())
            known = json.loads((data / "index.json").read_text())
            (data / "index.json").write_text(json.dumps(index(known)))
            new.manifest.update(exporter="stablehlo", metadata={}, written_by={}, **manifest)
        with pytest.raises(BundleError) as caught:
            fx_export.load(tmp_path / name)
        return str(caught.value)

    both, same = {"entry_points": ["forward", "backward"]}, lambda index: index
    assert "no identifiers" in changed("a", {"entry_points": ["../../x"]}, same)
    assert "is no list" in changed("b", {"entry_points": 3}, same)
    assert "other entry points" in changed("c", {"entry_points": ["forward"]}, same)
    assert "lacks the programs" in changed("d", both, lambda i: i | {"programs": {"../x": {}, "backward": {}}})
    assert "malformed" in changed("e", both, lambda i: i | {"programs": {"forward": {"uses": [7]}, "backward": {}}})
    assert "malformed" in changed("f", both, lambda i: i | {"programs": {"forward": 3, "backward": {}}})


def test_inputs_have_names(tmp_path):
    inputs = ["x:float32[batch, 3]", "y:float32[batch, 2]"]
    path = fx_export.export(tmp_path / "net", lambda w, x, y: forward(w, x) - y, WEIGHTS, inputs, output_names=["z"])
    network = fx_export.load(path)
    x, y = np.ones((4, 3), np.float32), np.ones((4, 2), np.float32)
    np.testing.assert_array_equal(network(y=y, x=x), network(x, y))
    assert (network.program.input_names, network.program.output_names) == (("x", "y"), ("z",))
    with pytest.raises(InputMismatchError, match=r"the names x, y(.|\n)*x"):
        network(x=x)
    with pytest.raises(ArgumentTypeError, match="output_names: 1 different names"):
        fx_export.export(tmp_path / "b", forward, WEIGHTS, inputs[:1], output_names=["a", "b"])


def test_older_versions_of_stablehlo(tmp_path):
    path = fx_export.export(tmp_path / "net", forward, WEIGHTS, ["float32[batch, 3]"], stablehlo="1.10.0")
    assert b"StableHLO_v1.10.0" in (path / "data/program.bin").read_bytes()
    assert fx_export.load(path)(np.ones((2, 3), np.float32)).shape == (2, 2)
    with pytest.raises(ArgumentTypeError, match="a version such as"):
        fx_export.export(tmp_path / "b", forward, WEIGHTS, ["float32[batch, 3]"], stablehlo="old")
    with pytest.raises(ArgumentTypeError, match=r"a version from \d+\.\d+\.\d+ to 1\.\d+\.\d+"):
        fx_export.export(tmp_path / "b", forward, WEIGHTS, ["float32[batch, 3]"], stablehlo="9.99.0")


def test_bundles_of_the_first_version_load():
    network = fx_export.load(Path(__file__).parent / "data/bundle_0_1")
    x = np.ones((4, 3), np.float32)
    kernel = np.arange(6, dtype=np.float32).reshape(3, 2) / 10
    np.testing.assert_allclose(network(x)["logits"], np.tanh(x @ kernel) + 1, rtol=1e-6)
    assert network.metadata == {"made": "by 0.1"}


def test_programs_of_a_newer_jax_are_told(tmp_path, monkeypatch):
    network = fx_export.load(fx_export.export(tmp_path / "net", forward, WEIGHTS, ["float32[1, 3]"]))

    def refuse(weights, *inputs):
        raise RuntimeError("INVALID_ARGUMENT: Failed to deserialize StableHLO")

    monkeypatch.setattr(network.program, "_call", refuse)
    with pytest.raises(BundleError, match=r'newer JAX(.|\n)*stablehlo="1.10.0"'):
        network(np.ones((1, 3), np.float32))


def test_the_end_of_the_promise_is_said(tmp_path):
    today = datetime.date(2026, 11, 29)
    index = dates(today) | {"jax": "0.0.1"}
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        check_expiry(tmp_path, index, today)
        check_expiry(tmp_path, index | {"jax": jax.__version__}, today.replace(year=2030))
        check_expiry(tmp_path, {}, today)
    with pytest.warns(ExpiryWarning, match="runs out on 2027-05-28(.|\n)*fx export renew"):
        check_expiry(tmp_path, index, datetime.date(2027, 5, 1))
    with pytest.warns(ExpiryWarning, match="has run out on 2027-05-28, half a year after jax 0.0.1"):
        check_expiry(tmp_path, index, datetime.date(2027, 6, 1))


def test_bundles_are_written_anew(halves, tmp_path):
    inputs = ["x:float32[batch, length]"]
    one = fx_export.export(tmp_path / "one", lambda w, x: x * w["bias"].sum(), WEIGHTS, inputs, metadata={"a": 1})
    before = fx_export.load(one)
    several = fx_export.export_several(tmp_path / "several", HALVES, WEIGHTS, key=b"k")
    assert fx_export.renew(one) == one
    after = fx_export.load(one)
    x = np.ones((2, 5), np.float32)
    np.testing.assert_array_equal(after(x=x), before(x))
    assert (after.metadata, after.program.platforms) == ({"a": 1}, ("cpu", "cuda", "tpu"))
    assert json.loads((one / "data/index.json").read_text())["weights"][0]["name"] == "bias"
    fx_export.renew(several, key=b"k", stablehlo="1.10.0")
    again = fx_export.load(several, key=b"k")
    np.testing.assert_array_equal(again["forward"](x[:, :3]), fx_export.load(halves)["forward"](x[:, :3]))
    with pytest.raises(InputMismatchError):
        again["backward"](np.ones((5, 2), np.float32))
    pytest.importorskip("onnxruntime")
    other = fx_export.export(tmp_path / "onnx", forward, WEIGHTS, ["float32[1, 3]"], format="onnx")
    with pytest.raises(BundleError, match="'onnx' bundles do not expire"):
        fx_export.renew(other)
