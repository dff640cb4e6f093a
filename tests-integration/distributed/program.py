"""A small training program that runs on any number of processes, devices and meshes; the tests beside it start it.

python program.py DIRECTORY MESH LAYOUT STEPS

One of its processes fails where an environment variable says so, as PROCESS:STEP:ATTEMPT: ``KILL`` ends it by SIGKILL,
``TERM`` asks it to end by SIGTERM, ``RAISE`` raises an error; ``RAISE_ALL=STEP`` raises in all of them, ``NAN=STEP``
gives all a batch without numbers. A run that a signal stops ends the program with the status in ``STATUS``.
"""

import json
import os
import signal
import sys
import threading

import jax
import jax.numpy as jnp
import numpy as np
import optax
from fx_ckpt import CheckpointManager
from fx_train import Checkpoints, Log, NanGuard, Run, StepState, StopOnSignal, make_train_step
from fx_train.data import Batches
from fx_train.distributed import (
    any_process,
    barrier,
    batch_part,
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


def misbehave(step):
    """Do what the environment wants of this process at this step."""
    place = f"{jax.process_index()}:{step}:{os.environ.get('FX_ATTEMPT', '0')}"
    if os.environ.get("KILL") == place:
        os.kill(os.getpid(), signal.SIGKILL)
    if os.environ.get("TERM") == place:
        os.kill(os.getpid(), signal.SIGTERM)
    if os.environ.get("RAISE") == place or os.environ.get("RAISE_ALL") == str(step):
        raise ArithmeticError(f"a bug at step {step}")


def main(directory, mesh, layout, steps):
    initialize(start_timeout=60, heartbeat_timeout=10, end_timeout=60)
    mesh = make_mesh(mesh)
    rules, axes = LAYOUTS[layout]
    state = create_sharded(create, jax.random.key(0), mesh=mesh, rules=rules, axes=axes)
    x = np.random.default_rng(0).normal(size=(64, 8)).astype(np.float32)
    batches = Batches({"x": x, "y": np.roll(x, 1, axis=1)}, 16, process=batch_part(mesh))
    train_step, losses = make_train_step(loss_fn, clip=1.0), []
    manager = CheckpointManager(f"{directory}/checkpoints", backend="orbax")
    callbacks = [NanGuard(every=3), Log("jsonl", every=1), Checkpoints(manager, every=2)]
    if threading.current_thread() is threading.main_thread():  # Ray has another thread run this
        status = os.environ.get("STATUS")
        callbacks.append(StopOnSignal(every=3, exit_status=int(status) if status else None))
    with Run(directory, total_steps=int(steps), callbacks=callbacks) as run:
        state = run.resume(state)
        first = run.step
        for step, batch in run.steps(batches):
            misbehave(step)
            if os.environ.get("NAN") == str(step):
                batch["x"] = np.nan * batch["x"]
            state, metrics = train_step(state, global_batch(batch, mesh))
            losses.append(float(metrics["loss"]))
            run.record(state, metrics)
    assert any_process(is_first())
    assert not any_process(False)
    assert first_only(lambda: "done") == ("done" if is_first() else None)
    barrier("end")
    if is_first():
        shards = {name: state.params[name].sharding.shard_shape(state.params[name].shape) for name in state.params}
        result = {"first": first, "losses": losses, "processes": process_count(), "shards": shards}
        return result | ({"stopped": run.stop_reason} if run.stop_reason else {})
    return None


if __name__ == "__main__":
    result = main(*sys.argv[1:])
    if result is not None:
        print(json.dumps(result))
