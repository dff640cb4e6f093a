"""One program on one process and on two, on several meshes, and with a worker that is killed."""

import sys

import numpy as np
import pytest

pytestmark = pytest.mark.slow


def launched(starter, *arguments, processes=2, devices=2, restarts=0, **environment):
    launcher = ["-m", "fx_train.distributed.launch", "--processes", processes, "--restarts", restarts]
    command = [sys.executable, *launcher, starter.program, *arguments]
    (outcome,) = starter.finish(starter.start(command, devices=devices, **environment))
    return outcome


@pytest.mark.parametrize(
    ("mesh", "layout", "up"),
    [("data:8", "data", [8, 16]), ("data:-1", "sharded", [8, 2]), ("data:-1, model:2", "tensor", [8, 8])],
)
def test_rules_alone_choose_the_layout_on_eight_devices(starter, tmp_path, expected, mesh, layout, up):
    outcome = starter.alone(tmp_path, mesh, layout, 6)
    assert outcome.code == 0, outcome.errors
    assert outcome.result["shards"]["up"] == up
    np.testing.assert_allclose(outcome.result["losses"], expected, rtol=1e-5)


def test_two_processes_train_and_one_goes_on_with_another_mesh(starter, tmp_path, expected):
    outcome = launched(starter, tmp_path, "data:-1, model:2", "tensor", 4, devices=4)
    assert outcome.code == 0, outcome.errors
    assert (outcome.result["processes"], outcome.result["shards"]["up"]) == (2, [8, 8])
    np.testing.assert_allclose(outcome.result["losses"], expected[:4], rtol=1e-5)
    outcome = starter.alone(tmp_path, "data:2, model:4", "tensor", 6)
    assert outcome.code == 0, outcome.errors
    result = outcome.result
    assert (result["processes"], result["first"], result["shards"]["up"]) == (1, 4, [8, 4])
    np.testing.assert_allclose(result["losses"], expected[4:], rtol=1e-5)


def test_a_killed_worker_ends_all_and_a_restart_resumes(starter, tmp_path, expected):
    outcome = launched(starter, tmp_path, "data:-1", "sharded", 6, KILL="1:3:0")
    assert outcome.code == 128 + 9, outcome.errors
    assert "Process 1 of 2 was killed by SIGKILL; the others were ended" in outcome.errors
    outcome = launched(starter, tmp_path, "data:-1", "sharded", 6, restarts=1, KILL="0:4:0")
    assert outcome.code == 0, outcome.errors
    assert "Process 0 of 2 was killed by SIGKILL" in outcome.errors
    assert "Starting all anew (1 restarts left)" in outcome.errors
    assert outcome.result["first"] == 4
    np.testing.assert_allclose(outcome.result["losses"], expected[4:], rtol=1e-5)
