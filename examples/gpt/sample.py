"""Write text with a trained network: the prompt at once, then character by character with a cache.

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


def empty_cache(network: GPT) -> Any:
    """The collection ``cache`` for one text of the network's full length."""
    model, text = network.clone(decode=True), jnp.zeros((1, network.length), jnp.int32)
    # Only the shapes matter here: nothing is computed.
    shapes = jax.eval_shape(model.init, jax.random.key(0), text)["cache"]
    return jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), shapes)


def sample(network: GPT, params: Any, prompt: str, count: int, key: jax.Array, temperature: float = 0.7) -> str:
    """Continue a prompt by ``count`` characters; the whole must fit into the network's length."""
    if not prompt or len(prompt) + count > network.length:
        raise ValueError(
            f"Prompt and continuation have room for 1 to {network.length} characters, "
            f"got a prompt of {len(prompt)} and count={count}: shorten them, or train a longer network."
        )
    model = network.clone(decode=True)

    def draw(logits: jax.Array, index: jax.Array) -> jax.Array:
        return jax.random.categorical(jax.random.fold_in(key, index), logits[0, -1] / temperature)

    def step(carry: tuple[Any, jax.Array], index: jax.Array) -> tuple[tuple[Any, jax.Array], jax.Array]:
        cache, token = carry
        logits, updates = model.apply({"params": params, "cache": cache}, token[None, None], mutable=["cache"])
        return (updates["cache"], draw(logits, index)), token

    @jax.jit
    def write(cache: Any, given: jax.Array) -> jax.Array:
        # The prompt goes through the network at once, what follows character by character.
        logits, updates = model.apply({"params": params, "cache": cache}, given[None], mutable=["cache"])
        return jax.lax.scan(step, (updates["cache"], draw(logits, 0)), jnp.arange(1, count + 1))[1]

    return prompt + decode(np.asarray(write(empty_cache(network), jnp.asarray(encode(prompt)))))


def main() -> None:
    """Read the newest checkpoint and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--directory", type=Path, default=Path("runs/gpt"))
    parser.add_argument("--prompt", default="The with statement ")
    parser.add_argument("--count", type=int, default=100)
    parser.add_argument("--temperature", type=float, default=0.7)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--experts", type=int, default=0, help="as in training")
    arguments = parser.parse_args()
    # Without a target a checkpoint comes back as dicts of arrays.
    params = CheckpointManager(arguments.directory / "checkpoints").restore()["params"]
    key = jax.random.key(arguments.seed)
    print(sample(GPT(experts=arguments.experts), params, arguments.prompt, arguments.count, key, arguments.temperature))


if __name__ == "__main__":
    main()
