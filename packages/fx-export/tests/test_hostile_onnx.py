"""ONNX models and indices that someone has changed, read by the exporter itself, which sees no digests of files."""

import json
import os

import fx_export
import numpy as np
import onnx
import pytest
from fx_export.errors import BundleError
from fx_export.onnx.exporter import OnnxExporter

WEIGHT = np.arange(32 * 32, dtype=np.float32).reshape(32, 32)
X = np.ones((2, 32), np.float32)


@pytest.fixture(scope="module")
def original(tmp_path_factory):
    """A model with its weights beside it, and a file outside of it that is as large."""
    path = tmp_path_factory.mktemp("onnx")
    options = {"format": "onnx", "external_bytes": 0, "verify": False}
    fx_export.export(path / "net", lambda w, x: x @ w["w"], {"w": WEIGHT}, ["float32[batch, 32]"], **options)
    (path / "outside.bin").write_bytes(np.full_like(WEIGHT, 7).tobytes())
    return path / "net/data"


@pytest.fixture
def model(original, tmp_path):
    """A copy that may be changed, two directories below a copy of the file outside."""
    (tmp_path / "outside.bin").write_bytes((original.parents[1] / "outside.bin").read_bytes())
    (tmp_path / "data").mkdir()
    for file in original.iterdir():
        (tmp_path / "data" / file.name).write_bytes(file.read_bytes())
    return tmp_path / "data"


def with_external_data(model, changes):
    """Change what the model says of where its weights are; None takes an entry out."""
    content = onnx.load(model / "model.onnx", load_external_data=False)
    (tensor,) = (tensor for tensor in content.graph.initializer if tensor.external_data)
    fields = {entry.key: entry.value for entry in tensor.external_data} | changes
    del tensor.external_data[:]
    for key, value in fields.items():
        if value is not None:
            tensor.external_data.add(key=key, value=str(value))
    (model / "model.onnx").write_bytes(content.SerializeToString())


@pytest.mark.parametrize(
    "changes",
    [
        {"location": "../outside.bin"},
        {"location": "none/../../outside.bin"},
        {"location": "../data/../outside.bin"},
        {"location": "/proc/self/mem"},
        {"location": "/dev/zero"},
        {"location": "."},
        {"location": ""},
        {"location": None},
        {"location": "missing.bin"},
        {"location": "*/_ORT_MEM_ADDR_/*"},
        {"offset": -4096},
        {"offset": 3},
        {"offset": 2**40},
        {"offset": 2**64},
        {"offset": "first"},
        {"offset": 2**63 - 1, "length": 2**62},
        {"length": -1},
        {"length": 16},
        {"length": 2**60},
    ],
    ids=str,
)
def test_weights_that_lie_elsewhere(model, changes):
    with_external_data(model, changes)
    with pytest.raises(BundleError, match="ONNX Runtime does not load the model"):
        OnnxExporter().load(model)


def test_weights_at_an_absolute_path(model):
    with_external_data(model, {"location": model.parent / "outside.bin"})
    with pytest.raises(BundleError, match="ONNX Runtime does not load the model"):
        OnnxExporter().load(model)


def _linked(model):
    (model / "weights.bin").unlink()
    os.symlink(model.parent / "outside.bin", model / "weights.bin")


def _shape(*sizes):
    def change(model):
        content = onnx.load(model / "model.onnx", load_external_data=False)
        (tensor,) = (tensor for tensor in content.graph.initializer if tensor.external_data)
        tensor.dims[:] = sizes
        (model / "model.onnx").write_bytes(content.SerializeToString())

    return change


FILES = {
    "a link to the outside": _linked,
    "no weights": lambda model: (model / "weights.bin").unlink(),
    "cut weights": lambda model: (model / "weights.bin").write_bytes(b"x" * 100),
    "a cut model": lambda model: (model / "model.onnx").write_bytes((model / "model.onnx").read_bytes()[:99]),
    "another file": lambda model: (model / "model.onnx").write_bytes(b"junk"),
    "an empty file": lambda model: (model / "model.onnx").write_bytes(b""),
    "weights of negative size": _shape(-32, -32),
    "weights without end": _shape(32, 32, 2**40),
    "weights that overflow": _shape(2**40, 2**40),
}


@pytest.mark.parametrize("change", FILES.values(), ids=FILES)
def test_damaged_files(model, change):
    change(model)
    with pytest.raises(BundleError, match="ONNX Runtime does not load the model"):
        OnnxExporter().load(model)


def test_the_copy_computes_without_changes(model):
    with_external_data(model, {"location": "./weights.bin"})
    np.testing.assert_allclose(OnnxExporter().load(model)(X), X @ WEIGHT)


def with_index(model, which, **changes):
    index = json.loads((model / "index.json").read_text())
    index[which][0].update(changes)
    (model / "index.json").write_text(json.dumps(index))


@pytest.mark.parametrize(
    ("which", "changes"),
    [
        ("inputs", {"name": "x"}),
        ("inputs", {"dtype": "int32"}),
        ("outputs", {"name": "y"}),
        ("outputs", {"dtype": "int32"}),
        ("outputs", {"dtype": "bfloat16"}),
        ("outputs", {"dtype": "float8_e5m2"}),
    ],
)
def test_indices_of_other_models(model, which, changes):
    """A dtype that the output does not have would be read out of the memory of its numbers."""
    with_index(model, which, **changes)
    with pytest.raises(BundleError, match="the model has other inputs or outputs"):
        OnnxExporter().load(model)


def test_what_the_runtime_raises_in_a_call_is_an_error_of_the_bundle(model):
    with_index(model, "inputs", shape="batch, 31")
    loaded = OnnxExporter().load(model)
    with pytest.raises(BundleError, match=r"ONNX Runtime does not compute the model(.|\n)*InvalidArgument"):
        loaded(X[:, :31])
