"""What tracing a Linen network costs over tracing the same function written by hand."""

from collections.abc import Iterator

import fx_linen as nn
import jax
import jax.numpy as jnp

from benchmarks.measure import Ratio, interleaved

LAYERS = 100


class MLP(nn.Module):
    @nn.compact
    def __call__(self, x):
        for _ in range(LAYERS):
            x = nn.relu(nn.Dense(16)(x))
        return x


def by_hand(params, x):
    for index in range(LAYERS):
        layer = params[f"Dense_{index}"]
        y = jax.lax.dot_general(x, layer["kernel"], (((1,), (0,)), ((), ())))
        x = jax.nn.relu(y + jnp.reshape(layer["bias"], (1, -1)))
    return x


def cases() -> Iterator[Ratio]:
    model, x = MLP(), jnp.ones((2, 16))
    variables = jax.jit(model.init)(jax.random.key(0), x)

    # A new function object each time, or JAX would return the trace of the last call.
    def ours():
        return jax.jit(lambda variables, x: model.apply(variables, x)).lower(variables, x)

    def raw():
        return jax.jit(lambda params, x: by_hand(params, x)).lower(variables["params"], x)

    yield interleaved(f"trace and lower, MLP of {LAYERS} layers", ours, raw, aim=1.3)
