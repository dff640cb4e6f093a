"""Write text with a trained network, one token at a time with a cache, or whole for comparison.

python sample.py --directory runs/gpt --prompt "The with statement"
"""

import argparse
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from data import decode, encode
from fx_ckpt import CheckpointManager
from network import GPT


def sample(network: GPT, params: Any, prompt: str, count: int, key: jax.Array, temperature: float = 0.7) -> str:
    """Continue a prompt by ``count`` characters; the whole must fit into the network's length."""
    model = network.clone(decode=True)
    # Only the shapes matter here: nothing is computed.
    shapes = jax.eval_shape(model.init, key, jnp.zeros((1, network.length), jnp.int32))
    cache = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), shapes["cache"])
    given = jnp.asarray(encode(prompt))

    def step(carry: tuple[Any, jax.Array], index: jax.Array) -> tuple[tuple[Any, jax.Array], jax.Array]:
        cache, token = carry
        logits, updates = model.apply({"params": params, "cache": cache}, token.reshape(1, 1), mutable=["cache"])
        drawn = jax.random.categorical(jax.random.fold_in(key, index), logits[0, -1] / temperature)
        known = given[jnp.minimum(index + 1, len(given) - 1)]
        following = jnp.where(index + 1 < len(given), known, drawn).astype(jnp.int32)
        return (updates["cache"], following), following

    steps = jnp.arange(len(given) + count - 1)
    _, tokens = jax.jit(lambda cache: jax.lax.scan(step, (cache, given[0]), steps))(cache)
    return prompt[0] + decode(np.asarray(tokens))


def main() -> None:
    """Read the newest checkpoint and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--directory", type=Path, default=Path("runs/gpt"))
    parser.add_argument("--prompt", default="The with statement ")
    parser.add_argument("--count", type=int, default=100)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    state = CheckpointManager(arguments.directory / "checkpoints").restore()
    print(sample(GPT(), state["params"], arguments.prompt, arguments.count, jax.random.key(arguments.seed)))


if __name__ == "__main__":
    main()
