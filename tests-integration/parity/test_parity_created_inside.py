"""Layers whose parameters come to be inside of transforms of JAX itself."""

import flax.linen
import fx_linen
import jax
import jax.numpy as jnp
import numpy as np
import pytest

KEY = jax.random.key(0)
X = jnp.linspace(-1.0, 1.0, 6).reshape(2, 3)

TRANSFORMS = {
    "vmap": jax.vmap,
    "grad": lambda f: jax.grad(lambda x: jnp.sum(f(x) ** 2)),
    "vmap of grad": lambda f: jax.vmap(jax.grad(lambda x: jnp.sum(f(x) ** 2))),
    "jacobian": jax.jacrev,
    "jvp": lambda f: lambda x: jax.jvp(f, (x,), (x,))[1],
}


def network(nn, transform, how):
    class Inner(nn.Module):
        @nn.compact
        def __call__(self, x):
            x = nn.tanh(nn.Dense(4)(x))
            self.variable("state", "size", lambda: jnp.asarray(3.0))
            return nn.LayerNorm()(nn.Dense(3)(x))

    class Compact(nn.Module):
        @nn.compact
        def __call__(self, x):
            x = transform(Inner())(x) if how == "a module" else transform(lambda x: Inner()(x))(x)
            return nn.Dense(2, name="last")(x)

    class Setup(nn.Module):
        def setup(self):
            self.inner, self.last = Inner(), nn.Dense(2)

        def __call__(self, x):
            return self.last(transform(self.inner)(x))

    return (Setup if how == "an attribute" else Compact)()


@pytest.mark.parametrize("how", ["a module", "a function", "an attribute"])
@pytest.mark.parametrize("transform", TRANSFORMS.values(), ids=TRANSFORMS)
def test_same_variables_and_results(transform, how):
    results = []
    for nn in (flax.linen, fx_linen):
        net = network(nn, transform, how)
        made = net.init(KEY, X)
        y, again = net.init_with_output(KEY, X)
        jitted = jax.jit(net.init)(KEY, X)
        results.append((made, again, y, net.apply(made, X), jitted))
    theirs, ours = results
    for a, b in zip(jax.tree.leaves(theirs), jax.tree.leaves(ours), strict=True):
        # Gradients through a LayerNorm of three values cancel, and its variance is computed otherwise here.
        np.testing.assert_allclose(a, b, rtol=1e-6, atol=1e-6)
    assert jax.tree.structure(theirs[0]) == jax.tree.structure(ours[0])
