"""A small training program that runs on any number of processes, devices and meshes; `test_distributed.py` starts it.

python program.py DIRECTORY MESH LAYOUT STEPS
"""

import json
import os
import signal
import sys

import jax
import jax.numpy as jnp
import numpy as np
import optax
from fx_ckpt import CheckpointManager
from fx_train import Checkpoints, Run, StepState, make_train_step
from fx_train.data import Batches
from fx_train.distributed import (
    any_process,
    barrier,
    create_sharded,
    first_only,
    global_batch,
    initialize,
    is_first,
    make_mesh,
    process_count,
)

LAYOUTS = {
    "data": ([], {}),
    "sharded": ([(".*", "data")], {}),
    "tensor": ([("up$", ("embed", "mlp")), ("down$", ("mlp", "embed"))], {"mlp": "model", "embed": None}),
}


def create(key):
    one, two = jax.random.split(key)
    params = {"up": jax.random.normal(one, (8, 16)) / 3, "down": jax.random.normal(two, (16, 8)) / 4}
    return StepState.create(params=params, tx=optax.adam(1e-2))


def loss_fn(params, batch):
    return jnp.mean((jnp.tanh(batch["x"] @ params["up"]) @ params["down"] - batch["y"]) ** 2)


def main(directory, mesh, layout, steps):
    initialize(start_timeout=60, heartbeat_timeout=10)
    mesh = make_mesh(mesh)
    rules, axes = LAYOUTS[layout]
    state = create_sharded(create, jax.random.key(0), mesh=mesh, rules=rules, axes=axes)
    x = np.random.default_rng(0).normal(size=(64, 8)).astype(np.float32)
    batches = Batches({"x": x, "y": np.roll(x, 1, axis=1)}, 16, process=(jax.process_index(), process_count()))
    train_step, losses = make_train_step(loss_fn, clip=1.0), []
    manager = CheckpointManager(f"{directory}/checkpoints", backend="orbax")
    with Run(directory, total_steps=int(steps), callbacks=[Checkpoints(manager, every=2)]) as run:
        state = run.resume(state)
        first = run.step
        for step, batch in run.steps(batches):
            if os.environ.get("KILL") == f"{jax.process_index()}:{step}:{os.environ.get('FX_ATTEMPT')}":
                os.kill(os.getpid(), signal.SIGKILL)
            state, metrics = train_step(state, global_batch(batch, mesh))
            losses.append(float(metrics["loss"]))
            run.record(state, metrics)
    assert any_process(is_first())
    assert not any_process(False)
    assert first_only(lambda: "done") == ("done" if is_first() else None)
    barrier("end")
    if is_first():
        shards = {name: state.params[name].sharding.shard_shape(state.params[name].shape) for name in state.params}
        print(json.dumps({"first": first, "losses": losses, "processes": process_count(), "shards": shards}))


if __name__ == "__main__":
    main(*sys.argv[1:])
