"""The commands below ``fx export``."""

import json
import sys
import textwrap

import fx_export
import numpy as np
import pytest
from click.testing import CliRunner
from fx_export.commands import export


@pytest.fixture(scope="module")
def bundle(tmp_path_factory):
    path = tmp_path_factory.mktemp("bundles") / "net"
    return fx_export.export(path, lambda w, x: x * w, np.float32(2), ["float32[n]"], metadata={"of": "us"})


def run(*arguments):
    return CliRunner().invoke(export, [str(argument) for argument in arguments])


def test_formats_name_their_extras():
    lines = [line.split() for line in CliRunner(env={"COLUMNS": "120"}).invoke(export, ["formats"]).output.splitlines()]
    assert [line[-1] for line in lines if line[0] == "litert"] == ["litert"]
    assert {row["name"] for row in json.loads(run("formats", "--json").output)} >= {"onnx", "stablehlo"}


def test_inspect_shows_the_manifest(bundle):
    shown = json.loads(run("inspect", bundle, "--json").output)
    assert shown["exporter"] == "stablehlo"
    assert shown["metadata"] == {"of": "us"}
    assert shown["verification"]["max_absolute_error"] == 0
    shown = CliRunner(env={"COLUMNS": "80"}).invoke(export, ["inspect", str(bundle)]).output.splitlines()
    assert all(len(line) <= 80 for line in shown)
    assert ["metadata", "of", "us"] in [line.split() for line in shown]


def test_inspect_shows_the_inputs(tmp_path):
    double = lambda scale, x: scale * x["a"]  # noqa: E731
    given = [{"a": np.zeros((2, 3), np.float32)}]
    pairs = {"named": (["image:float32[batch, 3]"], lambda w, x: w * x, ["image: float32[batch, 3]"]),
             "paths": (given, double, ["0/a: float32[2, 3]"])}  # fmt: skip
    for name, (inputs, fn, expected) in pairs.items():
        path = fx_export.export(tmp_path / name, fn, np.float32(2), inputs, verify=False)
        assert json.loads(run("inspect", path, "--json").output)["inputs"] == expected
    several = {"one": fx_export.EntryPoint(lambda w, x: w * x, ["int32[n]"])}
    path = fx_export.export_several(tmp_path / "several", several, np.int32(2))
    assert json.loads(run("inspect", path, "--json").output)["inputs"] == {"one": ["0: int32[n]"]}
    assert "inputs one" in run("inspect", path).output


def test_verify_checks_every_byte(bundle, tmp_path):
    assert "6 trials at export" in run("verify", bundle).output
    assert json.loads(run("verify", bundle, "--json").output)["exporter"] == "stablehlo"
    copy = fx_export.export(tmp_path / "net", lambda w, x: x * w, np.float32(2), ["float32[n]"], verify=False)
    (copy / "data/weights.bin").write_bytes(b"xxxx")
    result = run("verify", copy)
    assert result.exit_code == 1
    assert "weights.bin" in result.output
    assert run("inspect", tmp_path).exit_code == 1


@pytest.fixture
def trained(tmp_path, monkeypatch):
    """A run with its weights, and a module in the current directory that knows how to make the model."""
    (tmp_path / "runs").mkdir()
    np.save(tmp_path / "runs/kernel.npy", np.arange(6, dtype=np.float32).reshape(3, 2))
    text = """
        import numpy as np

        def predict(kernel, image, scale=1):
            return {"logits": scale * (image @ kernel)}

        def build(run):
            return predict, np.load(run / "kernel.npy")

        class State:
            def apply_fn(self, variables, image):
                return predict(variables["params"], image)

            def __init__(self, run):
                self.params = np.load(run / "kernel.npy")

        broken = 3
    """
    (tmp_path / "network_of_a_run.py").write_text(textwrap.dedent(text))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    yield tmp_path / "runs"
    sys.modules.pop("network_of_a_run", None)


IMAGE = ("--input", "image:float32[batch, 3]")


