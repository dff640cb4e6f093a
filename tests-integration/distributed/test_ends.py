"""How processes end that nobody watches: started by hand or as pods, so that each has to know by itself."""

import os
import signal
import sys
import time
from pathlib import Path

import numpy as np
import pytest

pytestmark = pytest.mark.slow

ARGUMENTS = ("data:-1", "sharded", 6)


def test_a_pod_that_is_killed_ends_the_others_and_the_next_try_resumes(starter, tmp_path, expected):
    first, second = starter.pods(2, tmp_path, *ARGUMENTS, KILL="1:3:0")
    assert (first.code, second.code) == (1, -9)
    assert "Process 0 of 2 lost another process" in first.errors
    assert "fix: Start all processes anew; a run with checkpoints goes on from its last whole one." in first.errors
    assert "could not be saved" in first.errors
    assert "The newest checkpoint is of step 2." in first.errors
    first, second = starter.pods(2, tmp_path, *ARGUMENTS)
    assert (first.code, second.code) == (0, 0), first.errors + second.errors
    assert first.result["first"] == 2
    np.testing.assert_allclose(first.result["losses"], expected[2:], rtol=1e-5)
    assert not second.output.count("{")


def test_the_death_of_the_coordinator_ends_the_others(starter, tmp_path):
    first, second = starter.pods(2, tmp_path, *ARGUMENTS, KILL="0:3:0")
    assert first.code == -9
    # Either its own code sees the broken connection first, or JAX's runtime, which aborts.
    assert second.code in (1, -6), second.errors
    assert "lost another process" in second.errors or "another task died" in second.errors


def test_an_error_in_one_process_ends_the_others(starter, tmp_path):
    first, second = starter.pods(2, tmp_path, *ARGUMENTS, RAISE="1:3:0")
    assert (first.code, second.code) == (1, 1)
    assert "Process 1 of 2 ended by ArithmeticError, and the others cannot go on without it." in second.errors
    assert "not all processes ended after it" in second.errors
    assert "Process 0 of 2 lost another process" in first.errors


def test_an_error_in_all_processes_loses_nothing(starter, tmp_path):
    outcomes = starter.pods(2, tmp_path, *ARGUMENTS, RAISE_ALL="3")
    for outcome in outcomes:
        assert outcome.code in (1, -6)  # JAX may abort a process that says all and is late to go
        assert "ArithmeticError: a bug at step 3" in outcome.errors
        assert "could not be saved" not in outcome.errors
    assert (tmp_path / "checkpoints" / "step_00000003").is_dir()


def test_numbers_that_are_none_end_all_before_they_are_saved(starter, tmp_path):
    for outcome in starter.pods(2, tmp_path, *ARGUMENTS, NAN="3"):
        assert outcome.code in (1, -6)
        assert "Step 4 gave numbers that are not finite" in outcome.errors
        assert "params['up'] (128 of 128 numbers)" in outcome.errors
    assert [path.name for path in sorted((tmp_path / "checkpoints").glob("step_*"))] == ["step_00000002"]
    assert len((tmp_path / "metrics.jsonl").read_text().splitlines()) == 4


def test_a_signal_to_one_process_stops_all_after_the_same_step(starter, tmp_path, expected):
    first, second = starter.pods(2, tmp_path, "data:-1", "sharded", 60, TERM="1:4:0")
    assert (first.code, second.code) == (0, 0), first.errors + second.errors
    assert first.result["stopped"] == "got a signal in another process"
    np.testing.assert_allclose(first.result["losses"], expected, rtol=1e-5)
    names = sorted(path.name for path in (tmp_path / "checkpoints").iterdir())
    assert names[-1] == "step_00000006"


def test_a_signal_to_all_processes_and_their_launcher_saves_and_ends_in_order(starter, tmp_path):
    launcher = [sys.executable, "-m", "fx_train.distributed.launch", "--processes", "2", "--restarts", "2"]
    running = starter.start([*launcher, starter.program, tmp_path, "data:-1", "sharded", 100_000], STATUS="143")
    children, deadline = Path(f"/proc/{running.pid}/task/{running.pid}/children"), time.monotonic() + 60
    while not (tmp_path / "checkpoints" / "step_00000002").exists() and time.monotonic() < deadline:
        time.sleep(0.1)
    for pid in [*map(int, children.read_text().split()), running.pid]:
        os.kill(pid, signal.SIGTERM)
    (outcome,) = starter.finish(running)
    assert outcome.code == 143, outcome.errors
    assert "All were asked to end by SIGTERM" in outcome.errors
    assert "Traceback" not in outcome.errors
    steps = sorted(int(path.name.removeprefix("step_")) for path in (tmp_path / "checkpoints").iterdir())
    assert steps[-1] % 3 == 0  # where the processes agree
