"""``fx ckpt``: what it prints, what it changes, and when it fails."""

import json
import os
import re

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


def call(*arguments, code=0, columns=200, **options):
    result = CliRunner().invoke(ckpt, [str(a) for a in arguments], env={"COLUMNS": str(columns)}, **options)
    assert result.exit_code == code, result.output
    return result.output


def test_it_comes_through_the_plugin_door():
    assert registry().commands["ckpt"].load() is ckpt


def test_ls(run):
    text = call("ls", run)
    assert "msgpack" in text
    assert "0.5" in text
    cells = [line.split() for line in text.splitlines()]
    assert [row[0] for row in cells if row[0].isdecimal()] == ["1", "2", "2"]
    assert cells[-1] == ["2", "steps", "192", "B"]
    first, second = json.loads(call("ls", run, "--json"))
    assert (first["step"], second["step"], second["metrics"]) == (1, 2, {"loss": 0.5})


def test_commands_find_the_checkpoints_of_a_run(run):
    parent = run.parent / "parent"
    parent.mkdir()
    run.rename(parent / "checkpoints")
    assert [found["step"] for found in json.loads(call("ls", parent, "--json"))] == [1, 2]
    assert "step 1," in call("inspect", parent, "--step", 1)
    assert "2 of 2" in call("verify", parent)
    assert json.loads(call("diff", f"{parent}@1", f"{parent}@2", "--json", code=1))
    assert json.loads(call("convert", parent, "--to", "safetensors", "--json"))["backend"] == "safetensors"
    assert json.loads(call("rm", parent, 1, "--yes", "--json"))["left"] == [2]


@pytest.mark.parametrize("command", ["ls", "inspect", "verify"])
def test_nothing_is_an_error(command, tmp_path):
    assert "There is no such directory" in call(command, tmp_path / "nowhere", code=1)
    assert "There is no checkpoint here" in call(command, tmp_path, code=1)
    (tmp_path / "checkpoints").mkdir()
    assert "There is no checkpoint here" in call(command, tmp_path, code=1)


def test_tables_fit_into_80_columns_and_keep_paths_whole(tmp_path):
    tree = {"opt_state": [{"mu": {"ConvolutionalBlock_1": {"Conv_0": {"kernel": np.ones((3, 3, 1, 8))}}}}]}
    metrics = {f"metric_of_a_long_name_{i}": i / 3 for i in range(4)}
    manager = fx_ckpt.CheckpointManager(tmp_path / "a", async_=False)
    manager.save(1, tree, metrics=metrics)
    text = call("inspect", tmp_path / "a", columns=40)
    assert "opt_state[0]/mu/ConvolutionalBlock_1/Conv_0/kernel\n    dtype float64  shape [3, 3, 1, 8]\n" in text
    listed = call("ls", tmp_path / "a", columns=80)
    table = listed[listed.index("\n") + 1 :]
    assert all(len(line) <= 80 for line in table.splitlines())
    assert "…" not in text + listed


def test_inspect(run):
    text = call("inspect", run)
    assert "step 2" in text
    assert "loss = 0.5" in text
    assert "note = [red]" in text
    row = next(line for line in text.splitlines() if line.startswith("w "))
    assert re.split("  +", row) == ["w", "float32", "[2, 3]", "24 B"]
    assert text.splitlines()[-1].startswith("4 leaves  ")
    leaves = {leaf["path"]: leaf for leaf in json.loads(call("inspect", run, "--step", 1, "--json"))["leaves"]}
    assert leaves["key"]["kind"] == "key"
    assert leaves["[b]"]["dtype"] == "<U1"
    assert "There is no checkpoint of step 7" in call("inspect", run, "--step", 7, code=1)


def test_verify(run):
    assert call("verify", run).count("whole") == 2
    (run / "step_00000001/data/state.msgpack").write_bytes(b"x")
    text = call("verify", run, code=1)
    assert "whole" in text
    assert "total: 1 of 2 without damage" in text
    rows = json.loads(call("verify", run, "--json", code=1))
    assert [row["problem"] is None for row in rows] == [False, True]
    assert "state.msgpack: 1 bytes" in text
    assert "whole" in call("verify", run / "step_00000002")
    assert "whole" in call("verify", run, "--step", 2)
    assert "There is no checkpoint here" in call("verify", run.parent, code=1)


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


