"""``fx ckpt``: what it prints, what it changes, and when it fails."""

import json
import os

import fx_ckpt
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from click.testing import CliRunner
from fx_ckpt.cli.commands import ckpt
from fx_core.plugins import registry


@pytest.fixture
def run(tmp_path):
    with fx_ckpt.CheckpointManager(tmp_path / "run") as manager:
        for step in (1, 2):
            tree = {"w": jnp.full((2, 3), float(step)), "key": jax.random.key(0), "n": step, "[b]": np.array(["x"])}
            manager.save(step, tree, metrics={"loss": 1 / step}, metadata={"note": "[red]"})
    return tmp_path / "run"


def call(*arguments, code=0, **options):
    result = CliRunner().invoke(ckpt, [str(a) for a in arguments], env={"COLUMNS": "200"}, **options)
    assert result.exit_code == code, result.output
    return result.output


def test_it_comes_through_the_plugin_door():
    assert registry().commands["ckpt"].load() is ckpt


def test_ls(run):
    text = call("ls", run)
    assert "msgpack" in text
    assert "0.5" in text
    assert text.splitlines()[-2].split("│")[1].strip() == "2"
    first, second = json.loads(call("ls", run, "--json"))
    assert (first["step"], second["step"], second["metrics"]) == (1, 2, {"loss": 0.5})


def test_inspect(run):
    text = call("inspect", run)
    assert "step 2" in text
    assert "loss = 0.5" in text
    assert "note = [red]" in text
    row = next(line for line in text.splitlines() if " w " in line)
    assert [cell.strip() for cell in row.split("│")[1:-1]] == ["w", "float32", "[2, 3]", "", "24 B"]
    leaves = {leaf["path"]: leaf for leaf in json.loads(call("inspect", run, "--step", 1, "--json"))["leaves"]}
    assert leaves["key"]["kind"] == "key"
    assert leaves["[b]"]["dtype"] == "<U1"
    assert "There is no checkpoint of step 7" in call("inspect", run, "--step", 7, code=1)


def test_verify(run):
    assert call("verify", run).count("whole") == 2
    (run / "step_00000001/data/state.msgpack").write_bytes(b"x")
    text = call("verify", run, code=1)
    assert "whole" in text
    assert "state.msgpack: 1 bytes" in text
    assert "whole" in call("verify", run / "step_00000002")
    assert "whole" in call("verify", run, "--step", 2)
    assert "There is no checkpoint in" in call("verify", run.parent, code=1)


def test_diff(run):
    lines = json.loads(call("diff", f"{run}@1", f"{run}@2", "--json", code=1))
    assert [(line["path"], line["largest"]) for line in lines] == [("n", None), ("w", 1.0)]
    assert lines[0]["first"] == "Python int 1"
    text = call("diff", f"{run}@1", f"{run}@2", code=1)
    assert "largest difference" in text
    assert "no differences" in call("diff", run, f"{run}@2")
    assert "no differences" in call("diff", f"{run}@1", f"{run}@2", "--structure")
    other = fx_ckpt.save(run.parent / "other", {"w": jnp.zeros((3, 2)), "e": {}, "z": jnp.float32(np.nan)})
    lines = json.loads(call("diff", other, run, "--json", code=1))
    found = {line["path"]: (line["first"], line["second"]) for line in lines}
    assert found["w"] == ("float32[3, 2]", "float32[2, 3] (weakly typed)")
    assert found["e"] == ("empty dictionary", "absent")
    assert "no differences" in call("diff", other, other)
    leaf = fx_ckpt.save(run.parent / "leaf", 3)
    assert "Python int 3" in call("diff", leaf, fx_ckpt.save(run.parent / "leaf2", 4), code=1)


def test_convert(run):
    assert "safetensors" in call("convert", run, "--to", "safetensors", "--out", run.parent / "out")
    assert fx_ckpt.restore(run.parent / "out")["n"] == 2
    call("convert", run, "--to", "safetensors", "--step", 1)
    assert fx_ckpt.CheckpointManager(run).inspect(1).backend == "safetensors"
    assert "There is something at this path" in call("convert", run, "--to", "msgpack", "--out", run, code=1)


def test_rm(run):
    assert "Aborted" in call("rm", run, 1, input="n\n", code=1)
    assert "There is no checkpoint of step 9" in call("rm", run, 1, 9, "--yes", code=1)
    assert sorted(os.listdir(run)) == ["step_00000001", "step_00000002"]
    assert "1 removed, 1 left" in call("rm", run, 1, input="y\n")
    assert os.listdir(run) == ["step_00000002"]


def test_what_is_no_checkpoint(tmp_path):
    assert "There is no checkpoint here" in call("inspect", tmp_path, code=1)
