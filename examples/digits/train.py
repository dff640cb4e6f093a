"""Train a convolutional network on handwritten digits, with checkpoints, resume and export.

    pip install fx-linen 'fx-train[progress]' 'fx-ckpt[orbax]' fx-export 'fx-core[cli]' -r requirements.txt
    python train.py --directory runs/digits
    fx report runs/digits

Stop it when you like and start it again: it goes on from the last checkpoint and ends with the same bits.
"""

import argparse
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import fx_export
import fx_linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
from data import load, picture
from fx_ckpt import CheckpointManager
from fx_train import Checkpoints, Confusion, Describe, Evaluate, Log, ProgressBar, Run, TrainState
from jax.export import symbolic_shape
from network import CNN

BATCH = 64
NETWORK = CNN()


class State(TrainState):
    """What changes from step to step: besides parameters and optimizer, the statistics of BatchNorm and a key."""

    batch_stats: Any
    key: jax.Array


def create_state(seed: int, schedule: optax.Schedule) -> State:
    """The state before the first step."""
    init_key, dropout_key = jax.random.split(jax.random.key(seed))
    variables = jax.jit(NETWORK.init)(init_key, jnp.zeros((1, 8, 8, 1)))
    tx = optax.adamw(schedule, weight_decay=1e-2)
    return State.create(apply_fn=NETWORK.apply, tx=tx, key=dropout_key, **variables)


@jax.jit
def train_step(state: State, images: jax.Array, labels: jax.Array) -> tuple[State, dict[str, jax.Array]]:
    """One update on a batch of images (batch, 8, 8, 1) and labels (batch,)."""

    def loss_fn(params):
        logits, updates = state.apply_fn(
            {"params": params, "batch_stats": state.batch_stats},
            images,
            train=True,
            rngs={"dropout": jax.random.fold_in(state.key, state.step)},
            mutable=["batch_stats"],
        )
        loss = optax.softmax_cross_entropy_with_integer_labels(logits, labels).mean()
        return loss, (updates, jnp.mean(logits.argmax(-1) == labels))

    (loss, (updates, accuracy)), grads = jax.value_and_grad(loss_fn, has_aux=True)(state.params)
    return state.apply_gradients(grads=grads, **updates), {"loss": loss, "accuracy": accuracy}


@jax.jit
def measure(state: State, images: jax.Array, labels: jax.Array) -> dict[str, Any]:
    """Loss, accuracy and confusion table on test images."""
    logits = NETWORK.apply({"params": state.params, "batch_stats": state.batch_stats}, images)
    confusion = Confusion.empty(10).update(labels=labels, predictions=logits.argmax(-1))
    loss = optax.softmax_cross_entropy_with_integer_labels(logits, labels).mean()
    return {"loss": loss, "accuracy": confusion.accuracy(), "confusion": confusion}


def predict(variables: Any, images: jax.Array) -> jax.Array:
    """Probabilities (batch, 10) of the digits: the function that is shipped."""
    return nn.softmax(NETWORK.apply(variables, images))


def main() -> None:
    """Train, evaluate, export."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--directory", type=Path, default=Path("runs/digits"))
    parser.add_argument("--steps", type=int, default=400)
    parser.add_argument("--checkpoint-every", type=int, default=100)
    parser.add_argument("--backend", default="orbax", help="orbax, msgpack or a plugin's")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()

    train, test = load()

    per_epoch = len(train.labels) // BATCH

    def batches_from(step: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        while True:
            # The order of an epoch depends on its number only, so a resumed run sees the same batches.
            order = np.random.default_rng([arguments.seed, step // per_epoch]).permutation(len(train.labels))
            chosen = order[step % per_epoch * BATCH :][:BATCH]
            yield train.images[chosen], train.labels[chosen]
            step += 1

    manager = CheckpointManager(arguments.directory / "checkpoints", backend=arguments.backend, keep=3)
    schedule = optax.warmup_cosine_decay_schedule(0.0, 3e-3, arguments.steps // 10, arguments.steps)
    rate = jax.jit(schedule)
    callbacks = [
        # A bar in a terminal; a line for each epoch in the log of a batch system or of another program.
        ProgressBar("digits") if sys.stdout.isatty() else Log("console", every=per_epoch),
        Evaluate(lambda state: measure(state, *test), every=50),
        Log("jsonl", every=5),
        Describe(vars(arguments)),
        Checkpoints(manager, every=arguments.checkpoint_every),
    ]
    with Run(arguments.directory, total_steps=arguments.steps, callbacks=callbacks) as run:
        state = run.resume(create_state(arguments.seed, schedule))
        print(f"resuming at step {run.step}" if run.step else "starting at step 0", flush=True)
        for step, (images, labels) in run.steps(batches_from):
            state, metrics = train_step(state, images, labels)
            run.record(state, {**metrics, "learning_rate": rate(step)})

    confusion = measure(state, *test)["confusion"]
    print(picture(np.asarray(confusion.counts)))
    print(f"test accuracy {float(confusion.accuracy()):.2%} of {len(test.labels)} images")

    variables = {"params": state.params, "batch_stats": state.batch_stats}
    bundle = arguments.directory / "bundle"
    inputs = [jax.ShapeDtypeStruct(symbolic_shape("batch, 8, 8, 1"), jnp.float32)]
    fx_export.export(bundle, predict, variables, inputs, overwrite=True)
    shipped = fx_export.load(bundle)(test.images)
    np.testing.assert_allclose(shipped, jax.jit(predict)(variables, test.images), atol=1e-6)
    print(f"the bundle in {bundle} gives the same predictions")

    # For other runtimes: the export is run by ONNX Runtime and compared with the network before it appears.
    model = arguments.directory / "onnx"
    fx_export.export(model, predict, variables, inputs, format="onnx", input_names=["image"], overwrite=True)
    print(f"the ONNX model in {model} computes the same")


if __name__ == "__main__":
    main()
