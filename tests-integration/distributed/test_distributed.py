"""One program on one process and on two, on several meshes, and with a worker that is killed."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

PROGRAM = str(Path(__file__).with_name("program.py"))


def run(directory, mesh, layout, steps, *, processes=1, devices=8, restarts=0, **environment):
    """Run the program; its exit status, what it printed, and its errors."""
    launcher = ["-m", "fx_train.distributed.launch", "--processes", str(processes), "--restarts", str(restarts)]
    command = [sys.executable, *(launcher if processes > 1 else []), PROGRAM, str(directory), mesh, layout, str(steps)]
    env = {**os.environ, "JAX_PLATFORMS": "cpu", "JAX_NUM_CPU_DEVICES": str(devices), "XLA_FLAGS": "", **environment}
    done = subprocess.run(command, capture_output=True, text=True, env=env, timeout=240, check=False)
    lines = [line for line in done.stdout.splitlines() if line.startswith("{")]
    return done.returncode, json.loads(lines[-1]) if lines else None, done.stderr


@pytest.fixture(scope="module")
def expected(tmp_path_factory):
    """Losses on one device."""
    code, result, errors = run(tmp_path_factory.mktemp("one"), "data:1", "data", 6, devices=1)
    assert code == 0, errors
    assert len(result["losses"]) == 6
    return result["losses"]


@pytest.mark.parametrize(
    ("mesh", "layout", "up"),
    [("data:8", "data", [8, 16]), ("data:-1", "sharded", [8, 2]), ("data:-1, model:2", "tensor", [8, 8])],
)
def test_rules_alone_choose_the_layout_on_eight_devices(tmp_path, expected, mesh, layout, up):
    code, result, errors = run(tmp_path, mesh, layout, 6)
    assert code == 0, errors
    assert result["shards"]["up"] == up
    np.testing.assert_allclose(result["losses"], expected, rtol=1e-5)


def test_two_processes_train_and_one_goes_on_with_another_mesh(tmp_path, expected):
    code, result, errors = run(tmp_path, "data:-1, model:2", "tensor", 4, processes=2, devices=4)
    assert code == 0, errors
    assert (result["processes"], result["shards"]["up"]) == (2, [8, 8])
    np.testing.assert_allclose(result["losses"], expected[:4], rtol=1e-5)
    code, result, errors = run(tmp_path, "data:2, model:4", "tensor", 6)
    assert code == 0, errors
    assert (result["processes"], result["first"], result["shards"]["up"]) == (1, 4, [8, 4])
    np.testing.assert_allclose(result["losses"], expected[4:], rtol=1e-5)


def test_a_killed_worker_ends_all_and_a_restart_resumes(tmp_path, expected):
    code, _, errors = run(tmp_path, "data:-1", "sharded", 6, processes=2, devices=2, KILL="1:3:0")
    assert code == 128 + 9, errors
    assert "Process 1 of 2 was killed by SIGKILL; the others were ended" in errors
    code, result, errors = run(tmp_path, "data:-1", "sharded", 6, processes=2, devices=2, restarts=1, KILL="0:4:0")
    assert code == 0, errors
    assert "Process 0 of 2 was killed by SIGKILL" in errors
    assert "Starting all anew (1 restarts left)" in errors
    assert result["first"] == 4
    np.testing.assert_allclose(result["losses"], expected[4:], rtol=1e-5)
