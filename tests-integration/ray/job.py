"""A job of Ray Train with two workers on this machine, of which one dies once.

python job.py DIRECTORY
"""

import json
import os
import signal
import sys
from pathlib import Path


def loop(config):
    """What a worker does; it prints nothing, since Ray's workers have their own output."""
    sys.path.insert(0, config["programs"])
    import program
    from fx_train.distributed import is_first
    from fx_train.distributed import ray as fx_ray

    fx_ray.initialize(start_timeout=60, heartbeat_timeout=10)
    directory = Path(config["directory"])
    mark = directory / "died"

    def die_once(step):
        if step == 3 and not is_first() and not mark.exists():
            mark.touch()
            os.kill(os.getpid(), signal.SIGKILL)

    program.misbehave = die_once
    result = program.main(directory, "data:-1", "sharded", 6)
    if is_first():
        (directory / "result.json").write_text(json.dumps(result))


def main(directory):
    import ray
    from ray.train import FailureConfig, RunConfig, ScalingConfig
    from ray.train.v2.jax import JaxTrainer

    ray.init(num_cpus=2, include_dashboard=False)
    programs = str(Path(__file__).resolve().parent.parent / "distributed")
    JaxTrainer(
        loop,
        train_loop_config={"directory": directory, "programs": programs},
        scaling_config=ScalingConfig(num_workers=2, resources_per_worker={"CPU": 1}),
        run_config=RunConfig(name="job", storage_path=f"{directory}/ray", failure_config=FailureConfig(max_failures=1)),
    ).fit()
    ray.shutdown()


if __name__ == "__main__":
    main(*sys.argv[1:])
