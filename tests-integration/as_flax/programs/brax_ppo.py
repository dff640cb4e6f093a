"""brax: a few steps of PPO on a small environment."""

import sys

import jax
import jax.numpy as jnp
import numpy as np
from brax import envs
from brax.training.agents.ppo import train as ppo

# What brax calls and JAX no longer has since 0.8; with Flax as with fx.
jax.device_put_replicated = lambda tree, devices: jax.tree.map(lambda x: jnp.stack([x] * len(devices)), tree)
seen = {}


def progress(step, metrics):
    for name, value in metrics.items():
        if "reward" in name or "loss" in name:
            seen[f"{step}/{name}"] = np.asarray(value)


_, params, _ = ppo.train(
    environment=envs.get_environment("fast"),
    num_timesteps=256,
    episode_length=16,
    num_envs=8,
    num_eval_envs=8,
    num_evals=2,
    unroll_length=4,
    batch_size=8,
    num_minibatches=2,
    num_updates_per_batch=2,
    normalize_observations=True,
    seed=0,
    progress_fn=progress,
)
results = {name.replace("/", ":"): value for name, value in seen.items()}
for path, leaf in jax.tree_util.tree_leaves_with_path(params):
    results[f"params{jax.tree_util.keystr(path)}"] = np.asarray(leaf)
np.savez(sys.argv[1], **results)
