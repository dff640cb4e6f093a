"""Modules used inside of plain JAX transforms within a module: keys, writes and lifted transforms, as in Flax."""

import flax.linen as flax_linen
import fx_linen
import jax
import jax.numpy as jnp
import numpy as np
import pytest

X = jnp.linspace(-1.0, 1.0, 8).reshape(2, 4)
KEYS = {"params": jax.random.key(0), "dropout": jax.random.key(1)}
PLAIN = {
    "checkpoint": jax.checkpoint,
    "jit": jax.jit,
    "vmap": jax.vmap,
    "grad": lambda f: jax.grad(lambda x: jnp.sum(f(x) ** 2)),
    "jvp": lambda f: lambda x: sum(jax.jvp(f, (x,), (x,))),
    "scan": lambda f: lambda x: jax.lax.scan(lambda c, row: (c, f(row)), 0, x)[1],
    "cond": lambda f: lambda x: jax.lax.cond(jnp.sum(x) < 9, f, lambda x: x, x),
    "eval_shape": lambda f: lambda x: jnp.ones(jax.eval_shape(f, x).shape),
}


def draw(nn, module):
    drop = nn.Dropout(0.5, deterministic=False)
    return lambda x: drop(x + jax.random.normal(module.make_rng("dropout"), x.shape))


def count(nn, module):
    calls = module.variable("state", "calls", lambda: 0)

    def f(x):
        calls.value += 1
        return x * calls.value

    return f


def lifted(nn, module):
    dense = nn.remat(nn.Dense)(4, name="dense")
    drop = nn.jit(nn.Dropout)(0.5, deterministic=False, name="drop")
    return lambda x: drop(dense(x))


@pytest.mark.parametrize("transform", PLAIN.values(), ids=PLAIN)
@pytest.mark.parametrize("body", [draw, count, lifted])
@pytest.mark.parametrize("around", [lambda f: f, jax.jit], ids=["eager", "jit"])
def test_inside_of_plain_transforms(transform, body, around):
    results = []
    for nn in (flax_linen, fx_linen):

        class Net(nn.Module):
            @nn.compact
            def __call__(self, x, nn=nn):
                x = x + jax.random.normal(self.make_rng("dropout"), x.shape)
                f = body(nn, self)
                # What lifted transforms create would be values of the inner trace.
                x = f(x) if self.is_initializing() and body is lifted else transform(f)(x)
                return x + jax.random.normal(self.make_rng("dropout"), x.shape)

        def run(x, cls=Net):
            net = cls()
            variables = net.init(KEYS, x)
            return variables, net.apply(variables, x, rngs={"dropout": KEYS["dropout"]}, mutable=["state"])

        results.append(around(run)(X))
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6), *results)
