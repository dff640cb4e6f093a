"""e3nn-jax: an equivariant network with batch norm, trained for some steps."""

import sys

import e3nn_jax as e3nn
import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
from e3nn_jax import flax as layers

results = {}


def keep(name, tree):
    for path, leaf in jax.tree_util.tree_leaves_with_path(tree):
        results[f"{name}{jax.tree_util.keystr(path)}"] = np.asarray(leaf)


class Net(nn.Module):
    @nn.compact
    def __call__(self, positions, is_training):
        y = e3nn.spherical_harmonics("1x0e + 1x1o + 1x2e", positions, normalize=True)
        lengths = jnp.linalg.norm(positions, axis=-1, keepdims=True)
        weights = layers.MultiLayerPerceptron((8, 8, 3), act=jax.nn.silu, output_activation=False)(lengths)
        y = layers.Linear("4x0e + 4x1o + 2x2e")(y)
        y = layers.BatchNorm(instance=False)(y, use_running_average=not is_training)
        y = layers.Linear("3x0e")(e3nn.tensor_square(y))
        return (y.array * weights).sum(-1)


net, key = Net(), jax.random.PRNGKey(0)
x = jax.random.normal(key, (6, 3))
variables = net.init(key, x, True)
params, stats = variables["params"], {name: value for name, value in variables.items() if name != "params"}
optimizer = optax.adam(1e-2)
state = optimizer.init(params)


@jax.jit
def step(params, stats, state):
    def loss(params):
        out, changed = net.apply({"params": params, **stats}, x, True, mutable=list(stats))
        return ((out - x[:, 0]) ** 2).mean(), changed

    (value, changed), grads = jax.value_and_grad(loss, has_aux=True)(params)
    updates, new = optimizer.update(grads, state)
    return optax.apply_updates(params, updates), changed, new, value


for number in range(3):
    params, stats, state, value = step(params, stats, state)
    keep(f"loss-{number}", value)
keep("params", params)
keep("stats", stats)
keep("out", net.apply({"params": params, **stats}, x, False, mutable=["batch_stats"]))
keep("vmap", jax.vmap(lambda x: net.apply({"params": params, **stats}, x, False, mutable=["batch_stats"]))(x[None]))
np.savez(sys.argv[1], **results)
