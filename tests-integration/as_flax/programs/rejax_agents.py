"""rejax: six agents trained for some hundred steps, compiled as a whole."""

import sys

import jax
import numpy as np
import rejax

results = {}
COMMON = {"total_timesteps": 512, "eval_freq": 256, "skip_initial_evaluation": True, "learning_rate": 1e-3}
AGENTS = {
    "ppo": ("CartPole-v1", {"num_envs": 4, "num_steps": 16, "num_minibatches": 2, "num_epochs": 2}),
    "pqn": ("CartPole-v1", {"num_envs": 4, "num_steps": 16, "num_minibatches": 2, "num_epochs": 2}),
    "dqn": ("CartPole-v1", {"num_envs": 2, "buffer_size": 256, "batch_size": 16, "fill_buffer": 64}),
    "iqn": ("CartPole-v1", {"num_envs": 2, "buffer_size": 256, "batch_size": 16, "fill_buffer": 64}),
    "sac": ("Pendulum-v1", {"num_envs": 2, "buffer_size": 256, "batch_size": 16, "fill_buffer": 64}),
    "td3": ("Pendulum-v1", {"num_envs": 2, "buffer_size": 256, "batch_size": 16, "fill_buffer": 64}),
}
for name, (env, more) in AGENTS.items():
    config = {"env": env, **COMMON, **more}
    algo = rejax.get_algo(name).create(**config)
    algo = algo.replace(eval_callback=lambda algo, ts, rng: jax.numpy.zeros(2))
    state, _ = jax.jit(algo.train)(jax.random.PRNGKey(0))
    for path, leaf in jax.tree_util.tree_leaves_with_path(state):
        if "params" in jax.tree_util.keystr(path) or "opt" in jax.tree_util.keystr(path):
            results[name + jax.tree_util.keystr(path)] = np.asarray(leaf)
np.savez(sys.argv[1], **results)
