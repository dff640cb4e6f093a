"""Fine-tune with frozen parts: learn the digits 0 to 4, then 5 to 9 through low-rank corrections and a new head.

    pip install fx-linen fx-train 'fx-ckpt' -r requirements.txt
    python train.py --directory runs/lora

The second run changes a few percent of the numbers; the rest stays as it was, to the bit, and its optimiser has no
state. What it saves is what it changed.
"""

import argparse
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from fx_ckpt import CheckpointManager
from fx_train import Accuracy, Checkpoints, Log, Run, StepState, make_train_step
from fx_train.data import Batches
from fx_train.step import trainable_mask, trainable_only
from network import Classifier
from sklearn.datasets import load_digits


def load(first: int) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    """Training and test images of five digits, labelled from 0."""
    digits = load_digits()
    chosen = (digits.target >= first) & (digits.target < first + 5)
    images = digits.data[chosen].astype(np.float32) / 16
    labels = (digits.target[chosen] - first).astype(np.int32)
    cut = len(labels) * 4 // 5
    return {"x": images[:cut], "y": labels[:cut]}, {"x": images[cut:], "y": labels[cut:]}


def accuracy(network: Classifier, params: Any, data: dict[str, np.ndarray]) -> float:
    """Share of the images that are recognised."""
    predictions = network.apply({"params": params}, data["x"]).argmax(-1)
    return float(Accuracy.empty().update(labels=data["y"], predictions=predictions).compute())


def train(directory: Path, network: Classifier, params: Any, data: dict[str, np.ndarray], steps: int, **options: Any):
    """Train parameters, all or those that ``trainable=`` chooses; gives the new ones."""

    def loss_fn(params: Any, batch: dict[str, jax.Array]) -> jax.Array:
        logits = network.apply({"params": params}, batch["x"])
        return optax.softmax_cross_entropy_with_integer_labels(logits, batch["y"]).mean()

    tx = optax.adamw(3e-3, weight_decay=1e-2)
    if "trainable" in options:
        tx = trainable_only(tx, options["trainable"])
    # A copy: the state is donated to every step, and the caller goes on with its parameters.
    state = StepState.create(params=jax.tree.map(jnp.copy, params), tx=tx)
    train_step = make_train_step(loss_fn, **options)
    manager = CheckpointManager(directory / "checkpoints", backend="msgpack", keep=1)
    with Run(directory, total_steps=steps, callbacks=[Log("jsonl", every=20), Checkpoints(manager, every=100)]) as run:
        state = run.resume(state)
        for _, batch in run.steps(Batches(data, 64)):
            state, metrics = train_step(state, batch)
            run.record(state, metrics)
    return state.params


def is_new(path: tuple[str, ...], _: Any) -> bool:
    """Whether a parameter belongs to the fine-tuning: a correction, or the head."""
    return path[0] == "head" or path[-1].startswith("lora")


def main() -> None:
    """Train, fine-tune, compare."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--directory", type=Path, default=Path("runs/lora"))
    parser.add_argument("--steps", type=int, default=300)
    parser.add_argument("--rank", type=int, default=4)
    arguments = parser.parse_args()

    (old, old_test), (new, new_test) = load(0), load(5)
    base = Classifier(classes=5)
    params = base.init(jax.random.key(0), old["x"][:1])["params"]
    params = train(arguments.directory / "base", base, params, old, arguments.steps)
    print(f"digits 0 to 4: accuracy {accuracy(base, params, old_test):.3f}")

    tuned = Classifier(classes=5, rank=arguments.rank)
    fresh = tuned.init(jax.random.key(1), new["x"][:1])["params"]
    start = {name: {**fresh[name], "dense": params[name]["dense"]} for name in ("body_0", "body_1")}
    start["head"] = fresh["head"]
    result = train(arguments.directory / "tuned", tuned, start, new, arguments.steps, trainable=is_new)
    print(f"digits 5 to 9: accuracy {accuracy(tuned, result, new_test):.3f}")

    mask = jax.tree.leaves(trainable_mask(result, is_new))
    sizes = [leaf.size for leaf in jax.tree.leaves(result)]
    changed = sum(size for size, yes in zip(sizes, mask) if yes)
    print(f"{changed:,} of {sum(sizes):,} numbers were trained")
    for name in ("body_0", "body_1"):
        for kind in ("kernel", "bias"):
            assert np.array_equal(result[name]["dense"][kind], params[name]["dense"][kind])


if __name__ == "__main__":
    main()
