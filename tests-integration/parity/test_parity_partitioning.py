"""Axis names in collections against Flax: names, transforms and automatic class names."""

import flax.linen
import flax.linen.partitioning
import fx_linen
import fx_linen.partitioning
import jax
import jax.numpy as jnp
import numpy as np
import pytest

KEY = jax.random.key(1)
X = jnp.linspace(-1.0, 1.0, 12).reshape(4, 3)
OWN = {"variable_axes": {"params": 0, "stats": 0}, "split_rngs": {"params": True}}


def models(nn, partitioning):
    class Layer(nn.Module):
        @nn.compact
        def __call__(self, x):
            init = nn.initializers.normal(1.0)
            w = partitioning.param_with_axes("w", init, (3, 3), axes=("embed", "mlp"))
            mean = partitioning.variable_with_axes("stats", "mean", jnp.zeros, (3,), axes=("mlp",))
            mean.value = mean.value + x.sum()
            return x @ w

    class Step(nn.Module):
        @nn.compact
        def __call__(self, x):
            return Layer()(x), None

    class Net(nn.Module):
        cls: type

        @nn.compact
        def __call__(self, x):
            return self.cls()(x)

    scan, vmap = partitioning.scan_with_axes, partitioning.vmap_with_axes
    both = ("params", "stats")
    names = {"params": "heads", "stats": "heads"}
    axes = {"params": 1, "stats": 0}
    return {
        "plain": Net(Layer),
        "remat": Net(partitioning.remat(Layer)),
        "scan": Net(scan(Step, **OWN, length=3, axes_collections=both)),
        "vmap": Net(vmap(Layer, axes, split_rngs={"params": True}, partitioning_axis_names=names)),
        "vmap_of_some": Net(vmap(Layer, **OWN, partitioning_axis_names={"params": "heads"})),
    }


OURS = models(fx_linen, fx_linen.partitioning)
THEIRS = models(flax.linen, flax.linen.partitioning)


def specs(variables, partitioning):
    return {k: partitioning.get_axis_names(v).unfreeze() for k, v in variables.items() if k.endswith("_axes")}


@pytest.mark.parametrize("case", OURS)
def test_models(case):
    y, ours = OURS[case].init_with_output(KEY, X)
    their_y, theirs = THEIRS[case].init_with_output(KEY, X)
    assert specs(ours, fx_linen.partitioning) == specs(theirs, flax.linen.partitioning)
    for tree in (ours, theirs):
        for name in [name for name in tree if name.endswith("_axes")]:
            del tree[name]
    assert jax.tree.structure(ours) == jax.tree.structure(theirs)
    jax.tree.map(np.testing.assert_array_equal, ours["params"], theirs["params"])
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-6, atol=1e-6), y, their_y)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-6, atol=1e-6), ours["stats"], theirs["stats"])
