"""numpyro's flax_module and random_flax_module: a Bayesian regression by stochastic variational inference."""

import sys

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import numpyro
import numpyro.distributions as dist
from numpyro.contrib.module import flax_module, nnx_module, random_flax_module
from numpyro.infer import SVI, Trace_ELBO, autoguide


class MLP(nn.Module):
    @nn.compact
    def __call__(self, x):
        x = nn.tanh(nn.Dense(8)(x))
        x = nn.BatchNorm(use_running_average=False)(x)
        return nn.Dense(1)(x)


class Plain(nn.Module):
    @nn.compact
    def __call__(self, x):
        return nn.Dense(1)(nn.tanh(nn.Dense(8)(x)))


def deterministic(x, y):
    net = flax_module("net", MLP(), mutable=["batch_stats"], input_shape=(4, 2))
    numpyro.sample("y", dist.Normal(net(x)[:, 0], 0.1), obs=y)


def bayesian(x, y):
    net = random_flax_module("net", Plain(), dist.Normal(0, 1), input_shape=(4, 2))
    numpyro.sample("y", dist.Normal(net(x)[:, 0], 0.1), obs=y)


def objects(x, y):
    from flax import nnx

    net = nnx_module("net", nnx.Linear(2, 1, rngs=nnx.Rngs(0)))
    numpyro.sample("y", dist.Normal(net(x)[:, 0], 0.1), obs=y)


x = jnp.linspace(-1, 1, 32).reshape(16, 2)
y = x[:, 0] ** 2
results = {}
for name, model in {"deterministic": deterministic, "bayesian": bayesian, "objects": objects}.items():
    svi = SVI(model, autoguide.AutoNormal(model), numpyro.optim.Adam(0.01), Trace_ELBO())
    found = svi.run(jax.random.key(0), 20, x, y, progress_bar=False)
    results[f"{name}/losses"] = np.asarray(found.losses)
    for path, leaf in jax.tree_util.tree_leaves_with_path(found.params):
        results[f"{name}/{jax.tree_util.keystr(path)}"] = np.asarray(leaf)
np.savez(sys.argv[1], **results)
