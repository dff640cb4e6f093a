"""SpectralNorm and WeightNorm against Flax: parameters, statistics, results and gradients."""

import flax.linen
import flax.nnx
import fx_linen
import fx_nnx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

KEY = jax.random.key(5)
X = jnp.linspace(-1.0, 1.0, 30).reshape(2, 5, 3)


def net(nn, wrap, call):
    class Net(nn.Module):
        @nn.compact
        def __call__(self, x):
            x = nn.Dense(3)(x)
            x = wrap(nn)(x, **call)
            return nn.Dense(2)(x)

    return Net()


def deep(nn):
    class Deep(nn.Module):
        @nn.compact
        def __call__(self, x):
            return nn.Dense(3)(nn.Dense(4)(x))

    return Deep()


SPECTRAL = {
    "dense": lambda nn: nn.SpectralNorm(nn.Dense(4)),
    "steps": lambda nn: nn.SpectralNorm(nn.Dense(4), n_steps=4, epsilon=1e-3),
    "conv": lambda nn: nn.SpectralNorm(nn.Conv(4, (3,))),
    "deep": lambda nn: nn.SpectralNorm(deep(nn)),
    "collection": lambda nn: nn.SpectralNorm(nn.Dense(4), collection_name="spectral"),
    "bfloat16": lambda nn: nn.SpectralNorm(nn.Dense(4), dtype=jnp.bfloat16),
}
WEIGHT = {
    "dense": lambda nn: nn.WeightNorm(nn.Dense(4)),
    "conv": lambda nn: nn.WeightNorm(nn.Conv(4, (3,)), epsilon=1e-2),
    "no_scale": lambda nn: nn.WeightNorm(nn.Dense(4), use_scale=False),
    "scale_init": lambda nn: nn.WeightNorm(nn.Dense(4), scale_init=nn.initializers.normal(1.0)),
    "one_length": lambda nn: nn.WeightNorm(nn.Dense(4), feature_axes=None),
    "all": lambda nn: nn.WeightNorm(nn.Dense(4, bias_init=nn.initializers.normal(1.0)), variable_filter=None),
    "two_axes": lambda nn: nn.WeightNorm(nn.Conv(4, (3,)), feature_axes=(0, -1)),
    "deep": lambda nn: nn.WeightNorm(deep(nn)),
    "bfloat16": lambda nn: nn.WeightNorm(nn.Dense(4), dtype=jnp.bfloat16),
}
CASES = [(wrap, {"update_stats": update}) for wrap in SPECTRAL.values() for update in (True, False)]
CASES += [(wrap, {}) for wrap in WEIGHT.values()]
NAMES = [f"spectral-{name}-{update}" for name in SPECTRAL for update in (True, False)]
NAMES += [f"weight-{name}" for name in WEIGHT]


@pytest.mark.parametrize(("wrap", "call"), CASES, ids=NAMES)
def test_layer(wrap, call):
    results = []
    for nn in (fx_linen, flax.linen):
        model = net(nn, wrap, call)
        y, variables = model.init_with_output(KEY, X)

        def loss(variables, model=model):
            out, state = model.apply(variables, X, mutable=["batch_stats", "spectral"])
            return (out * out).sum(), (out, state)

        grads, rest = jax.grad(loss, has_aux=True)(variables)
        results.append((variables, y, grads, *rest))
    ours, theirs = results
    assert jax.tree.structure(ours) == jax.tree.structure(theirs)
    tolerance = 2e-2 if any(leaf.dtype == jnp.bfloat16 for leaf in jax.tree.leaves(theirs)) else 1e-5

    def compare(a, b):
        assert a.dtype == b.dtype
        np.testing.assert_allclose(np.float64(a), np.float64(b), rtol=tolerance, atol=tolerance)

    jax.tree.map(compare, ours, theirs)


@pytest.mark.filterwarnings("ignore:scatter inputs have incompatible types:FutureWarning")  # in Flax
@pytest.mark.parametrize("param_dtype", [jnp.float32, jnp.float16])
@pytest.mark.parametrize("dtype", [jnp.float32, jnp.float16])
@pytest.mark.parametrize(("name", "call"), [("SpectralNorm", {"update_stats": True}), ("WeightNorm", {})])
def test_narrow_weights(name, call, dtype, param_dtype):
    x = jax.random.normal(jax.random.key(1), (6, 4)).astype(dtype)
    kwargs = {"dtype": dtype, "param_dtype": param_dtype}

    def linen(nn):
        model = getattr(nn, name)(nn.Dense(4, **kwargs))
        variables = model.init(jax.random.key(0), x, **call)
        return model.apply(variables, x, **call, mutable=["batch_stats"])[0]

    def nnx(nn):
        layer = nn.Linear(4, 4, **kwargs, rngs=nn.Rngs(0))
        return getattr(nn, name)(layer, **kwargs, rngs=nn.Rngs(0))(x, **call)

    for run, ours, theirs in ((linen, fx_linen, flax.linen), (nnx, fx_nnx, flax.nnx)):
        out, expected = run(ours), run(theirs)
        assert out.dtype == expected.dtype
        np.testing.assert_array_equal(out, expected)


@pytest.mark.parametrize("init", ["ones", "zeros"])
def test_lengths_that_are_not_random_take_no_key(init):
    def keys(nn):
        rngs = nn.Rngs(0)
        nn.WeightNorm(nn.Linear(4, 3, rngs=rngs), scale_init=getattr(nn.initializers, init), rngs=rngs)
        return nn.Linear(3, 2, rngs=rngs).kernel[...]

    np.testing.assert_array_equal(keys(fx_nnx), keys(flax.nnx))


def test_axes_that_a_weight_lacks_are_refused():
    for nn, error in ((flax.linen, IndexError), (fx_linen, ValueError)):
        with pytest.raises(error):
            nn.WeightNorm(nn.Dense(4), feature_axes=3).init(KEY, X)
