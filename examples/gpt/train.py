"""Train a small GPT on Python's reference manual, and let it write.

    pip install fx-linen 'fx-train[progress]' 'fx-ckpt[orbax]' 'fx-core[cli]'
    python train.py --directory runs/gpt
    fx report runs/gpt

The same program on eight devices, and on two processes of four (the numbers are the same to rounding):

    JAX_NUM_CPU_DEVICES=8 python train.py --mesh data:-1,model:2 --layout tensor
    JAX_NUM_CPU_DEVICES=4 python -m fx_train.distributed.launch --processes 2 train.py --mesh data:-1

Stop it when you like and start it again: it goes on from the last checkpoint.
"""

import argparse
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from data import decode, encode, load, windows
from fx_ckpt import CheckpointManager
from fx_train import (
    Checkpoints,
    Describe,
    Evaluate,
    Log,
    NanGuard,
    Perplexity,
    Policy,
    ProgressBar,
    Run,
    StepState,
    StopOnSignal,
    Throughput,
    make_train_step,
)
from fx_train.data import Batches, Prefetch
from fx_train.distributed import (
    batch_part,
    create_sharded,
    global_batch,
    initialize,
    is_first,
    make_mesh,
    process_count,
)
from network import GPT
from sample import sample

LAYOUTS = {
    "data": [],
    "sharded": [(".*", "data")],
    # Heads and hidden features are divided, and what they are projected back from.
    "tensor": [
        ("(query|key|value)/kernel", (None, "model", None)),
        ("out/kernel", ("model", None, None)),
        ("up/kernel", (None, "model")),
        ("down/kernel", ("model", None)),
    ],
}


def losses(network: GPT, params: Any, batch: dict[str, jax.Array]) -> tuple[jax.Array, jax.Array]:
    """Negative log-likelihood of every character, (batch, time), and what layers add to the loss."""
    logits, sown = network.apply({"params": params}, batch["x"], mutable=["losses"])
    more = sum(map(jnp.sum, jax.tree.leaves(sown)), jnp.zeros(()))
    return optax.softmax_cross_entropy_with_integer_labels(logits.astype(jnp.float32), batch["y"]), more


def create(network: GPT, key: jax.Array, steps: int) -> StepState:
    """The state before the first step."""
    params = network.init(key, jnp.zeros((1, network.length), jnp.int32))["params"]
    rate = optax.warmup_cosine_decay_schedule(0.0, 2e-3, max(1, steps // 20), steps)
    return StepState.create(params=params, tx=optax.adamw(rate, weight_decay=0.1))


def main() -> None:
    """Train, then write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--directory", type=Path, default=Path("runs/gpt"))
    parser.add_argument("--steps", type=int, default=1500)
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--accumulate", type=int, default=1)
    parser.add_argument("--bfloat16", action="store_true", help="compute in bfloat16; quicker on GPUs and TPUs")
    parser.add_argument("--mesh", default="data:-1")
    parser.add_argument("--layout", choices=LAYOUTS, default="data")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--experts", type=int, default=0, help="a mixture of experts; needs fx-moe-plugin")
    arguments = parser.parse_args()

    initialize()
    network = GPT(experts=arguments.experts)
    mesh = make_mesh(arguments.mesh)
    text = windows(encode(load()), network.length)
    order = np.random.default_rng(0).permutation(len(text["x"]))
    held_out, training = ({k: v[part] for k, v in text.items()} for part in (order[:64], order[64:]))
    part, parts = batch_part(mesh)
    batches = Batches(training, arguments.batch, seed=arguments.seed, process=(part, parts))
    held_out = global_batch(jax.tree.map(lambda x: np.split(x, parts)[part], held_out), mesh)
    measure = jax.jit(lambda params, batch: Perplexity.empty().update(losses(network, params, batch)[0]))

    def loss_fn(params: Any, batch: dict[str, jax.Array]) -> jax.Array:
        each, more = losses(network, params, batch)
        return each.mean() + 0.01 * more

    def data(step: int) -> Prefetch:
        return Prefetch(batches(step), place=lambda batch: global_batch(batch, mesh))

    state = create_sharded(
        lambda key: create(network, key, arguments.steps),
        jax.random.key(arguments.seed),
        mesh=mesh,
        rules=LAYOUTS[arguments.layout],
    )
    policy = Policy(compute="bfloat16" if arguments.bfloat16 else "float32")
    train_step = make_train_step(loss_fn, accumulate=arguments.accumulate, weight="examples", clip=1.0, policy=policy)
    callbacks = [
        ProgressBar("gpt"),
        Evaluate(lambda state: {"perplexity": measure(state.params, held_out)}, every=50),
        Throughput(every=50, batch=arguments.batch),
        NanGuard(every=50),
        Log("jsonl", every=10),
        Describe(vars(arguments)),
        StopOnSignal(),
        Checkpoints(CheckpointManager(arguments.directory / "checkpoints", keep=2), every=200),
    ]
    with Run(arguments.directory, total_steps=arguments.steps, callbacks=callbacks) as run:
        state = run.resume(state)
        for _, batch in run.steps(data):
            state, metrics = train_step(state, batch)
            run.record(state, metrics)
    perplexity = float(measure(state.params, held_out).compute())
    if is_first():
        print(f"perplexity {perplexity:.2f} per character after {run.step} steps")
    if process_count() == 1:
        prompt = decode(training["x"][0][:20])
        print(sample(network, jax.device_get(state.params), prompt, 100, jax.random.key(1)))


if __name__ == "__main__":
    main()