ESCAPES = [
    "\x1b[31mred",
    "\x1b]0;title\x07",
    "[red]",
    "[/]",
    "[bold]x[/bold]",
    "\\[red]",
    "\u202eabc",
    "a\nb",
    "\x9b1m",
    "\r",
]


@pytest.mark.parametrize("text", ESCAPES)
def test_texts_of_a_checkpoint_do_not_reach_the_terminal_as_codes(tmp_path, text):
    manager = fx_ckpt.CheckpointManager(tmp_path / f"run {text}", async_=False)
    tree = {text: np.ones(2), "n": {text: 1}}
    manager.save(1, tree, metrics={text: 1.0}, metadata={text: text})
    manager.save(2, {text: np.zeros(2), "n": {text: 2}})
    shown = [
        call("ls", manager.directory),
        call("inspect", manager.directory, "--step", 1),
        call("verify", manager.directory),
        call("diff", f"{manager.directory}@1", f"{manager.directory}@2", code=1),
        call("convert", manager.directory, "--to", "safetensors", "--out", tmp_path / f"out {text}"),
        call("inspect", tmp_path / f"none {text}", code=1),
        call("rm", manager.directory, 1, input="n\n", code=1),
        call("rm", manager.directory, 2, "--yes"),
    ]
    for output in shown:
        assert not set(output) & set("\x1b\x9b\x07\r\u202e")
    visible = text if text.isprintable() else ascii(text)[1:-1]
    assert visible in shown[1]
    assert visible in shown[3]


def test_metadata_that_is_no_dictionary(tmp_path):
    from fx_core.files import MANIFEST, AtomicDirectory

    base = fx_ckpt.save(tmp_path / "x", {})
    manifest = json.loads((base / MANIFEST).read_text())
    with AtomicDirectory(tmp_path / "y", format="fx-checkpoint", version=1) as new:
        for file in (base / "data").iterdir():
            (new.directory / "data").mkdir()
            (new.directory / "data" / file.name).write_bytes(file.read_bytes())
        kept = {name: value for name, value in manifest.items() if name not in ("files", "digest")}
        new.manifest.update(kept | {"metadata": ["[red]", 3]})
    assert "0 = [red], 1 = 3" in call("inspect", tmp_path / "y")


def test_one_damaged_step_hides_no_other(run):
    (run / "step_00000001/manifest.json").write_bytes(b"\x1b[31m")
    output = call("ls", run, code=1)
    assert "0.5" in output
    assert "step 1 cannot be read" in output
    assert "damaged" in output
    listed = json.loads(call("ls", run, "--json", code=1))
    assert [entry["step"] for entry in listed] == [2, 1]
    assert "damaged" in listed[1]["problem"]
    asked = call("rm", run, 1, 2, input="n\n", code=1)
    assert "and 1 that cannot be read" in asked
    assert "1 removed, 1 left" in call("rm", run, 1, "--yes")
    assert "There is no checkpoint of step 1" in call("rm", run, 1, "--yes", code=1)


def test_differences_of_bytes_and_texts(tmp_path):
    first = fx_ckpt.save(tmp_path / "a", {"b": b"abc", "t": np.array(["x", "yy"]), "n": np.float32(1), "u": "x"})
    second = fx_ckpt.save(tmp_path / "b", {"b": b"abcd", "t": np.array(["x", "zz"]), "n": np.float32(3), "u": "y"})
    found = json.loads(call("diff", first, second, "--json", code=1))
    assert {line["path"]: line["largest"] for line in found} == {"b": None, "t": None, "n": 2.0, "u": None}


def test_a_step_with_notes_is_not_removed(run):
    (run / "step_00000001/notes.md").write_text("our best one")
    assert "files that are not its own: notes.md" in call("rm", run, 1, "--yes", code=1)
    assert (run / "step_00000001/notes.md").exists()


def test_what_is_no_checkpoint_is_named(tmp_path):
    (tmp_path / "checkpoint_1").write_bytes(fx_ckpt.to_bytes({"w": np.ones(2)}))
    for command in ("inspect", "convert"):
        more = ["--to", "msgpack"] if command == "convert" else []
        assert "as Flax writes them" in call(command, tmp_path / "checkpoint_1", *more, code=1)
