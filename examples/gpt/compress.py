"""Make the trained network smaller: quantize it by several schemes, prune it, and see what each costs in perplexity.

python train.py --directory runs/gpt
pip install 'fx-compress[optax,cli]'
python compress.py --directory runs/gpt
fx compress report runs/gpt/compression
"""

import argparse
import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import fx_compress
import jax
import jax.numpy as jnp
import numpy as np
import optax
from data import encode, load, windows
from fx_ckpt import CheckpointManager
from fx_compress import Magnitude, NofM
from network import GPT

NETWORK = GPT()
BATCH = 16
# Groups over the inputs; embeddings and the last layer, through which every error goes, have eight bits.
FOUR_BITS = {
    "head/kernel": fx_compress.int8(),
    "*/embedding": fx_compress.int8(),
    "*/kernel": fx_compress.int4(group=64, clip="mse"),
}

Params = dict[str, Any]


@jax.jit
def loss_fn(params: Params, x: jax.Array, y: jax.Array) -> jax.Array:
    """Mean negative log-likelihood of the characters y that follow x, both (batch, time)."""
    return optax.softmax_cross_entropy_with_integer_labels(NETWORK.apply({"params": params}, x), y).mean()


@jax.jit
def accuracy(params: Params, x: jax.Array, y: jax.Array) -> jax.Array:
    """Fraction of the characters y that the network expects above all others."""
    return jnp.mean(NETWORK.apply({"params": params}, x).argmax(-1) == y)


def distill(params: Params, teacher: Params, x: jax.Array, y: jax.Array) -> jax.Array:
    """Loss of a smaller network: half of it by the text, half by what the teacher expects at every place."""
    logits = NETWORK.apply({"params": params}, x)
    expected = jax.nn.softmax(NETWORK.apply({"params": teacher}, x))
    by_text = optax.softmax_cross_entropy_with_integer_labels(logits, y)
    return (by_text + optax.softmax_cross_entropy(logits, expected)).mean() / 2


def finetune(
    params: Params,
    text: dict[str, np.ndarray],
    steps: int,
    tx: optax.GradientTransformation,
    seen: Callable[[Params], Params] = lambda params: params,
    teacher: Params | None = None,
) -> Params:
    """Train a little more; the network computes with what ``seen`` makes of the parameters."""

    @jax.jit
    def step(params: Any, state: Any, teacher: Any, x: jax.Array, y: jax.Array) -> tuple[Any, Any]:
        def loss(params: Any) -> jax.Array:
            return loss_fn(seen(params), x, y) if teacher is None else distill(seen(params), teacher, x, y)

        updates, state = tx.update(jax.grad(loss)(params), state, params)
        return optax.apply_updates(params, updates), state

    order, state = np.random.default_rng(0), tx.init(params)
    for _ in range(steps):
        chosen = order.integers(0, len(text["x"]), BATCH)
        params, state = step(params, state, teacher, text["x"][chosen], text["y"][chosen])
    return params


def variants(params: Params, text: dict[str, np.ndarray], steps: int) -> dict[str, Callable[[], Params]]:
    """The network, made smaller in several ways: functions that do it."""

    def adamw(rate: float) -> optax.GradientTransformation:
        decay = optax.cosine_decay_schedule(rate, max(1, steps))
        return optax.chain(optax.clip_by_global_norm(1.0), optax.adamw(decay, weight_decay=0.1))

    def pruned(pattern: Magnitude | NofM) -> Params:
        # The last layer, through which every error goes, keeps its weights; what is left of the others has most of the
        # updates to make up for it.
        schedule = fx_compress.sparsity_schedule(0, max(1, steps * 2 // 5)) if isinstance(pattern, Magnitude) else None
        pruning = fx_compress.prune_during_training({"block_*/kernel": pattern}, schedule, every=max(1, steps // 50))
        return finetune(params, text, steps, optax.chain(adamw(1e-3), pruning), teacher=params)

    def trained(rules: dict[str, fx_compress.Scheme]) -> Params:
        seen = functools.partial(fx_compress.fake_quantize, rules=rules)
        return fx_compress.quantize(finetune(params, text, steps, adamw(8e-4), seen, teacher=params), rules)

    def compensated(rules: dict[str, fx_compress.Scheme]) -> Params:
        batches = [text["x"][start : start + BATCH] for start in range(0, 8 * BATCH, BATCH)]
        found = fx_compress.calibrate(lambda p, x: NETWORK.apply({"params": p}, x), params, batches, rules)
        return fx_compress.quantize(params, rules, calibration=found)

    gptq = fx_compress.int4(group=64, clip="mse", rounding="gptq")
    return {
        "float32": lambda: params,
        "float32, trained on": lambda: finetune(params, text, steps, adamw(1e-3), teacher=params),
        "int8 weights": lambda: fx_compress.quantize(params, fx_compress.int8()),
        "int8, dynamic inputs": lambda: fx_compress.quantize(params, fx_compress.int8(activations="dynamic")),
        "int4 in groups": lambda: fx_compress.quantize(params, FOUR_BITS),
        "int4, GPTQ": lambda: compensated({**FOUR_BITS, "*/kernel": gptq}),
        "int4, trained for it": lambda: trained(FOUR_BITS),
        "nf4 in groups": lambda: fx_compress.quantize(params, {**FOUR_BITS, "*/kernel": fx_compress.nf4(group=32)}),
        "half of the weights": lambda: pruned(Magnitude(0.5)),
        "two of four weights": lambda: pruned(NofM(2, 4)),
    }


def main() -> None:
    """Compress and compare."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--directory", type=Path, default=Path("runs/gpt"))
    parser.add_argument("--steps", type=int, default=900, help="updates of fine-tuning")
    parser.add_argument("--only", nargs="+", help="names of the ways, such as 'int8 weights'; all of them by default")
    parser.add_argument("--held-out", type=int, default=64, help="windows of text to measure on, 64 at most")
    arguments = parser.parse_args()

    text = windows(encode(load()), NETWORK.length)
    order = np.random.default_rng(0).permutation(len(text["x"]))
    held_out = {k: v[order[: min(64, arguments.held_out)]] for k, v in text.items()}
    training = {k: v[order[64:]] for k, v in text.items()}
    state = CheckpointManager(arguments.directory / "checkpoints").restore(only=["params"])
    params = jax.tree.map(jnp.asarray, state["params"])

    def measured(params: Params) -> tuple[float, float]:
        return float(jnp.exp(loss_fn(params, **held_out))), 100 * float(accuracy(params, **held_out))

    before = measured(params)
    for name, make in variants(params, training, arguments.steps).items():
        if arguments.only and name not in arguments.only:
            continue
        smaller = make()
        after = measured(smaller)
        figures = {"perplexity": (before[0], after[0]), "accuracy": (before[1], after[1])}
        report = fx_compress.compare(params, smaller, figures)
        report.write(arguments.directory / "compression" / f"{name}.json")
        change, points = after[0] / before[0] - 1, after[1] - before[1]
        print(
            f"{name:22} perplexity {after[0]:7.4f} ({change:+.2%})  accuracy {after[1]:.2f} % ({points:+.2f} points)  "
            f"{report.bytes_after:9,} bytes ({report.ratio:.3f})"
        )


if __name__ == "__main__":
    main()
