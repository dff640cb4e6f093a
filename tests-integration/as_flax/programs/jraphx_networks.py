"""jraphx: four kinds of graph networks with dropout, norms and jumping knowledge, trained for some steps."""

import sys

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx
from jraphx.nn import models

results = {}
NETWORKS = {
    "GCN": {"norm": "batch_norm", "jk": "lstm", "residual": True},
    "GAT": {"norm": "layer_norm", "jk": "cat"},
    "GraphSAGE": {"norm": "graph_norm"},
    "GIN": {"jk": "max"},
}
x = jax.random.normal(jax.random.key(0), (12, 5))
edges = jax.random.randint(jax.random.key(1), (2, 40), 0, 12)
y = jax.random.randint(jax.random.key(2), (12,), 0, 3)


def keep(name, state):
    for path, leaf in jax.tree_util.tree_leaves_with_path(nnx.to_pure_dict(state)):
        if jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key):
            leaf = jax.random.key_data(leaf)
        results[f"{name}{jax.tree_util.keystr(path)}"] = np.asarray(leaf)


@nnx.jit
def step(model, optimizer):
    def loss(model):
        return optax.softmax_cross_entropy_with_integer_labels(model(x, edges), y).mean()

    value, grads = nnx.value_and_grad(loss)(model)
    optimizer.update(model, grads)
    return value


for name, options in NETWORKS.items():
    model = getattr(models, name)(5, 8, 3, 3, dropout_rate=0.3, rngs=nnx.Rngs(0), **options)
    optimizer = nnx.Optimizer(model, optax.adamw(1e-2), wrt=nnx.Param)
    model.train()
    for number in range(3):
        results[f"{name}-loss-{number}"] = np.asarray(step(model, optimizer))
    model.eval()
    keep(name, nnx.state(model))
    results[f"{name}-out"] = np.asarray(model(x, edges))
np.savez(sys.argv[1], **results)