def test_a_run_is_exported_by_the_function_that_makes_its_model(trained):
    more = (
        "--call",
        "scale=2",
        "--option",
        "opset=21",
        "--verify-sizes",
        "batch=[4]",
        "--option",
        'output_names=["y"]',
    )
    result = run(trained, "--model", "network_of_a_run:build", "--format", "onnx", *IMAGE, *more)
    assert result.exit_code == 0, result.output
    loaded = fx_export.load(trained / "exports/onnx")
    assert "batch=4" in loaded.verification["trials"][0]
    np.testing.assert_array_equal(loaded(np.ones((1, 3), np.float32))["logits"], [[12, 18]])
    index = json.loads((trained / "exports/onnx/data/index.json").read_text())
    assert (index["opset"], index["inputs"][0]["name"], index["outputs"][0]["name"]) == (21, "image", "y")


def test_output_and_overwriting(trained, tmp_path):
    arguments = [trained, "--model", "network_of_a_run:build", *IMAGE, "--output", tmp_path / "made/net"]
    assert "stablehlo bundle" in run(*arguments, "--no-verify").output
    again = run("from-run", *arguments)
    assert again.exit_code == 1
    assert "already" in again.output
    assert run(*arguments, "--overwrite").exit_code == 0
    assert fx_export.load(tmp_path / "made/net").verification is not None


def test_the_function_may_give_a_state_that_has_its_variables(trained):
    result = run(trained, "--model", "network_of_a_run:State", *IMAGE)
    assert result.exit_code == 0, result.output
    loaded = fx_export.load(trained / "exports/stablehlo")
    np.testing.assert_array_equal(loaded(np.ones((1, 3), np.float32))["logits"], [[6, 9]])


@pytest.mark.parametrize(
    ("model", "text"),
    [
        ("network_of_a_run", "no module and name"),
        ("network_of_a_run:missing", "no attribute 'missing'"),
        ("network_of_no_run:build", "No module named 'network_of_no_run'"),
        ("network_of_a_run:broken", "an object of type int"),
    ],
)
def test_what_makes_no_model(model, text, trained):
    result = run(trained, "--model", model, *IMAGE)
    assert result.exit_code == 1
    assert "names no function that makes a model" in result.output
    assert text in result.output
    assert not (trained / "exports/stablehlo").exists()


def test_malformed_arguments(trained):
    assert "is no name=value" in run(trained, "--model", "network_of_a_run:build", *IMAGE, "--call", "scale").output
    assert "describes no input" in run(trained, "--model", "network_of_a_run:build", "--input", "float3[2]").output
    assert run(trained / "missing", "--model", "network_of_a_run:build", *IMAGE).exit_code == 2
    assert "Missing option '--input'" in run(trained, "--model", "network_of_a_run:build").output
    below_a_file = trained / "a_file/net"
    below_a_file.parent.write_text("a file")
    result = run(trained, "--model", "network_of_a_run:build", *IMAGE, "--output", below_a_file)
    assert "a file, where a directory is to be" in result.output
    assert not (trained / "exports").exists()


def test_renew_writes_anew(tmp_path):
    path = fx_export.export(tmp_path / "net", lambda w, x: x * w, np.float32(2), ["float32[n]"])
    before = (path / "manifest.json").stat().st_ino
    assert "written by jax" in run("renew", path).output
    # A second time could get the number of the first file.
    assert (path / "manifest.json").stat().st_ino != before
    assert json.loads(run("renew", path, "--json").output)["path"] == str(path)
    assert fx_export.load(path)(np.ones(3, np.float32)).tolist() == [2, 2, 2]
    assert run("renew", tmp_path).exit_code == 1


def test_a_terminal_obeys_nothing_in_a_message(tmp_path):
    (tmp_path / "\x1b[31m").mkdir()
    result = run("inspect", tmp_path / "\x1b[31m")
    assert result.exit_code == 1
    assert "\\x1b[31m" in result.output
    assert "\x1b" not in result.output
