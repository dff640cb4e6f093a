"""Label sequences with a recurrent network: which letters of a text without capitals were capitals?

    pip install fx-linen 'fx-train[progress]' fx-ckpt
    python train.py --directory runs/capitals

The text is Python's own reference manual, which comes inside every Python. The network reads every line in both
directions; padding does not count, neither in the loss nor in the metrics.
"""

import argparse
import pydoc_data.topics
from pathlib import Path
from typing import Any

import fx_linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
from fx_ckpt import CheckpointManager
from fx_train import (
    Checkpoints,
    Describe,
    Evaluate,
    Log,
    PrecisionRecall,
    ProgressBar,
    Run,
    StepState,
    make_train_step,
)
from fx_train.data import Batches

LENGTH = 80


def load() -> dict[str, np.ndarray]:
    """Lines as lower-case codes ``x`` (lines, 80), capitals ``y`` and letters ``mask`` as 0 and 1 of the same shape."""
    topics = pydoc_data.topics.topics
    lines = [line.strip() for name in sorted(topics) for line in topics[name].splitlines()]
    lines = [line[:LENGTH].ljust(LENGTH) for line in lines if line.isascii() and any(c.isupper() for c in line)]
    codes = np.array([list(line.lower().encode()) for line in lines], np.int32)
    capitals = np.array([[c.isupper() for c in line] for line in lines], np.int32)
    letters = np.array([[c.isalpha() for c in line] for line in lines], np.int32)
    return {"x": codes, "y": capitals, "mask": letters}


class Labeler(nn.Module):
    """Gives for codes (batch, time) the logit (batch, time) that each was a capital."""

    features: int = 64

    @nn.compact
    def __call__(self, codes: jax.Array) -> jax.Array:
        x = nn.Embed(128, 32)(codes)
        x = nn.Bidirectional(nn.RNN(nn.GRUCell(self.features)), nn.RNN(nn.GRUCell(self.features)))(x)
        return nn.Dense(1)(nn.relu(nn.Dense(self.features)(x)))[..., 0]


NETWORK = Labeler()


def loss_fn(params: Any, batch: dict[str, jax.Array]) -> jax.Array:
    """The mean over letters."""
    losses = optax.sigmoid_binary_cross_entropy(NETWORK.apply({"params": params}, batch["x"]), batch["y"])
    return jnp.sum(losses * batch["mask"]) / jnp.sum(batch["mask"])


@jax.jit
def capitals(params: Any, codes: jax.Array) -> jax.Array:
    """Which characters (batch, time) the network takes for capitals: 1 or 0."""
    return (NETWORK.apply({"params": params}, codes) > 0).astype(jnp.int32)


@jax.jit
def measured(params: Any, batch: dict[str, jax.Array]) -> PrecisionRecall:
    """Precision and recall of capitals, over letters."""
    predictions = capitals(params, batch["x"])
    return PrecisionRecall.empty(2).update(labels=batch["y"], predictions=predictions, mask=batch["mask"])


def main() -> None:
    """Train, measure, show a line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--directory", type=Path, default=Path("runs/capitals"))
    parser.add_argument("--steps", type=int, default=1000)
    arguments = parser.parse_args()

    lines = load()
    order = np.random.default_rng(0).permutation(len(lines["x"]))
    test, training = ({name: x[part] for name, x in lines.items()} for part in (order[:256], order[256:]))
    params = NETWORK.init(jax.random.key(0), training["x"][:1])["params"]
    state = StepState.create(params=params, tx=optax.adam(3e-3))
    train_step = make_train_step(loss_fn, clip=1.0)

    def measure(state: StepState) -> dict[str, jax.Array]:
        seen = measured(state.params, test)
        return {"precision": seen.precision()[1], "recall": seen.recall()[1], "f1": seen.f1()[1]}

    manager = CheckpointManager(arguments.directory / "checkpoints", backend="msgpack", keep=2)
    callbacks = [
        ProgressBar("capitals"),
        Evaluate(measure, every=100),
        Log("jsonl", every=10),
        Describe(vars(arguments)),
        Checkpoints(manager, every=100),
    ]
    with Run(arguments.directory, total_steps=arguments.steps, callbacks=callbacks) as run:
        state = run.resume(state)
        for _, batch in run.steps(Batches(training, 64)):
            state, metrics = train_step(state, batch)
            run.record(state, metrics)
    print({name: round(float(value), 3) for name, value in measure(state).items()})
    for codes, upper in list(zip(test["x"], np.asarray(capitals(state.params, test["x"]))))[:8]:
        print("  " + "".join(chr(code).upper() if up else chr(code) for code, up in zip(codes, upper)).rstrip())


if __name__ == "__main__":
    main()
