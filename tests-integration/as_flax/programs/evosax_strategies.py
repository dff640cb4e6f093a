"""evosax: strategies that are networks, and networks that strategies evolve."""

import sys

import jax
import jax.numpy as jnp
import numpy as np
from evosax.algorithms import algorithms
from evosax.problems.networks import CNN, MLP, categorical_output_fn, identity_output_fn, tanh_output_fn

results = {}
key = jax.random.key(0)
OTHERS = {"RandomSearch", "SV_CMA_ES", "SV_Open_ES"}  # made from other arguments, and of no networks
for name, cls in sorted(algorithms.items()):
    if name in OTHERS:
        continue
    algo = cls(population_size=8, solution=jnp.zeros(4))
    params = algo.default_params
    if "distribution" in cls.__module__:
        state = algo.init(key, jnp.ones(4), params)
    else:
        population = jax.random.normal(key, (8, 4))
        state = algo.init(key, population, (population**2).sum(-1), params)
    for number in range(2):
        population, state = algo.ask(jax.random.fold_in(key, number), state, params)
        state, _ = algo.tell(key, population, (population**2).sum(-1), state, params)
    for path, leaf in jax.tree_util.tree_leaves_with_path(state):
        if not jnp.issubdtype(jnp.asarray(leaf).dtype, jax.dtypes.prng_key):
            results[name + jax.tree_util.keystr(path)] = np.asarray(leaf)

x = jax.random.normal(key, (3, 8, 8, 2))
nets = {
    "mlp": (MLP((8, 3), output_fn=identity_output_fn, layer_norm=True), x.reshape(3, -1)),
    "actions": (MLP((8, 3), output_fn=categorical_output_fn), x.reshape(3, -1)),
    "cnn": (CNN([4, 4], [(3, 3), (3, 3)], [(1, 1), (2, 2)], (8, 2), output_fn=tanh_output_fn), x),
}
for name, (net, inputs) in nets.items():
    variables = net.init(key, inputs[0], key)
    out = jax.vmap(lambda v, x, net=net: net.apply(v, x, key), (None, 0))(variables, inputs)
    for path, leaf in jax.tree_util.tree_leaves_with_path((variables, out)):
        results[f"{name}{jax.tree_util.keystr(path)}"] = np.asarray(leaf)
np.savez(sys.argv[1], **results)
