"""Train a variational autoencoder on handwritten digits, and draw new ones.

    pip install fx-nnx 'fx-train[progress]' 'fx-ckpt[orbax]' -r requirements.txt
    python train.py --directory runs/vae

The pictures are in the run's directory. Stop it when you like and start it again: it goes on from the last checkpoint
and ends with the same bits.
"""

import argparse
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import fx_nnx as nnx
import jax
import jax.numpy as jnp
import numpy as np
import optax
from fx_ckpt import CheckpointManager
from fx_train import Callback, Checkpoints, Describe, Evaluate, Log, NanGuard, ProgressBar, Run, StopOnSignal
from fx_train.data import Batches
from network import SHADES, VAE
from picture import grid, write_png
from sklearn.datasets import load_digits


def load() -> tuple[np.ndarray, np.ndarray]:
    """Training and test images, (images, 64) each, whole numbers from 0 to 16."""
    images = np.random.default_rng(0).permutation(load_digits().data).astype(np.float32)
    return images[360:], images[:360]


@nnx.jit
def train_step(model: VAE, optimizer: nnx.Optimizer, images: jax.Array) -> dict[str, jax.Array]:
    """One update; model and optimizer are changed in place."""

    def loss_fn(model: VAE) -> tuple[jax.Array, dict[str, jax.Array]]:
        terms = jax.tree.map(jnp.mean, model.elbo(images, model.noise()))
        return -terms["elbo"], terms

    (_, metrics), grads = nnx.value_and_grad(loss_fn, has_aux=True)(model)
    optimizer.update(model, grads)
    return metrics


@nnx.jit
def held_out_elbo(model: VAE, images: jax.Array) -> jax.Array:
    """The bound on test images. The key is given, so that measuring leaves the model's own stream where it is."""
    return model.elbo(images, jax.random.key(1))["elbo"].mean()


class Pictures(Callback):
    """Draws from the model every so many steps and at the end: always the same codes, so one sees them change."""

    def __init__(self, model: VAE, *, every: int):
        self.model, self.every = model, every

    def on_step(self, run: Any, state: Any, metrics: Mapping[str, Any]) -> None:
        if run.step % self.every == 0 or run.step == run.total_steps:
            drawn = np.asarray(self.model.sample(jax.random.key(2), 64))
            write_png(run.directory / "samples.png", grid(drawn, columns=16))


def main() -> None:
    """Train, draw."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--directory", type=Path, default=Path("runs/vae"))
    parser.add_argument("--steps", type=int, default=1500)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()

    training, test = load()
    model = VAE(rngs=nnx.Rngs(arguments.seed, noise=arguments.seed + 1))
    schedule = optax.warmup_cosine_decay_schedule(0.0, 3e-3, arguments.steps // 10, arguments.steps)
    optimizer = nnx.Optimizer(model, optax.adamw(schedule, weight_decay=1e-2), wrt=nnx.Param)

    callbacks = [
        ProgressBar("vae"),
        Evaluate(lambda _: {"elbo": held_out_elbo(model, test)}, every=50),
        Pictures(model, every=100),
        NanGuard(every=50),
        Log("jsonl", every=10),
        Describe(vars(arguments)),
        StopOnSignal(),
        Checkpoints(CheckpointManager(arguments.directory / "checkpoints", keep=2), every=200),
    ]
    with Run(arguments.directory, total_steps=arguments.steps, callbacks=callbacks) as run:
        # Parameters, moments of the optimizer and the position of the random stream, as one tree.
        nnx.update((model, optimizer), run.resume(nnx.state((model, optimizer))))
        for _, images in run.steps(Batches(training, 128, seed=arguments.seed)):
            metrics = train_step(model, optimizer, images)
            run.record(nnx.state((model, optimizer)), metrics)

    # Above each other: test images, and what is left of them when they went through a code.
    shown = test[:16]
    restored = nnx.sigmoid(model.decode(model.encode(shown)[0]))
    write_png(arguments.directory / "restored.png", grid(np.concatenate([shown / SHADES, restored]), columns=16))
    print(f"{float(held_out_elbo(model, test)):.2f} nats per test image after {run.step} steps")
    print(f"pictures: {arguments.directory / 'samples.png'}, {arguments.directory / 'restored.png'}")


if __name__ == "__main__":
    main()
