"""SLURM and Open MPI start the program's processes, and JAX finds out how many there are and where."""

import os
import sys
from pathlib import Path

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parent))
import slurm

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def cluster(tmp_path_factory):
    with slurm.running_slurm(tmp_path_factory.mktemp("slurm")) as environment:
        yield environment


def test_srun(starter, tmp_path, expected, cluster):
    srun = [slurm.command("srun"), "--ntasks=2", "--kill-on-bad-exit=1", sys.executable, starter.program]
    arguments = (tmp_path, "data:-1", "sharded", 6)
    (outcome,) = starter.finish(starter.start([*srun, *arguments], KILL="1:3:0", **cluster))
    assert outcome.code != 0
    assert "task 1: Killed" in outcome.errors
    (outcome,) = starter.finish(starter.start([*srun, *arguments], **cluster))
    assert outcome.code == 0, outcome.errors
    assert (outcome.result["processes"], outcome.result["first"]) == (2, 2)
    np.testing.assert_allclose(outcome.result["losses"], expected[2:], rtol=1e-5)


def test_a_batch_script_without_srun_is_one_process(starter, tmp_path, cluster):
    script = f"#!/bin/sh\nexec {sys.executable} {starter.program} {tmp_path} data:-1 sharded 1\n"
    (tmp_path / "job.sh").write_text(script)
    batch = [slurm.command("sbatch"), "--wait", "--ntasks=2", f"--output={tmp_path}/out", tmp_path / "job.sh"]
    (outcome,) = starter.finish(starter.start(batch, **cluster))
    output = (tmp_path / "out").read_text()
    assert outcome.code == 0, outcome.errors + output
    assert '"processes": 1' in output


def test_mpirun(starter, tmp_path, expected):
    root = ["--allow-run-as-root"] if os.geteuid() == 0 else []
    loopback = ["--oversubscribe", "--mca", "oob_tcp_if_include", "lo"]
    mpirun = [slurm.command("mpirun"), *root, *loopback, "-n", "2", sys.executable, starter.program]
    arguments = (tmp_path, "data:1, model:4", "tensor", 4)  # no process has a whole model
    (outcome,) = starter.finish(starter.start([*mpirun, *arguments]))
    assert outcome.code == 0, outcome.errors
    assert (outcome.result["processes"], outcome.result["shards"]["up"]) == (2, [8, 4])
    np.testing.assert_allclose(outcome.result["losses"], expected[:4], rtol=1e-5)
