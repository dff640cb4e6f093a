"""The commands below ``fx export``."""

import json

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
    assert "pip install 'fx-export[onnx]'" in run("formats").output
    assert {row["name"] for row in json.loads(run("formats", "--json").output)} >= {"onnx", "stablehlo"}


def test_inspect_shows_the_manifest(bundle):
    shown = json.loads(run("inspect", bundle, "--json").output)
    assert shown["exporter"] == "stablehlo"
    assert shown["metadata"] == {"of": "us"}
    assert shown["verification"]["max_absolute_error"] == 0
    assert "stablehlo" in run("inspect", bundle).output


def test_verify_checks_every_byte(bundle, tmp_path):
    assert "6 trials at export" in run("verify", bundle).output
    copy = fx_export.export(tmp_path / "net", lambda w, x: x * w, np.float32(2), ["float32[n]"], verify=False)
    (copy / "data/weights.bin").write_bytes(b"xxxx")
    result = run("verify", copy)
    assert result.exit_code == 1
    assert "weights.bin" in result.output
    assert run("inspect", tmp_path).exit_code == 1
