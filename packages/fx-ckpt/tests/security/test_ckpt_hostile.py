"""Hostile checkpoints are refused with errors of fx; opening one runs nothing and opens nothing elsewhere."""

import json
import subprocess
import sys

import pytest

pytestmark = pytest.mark.slow


@pytest.mark.parametrize(("backend", "count"), [("msgpack", 70), ("safetensors", 80), ("orbax", 50)])
def test_hostile_checkpoints_are_refused_and_run_nothing(tmp_path, backend, count):
    program = [sys.executable, "-m", "fx_ckpt.testing.watched", backend, str(tmp_path)]
    run = subprocess.run(program, capture_output=True, text=True, check=False, timeout=300)
    assert run.returncode == 0, run.stderr
    outcomes = json.loads(run.stdout.splitlines()[-1])
    assert len(outcomes) > count
    assert {name: out for name, out in outcomes.items() if out["restore"] != "refused" or out["seen"]} == {}
