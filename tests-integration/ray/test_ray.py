"""Ray Train starts the processes, and starts them anew when one dies."""

import importlib
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from fx_train.distributed import ray as fx_ray
from fx_train.errors import DistributedStartError

pytestmark = pytest.mark.slow

JOB = Path(__file__).with_name("job.py")
PROGRAM = JOB.parent.parent / "distributed" / "program.py"


def run(*command, devices, **environment):
    env = {**os.environ, "JAX_PLATFORMS": "cpu", "JAX_NUM_CPU_DEVICES": str(devices), "XLA_FLAGS": "", **environment}
    done = subprocess.run(
        [sys.executable, *map(str, command)], capture_output=True, text=True, env=env, timeout=400, check=False
    )
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    return done.stdout


def test_a_job_whose_worker_dies_resumes_and_ends_like_one_device(tmp_path):
    alone = json.loads(run(PROGRAM, tmp_path / "one", "data:1", "data", 6, devices=1).splitlines()[-1])
    directory = tmp_path / "job"
    directory.mkdir()
    # Ray writes a token into the home directory where it is not told to do without.
    quiet = {"RAY_USAGE_STATS_ENABLED": "0", "RAY_AUTH_MODE": "disabled"}
    run(JOB, directory, devices=2, **quiet)
    assert (directory / "died").exists()
    result = json.loads((directory / "result.json").read_text())
    assert (result["processes"], result["first"]) == (2, 2)
    np.testing.assert_allclose(result["losses"], alone["losses"][2:], rtol=1e-5)


def test_the_program_that_makes_the_trainer_is_no_worker():
    importlib.import_module("ray.train")
    with pytest.raises(DistributedStartError, match="a call in the loop function of a trainer"):
        fx_ray.initialize()
