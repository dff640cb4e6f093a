"""Make the trained network smaller: quantize it by several schemes, prune it, and see what each costs in accuracy.

python train.py --directory runs/digits
pip install 'fx-compress[optax]'
python compress.py --directory runs/digits
"""

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import Any

import fx_compress
import jax
import jax.numpy as jnp
import numpy as np
import optax
from data import load
from fx_ckpt import CheckpointManager
from fx_compress import Magnitude, NofM
from network import CNN

NETWORK = CNN()
BATCH = 64
# The first layer sees one channel: it has few weights, and every error in it goes through the whole network. Groups run
# over input channels first, then over the places of a window: 96 are three places of 32 channels.
FOUR_BITS = {
    "*/Conv_0/kernel": fx_compress.int8(),
    "*/Conv_[12]/kernel": fx_compress.int4(group=96, clip="mse"),
    "*/kernel": fx_compress.int4(group=64, clip="mse"),
}

Variables = dict[str, Any]


@jax.jit
def accuracy(variables: Variables, images: jax.Array, labels: jax.Array) -> jax.Array:
    """Fraction of images (batch, 8, 8, 1) that the network recognizes."""
    return jnp.mean(NETWORK.apply(variables, images).argmax(-1) == labels)


def finetune(
    variables: Variables,
    train: Any,
    steps: int,
    tx: optax.GradientTransformation,
    seen: Callable[[Variables], Variables] = lambda variables: variables,
) -> Variables:
    """Train the parameters a little more, with the running statistics as they are.

    Args:
      variables: of the network.
      train: images and labels.
      steps: number of updates.
      tx: the optimizer.
      seen: what the network computes with, as a function of the variables: rounded weights, for instance.
    """
    rest = {name: value for name, value in variables.items() if name != "params"}

    @jax.jit
    def step(params: Any, state: Any, images: jax.Array, labels: jax.Array) -> tuple[Any, Any]:
        def loss_fn(params: Any) -> jax.Array:
            logits = NETWORK.apply(seen({"params": params, **rest}), images)
            return optax.softmax_cross_entropy_with_integer_labels(logits, labels).mean()

        updates, state = tx.update(jax.grad(loss_fn)(params), state, params)
        return optax.apply_updates(params, updates), state

    params, order = variables["params"], np.random.default_rng(0)
    state = tx.init(params)
    for _ in range(steps):
        chosen = order.integers(0, len(train.labels), BATCH)
        params, state = step(params, state, train.images[chosen], train.labels[chosen])
    return {"params": params, **rest}


def variants(variables: Variables, train: Any, steps: int) -> dict[str, Variables]:
    """The network, made smaller in several ways."""

    def run(variables: Variables, images: jax.Array) -> Any:
        return NETWORK.apply(variables, images)

    static = {"*/kernel": fx_compress.int8(activations="static", calibration="percentile", percentile=99.99)}
    found = fx_compress.calibrate(run, variables, [train.images[:256]], static)
    trained_for = finetune(variables, train, steps, optax.adam(3e-4), lambda v: fx_compress.fake_quantize(v, FOUR_BITS))

    def pruned(pattern: Magnitude | NofM) -> Variables:
        # The first layer's nine weights per filter do not divide into groups of four.
        rules = {"Conv_0/kernel": None, "*/kernel": pattern}
        schedule = fx_compress.sparsity_schedule(0, max(1, steps // 2))
        tx = optax.chain(
            optax.adam(3e-4), fx_compress.prune_during_training(rules, schedule, every=max(1, steps // 20))
        )
        return finetune(variables, train, steps, tx)

    return {
        "float32": variables,
        "int8 weights": fx_compress.quantize(variables, {"*/kernel": fx_compress.int8()}),
        "int8, dynamic inputs": fx_compress.quantize(variables, {"*/kernel": fx_compress.int8(activations="dynamic")}),
        "int8, static inputs": fx_compress.quantize(variables, static, calibration=found),
        "int4 in groups": fx_compress.quantize(variables, FOUR_BITS),
        "int4, trained for it": fx_compress.quantize(trained_for, FOUR_BITS),
        "half of the weights": pruned(Magnitude(0.5)),
        "two of four weights": pruned(NofM(2, 4)),
    }


def main() -> None:
    """Compress and compare."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--directory", type=Path, default=Path("runs/digits"))
    parser.add_argument("--steps", type=int, default=200, help="updates of fine-tuning")
    arguments = parser.parse_args()

    train, test = load()
    state = CheckpointManager(arguments.directory / "checkpoints").restore(only=["params", "batch_stats"])
    variables = jax.tree.map(jnp.asarray, {name: state[name] for name in ("params", "batch_stats")})
    made = variants(variables, train, arguments.steps)
    for name, smaller in made.items():
        report = fx_compress.compare(variables, smaller)
        zeros = np.mean([row.zeros for row in report.rows if row.path.endswith("kernel")])
        found = float(accuracy(smaller, test.images, test.labels))
        print(f"{name:22} {found:7.2%}  {report.bytes_after:8,} bytes ({report.ratio:.2f})  {zeros:4.0%} zeros")
    print(fx_compress.compare(variables, made["int4 in groups"]))


if __name__ == "__main__":
    main()
