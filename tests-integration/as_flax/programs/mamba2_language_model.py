"""mamba2-jax: a state-space language model, trained for some steps, that goes on from its cache; a forecaster."""

import sys

import jax
import numpy as np
import optax
from flax import nnx
from mamba2_jax import modeling

results = {}
tokens = jax.random.randint(jax.random.key(0), (2, 12), 0, 50)
series = jax.random.normal(jax.random.key(1), (2, 12, 3))


def keep(name, model):
    for path, leaf in jax.tree_util.tree_leaves_with_path(nnx.to_pure_dict(nnx.state(model, nnx.Param))):
        results[f"{name}{jax.tree_util.keystr(path)}"] = np.asarray(leaf)


@nnx.jit(static_argnums=2)
def step(model, optimizer, loss):
    value, grads = nnx.value_and_grad(loss)(model)
    optimizer.update(model, grads)
    return value


def train(name, model, loss):
    optimizer = nnx.Optimizer(model, optax.adamw(1e-2), wrt=nnx.Param)
    for number in range(3):
        results[f"{name}-loss-{number}"] = np.asarray(step(model, optimizer, loss))
    keep(name, model)


def next_token(model):
    return model(input_ids=tokens, labels=tokens)["loss"]


def squares(model):
    return ((model(series) - 1.0) ** 2).mean()


language = modeling.Mamba2ForCausalLM(modeling.Mamba2Config.tiny(), rngs=nnx.Rngs(0))
train("language", language, next_token)
cache = language(input_ids=tokens[:, :6])["cache"]
for number in range(6, 9):
    out = language(input_ids=tokens[:, number : number + 1], cache=cache)
    cache = out["cache"]
    results[f"logits-{number}"] = np.asarray(out["logits"])
forecaster = modeling.Mamba2Forecaster(input_dim=3, forecast_horizon=4, output_dim=2, n_layers=2, rngs=nnx.Rngs(1))
train("forecaster", forecaster, squares)
results["forecast"] = np.asarray(forecaster(series))
np.savez(sys.argv[1], **results)
