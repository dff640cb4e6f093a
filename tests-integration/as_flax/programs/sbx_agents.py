"""sbx: six agents trained for some steps, saved, loaded, and trained on."""

import sys
import tempfile
from pathlib import Path

import gymnasium
import jax
import numpy as np
from sbx import DDPG, DQN, PPO, SAC, TD3, TQC

results = {}
REPLAY = {"learning_starts": 40, "buffer_size": 500, "batch_size": 16}
AGENTS = {
    "sac": (SAC, "Pendulum-v1", REPLAY),
    "tqc": (TQC, "Pendulum-v1", REPLAY),
    "td3": (TD3, "Pendulum-v1", REPLAY),
    "ddpg": (DDPG, "Pendulum-v1", REPLAY),
    "dqn": (DQN, "CartPole-v1", REPLAY),
    "ppo": (PPO, "CartPole-v1", {"n_steps": 32, "batch_size": 16, "n_epochs": 2}),
}


def keep(name, agent):
    for part in ("actor_state", "qf_state", "vf_state", "ent_coef_state"):
        state = getattr(agent.policy, part, None) or getattr(agent, part, None)
        for path, leaf in jax.tree_util.tree_leaves_with_path(state):
            if hasattr(leaf, "shape"):
                results[f"{name}-{part}{jax.tree_util.keystr(path)}"] = np.asarray(leaf)


for name, (kind, env, options) in AGENTS.items():
    agent = kind("MlpPolicy", env, seed=0, device="cpu", policy_kwargs={"net_arch": [16, 16]}, **options)
    agent.learn(120)
    keep(name, agent)
    with tempfile.TemporaryDirectory() as directory:
        agent.save(Path(directory) / "agent")
        loaded = kind.load(Path(directory) / "agent", env=gymnasium.make(env))
    keep(f"{name}-loaded", loaded)
    observation = np.full(agent.observation_space.shape, 0.1, np.float32)
    results[f"{name}-action"] = np.asarray(loaded.predict(observation, deterministic=True)[0])
    loaded.learn(60, reset_num_timesteps=False)
    keep(f"{name}-more", loaded)
np.savez(sys.argv[1], **results)
