"""Fine-tune with frozen parts: learn the digits 0 to 4, then 5 to 9 through low-rank corrections and a new head.

    pip install fx-linen fx-train fx-ckpt -r requirements.txt
    python train.py --directory runs/lora

The second run trains a tenth of the numbers; the rest stays as it was, to the bit, and its optimizer has no state.
What is shipped is a small checkpoint of the corrections and the head, which fits onto the first network.
"""

import argparse
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from fx_ckpt import CheckpointManager, restore, save
from fx_train import Accuracy, Checkpoints, Log, Run, StepState, make_train_step
from fx_train.data import Batches
from fx_train.step import trainable_mask, trainable_only
from network import Classifier, merged
from sklearn.datasets import load_digits


def load(first: int) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    """Training and test images of five digits, labeled from 0."""
    digits = load_digits()
    chosen = np.flatnonzero((digits.target >= first) & (digits.target < first + 5))
    order = np.random.default_rng(0).permutation(chosen)
    images = digits.data[order].astype(np.float32) / 16
    labels = (digits.target[order] - first).astype(np.int32)
    cut = len(labels) * 4 // 5
    return {"x": images[:cut], "y": labels[:cut]}, {"x": images[cut:], "y": labels[cut:]}


def accuracy(network: Classifier, params: Any, data: dict[str, np.ndarray]) -> float:
    """Share of the images that are recognized."""
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


def fine_tune(directory: Path, rank: int, base: Any, data: dict[str, np.ndarray], steps: int) -> tuple[Classifier, Any]:
    """A network with corrections on frozen parameters, and its parameters after training."""
    network = Classifier(classes=5, rank=rank)
    params = network.init(jax.random.key(1), data["x"][:1])["params"]
    for name in ("body_0", "body_1"):
        params[name]["dense"] = base[name]["dense"]
    return network, train(directory, network, params, data, steps, trainable=is_new)


def main() -> None:
    """Train, fine-tune, ship."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--directory", type=Path, default=Path("runs/lora"))
    parser.add_argument("--steps", type=int, default=300)
    parser.add_argument("--rank", type=int, default=4)
    arguments = parser.parse_args()

    (old, old_test), (new, new_test) = load(0), load(5)
    network = Classifier(classes=5)
    base = network.init(jax.random.key(0), old["x"][:1])["params"]
    base = train(arguments.directory / "base", network, base, old, arguments.steps)
    print(f"digits 0 to 4: accuracy {accuracy(network, base, old_test):.3f}")

    for rank in (0, arguments.rank):
        directory = arguments.directory / f"tuned-rank-{rank}"
        tuned, params = fine_tune(directory, rank, base, new, arguments.steps)
        print(
            f"digits 5 to 9, new head and corrections of rank {rank}: accuracy {accuracy(tuned, params, new_test):.3f}"
        )

    mask = trainable_mask(params, is_new)
    sizes = [leaf.size for leaf in jax.tree.leaves(params)]
    changed = sum(size for size, yes in zip(sizes, jax.tree.leaves(mask)) if yes)
    print(f"{changed:,} of {sum(sizes):,} numbers were trained")
    for name in ("body_0", "body_1"):
        jax.tree.map(np.testing.assert_array_equal, params[name]["dense"], base[name]["dense"])

    # Only what was trained is shipped, and put onto the frozen parameters where it is used.
    trained = {name: {key: x for key, x in layer.items() if key != "dense"} for name, layer in params.items()}
    shipped = save(arguments.directory / "corrections", trained, overwrite=True)
    received = restore(shipped)
    whole = {name: {**base[name], **layer} for name, layer in received.items()}
    jax.tree.map(np.testing.assert_array_equal, whole, params)
    # Added to the kernels, the corrections cost nothing any more.
    logits = network.apply({"params": merged(whole)}, new_test["x"])
    np.testing.assert_allclose(logits, tuned.apply({"params": params}, new_test["x"]), atol=1e-4)
    print(f"{shipped} holds them; added to the kernels they give the same predictions")


if __name__ == "__main__":
    main()
