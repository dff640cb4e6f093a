"""SpectralNorm and WeightNorm."""

import fx_linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from fx_core.errors import ShapeMismatchError

KEY = jax.random.key(0)
X = jnp.ones((2, 3))


def test_the_largest_singular_value_becomes_one():
    layer = nn.SpectralNorm(nn.Dense(4), n_steps=3)
    variables = layer.init(KEY, X, update_stats=False)
    kernel = jax.random.normal(jax.random.key(1), (3, 4)) * 7
    variables["params"]["layer_instance"]["kernel"] = kernel
    for _ in range(20):
        y, stats = layer.apply(variables, X, update_stats=True, mutable=["batch_stats"])
        variables |= stats
    sigma = jnp.linalg.norm(kernel, 2)
    np.testing.assert_allclose(stats["batch_stats"]["layer_instance/kernel/sigma"], sigma, rtol=1e-4)
    np.testing.assert_allclose(y, X @ kernel / sigma, rtol=1e-4)
    frozen = layer.apply(variables, X, update_stats=False)
    np.testing.assert_allclose(frozen, y, rtol=1e-4)


def test_only_matrices_where_asked():
    layer = nn.SpectralNorm(nn.Conv(2, (3,)), error_on_non_matrix=True)
    with pytest.raises(ShapeMismatchError, match="is no matrix, but error_on_non_matrix is True") as caught:
        layer.init(KEY, jnp.ones((1, 5, 3)), update_stats=True)
    assert "layer_instance/kernel" in str(caught.value)
    assert "(3, 3, 2)" in str(caught.value)


def test_columns_have_the_length_scale():
    layer = nn.WeightNorm(nn.Dense(4, use_bias=False))
    variables = layer.init(KEY, X)
    variables["params"]["layer_instance/kernel/scale"] = jnp.arange(1.0, 5.0)
    y = layer.apply(variables, jnp.eye(3))
    np.testing.assert_allclose(jnp.linalg.norm(y, axis=0), jnp.arange(1.0, 5.0), rtol=1e-5)


def test_which_weights_are_normalized():
    def names(**options):
        return sorted(nn.WeightNorm(nn.Dense(4), **options).init(KEY, X)["params"])

    assert names() == ["layer_instance", "layer_instance/kernel/scale"]
    assert names(use_scale=False) == ["layer_instance"]
    assert names(variable_filter={"bias"}) == ["layer_instance", "layer_instance/bias/scale"]
    assert len(names(variable_filter=None)) == 3


class Block(nn.Module):
    @nn.compact
    def __call__(self, x):
        return nn.WeightNorm(nn.Dense(3))(nn.Dense(3)(x))


class Nested(nn.Module):
    kind: str

    @nn.compact
    def __call__(self, x):
        if self.kind == "block":
            return nn.WeightNorm(Block())(x)
        if self.kind == "twice":
            return nn.WeightNorm(nn.WeightNorm(nn.Dense(3)))(x)
        if self.kind == "spectral":
            return nn.SpectralNorm(nn.WeightNorm(nn.Dense(3)))(x, update_stats=True)
        if self.kind == "called twice":
            layer = nn.WeightNorm(nn.Dense(3))
            return layer(layer(x))
        if self.kind == "spectral twice":
            layer = nn.SpectralNorm(nn.Dense(3), n_steps=2)
            return layer(layer(x, update_stats=True), update_stats=True)
        layer = nn.Dense(3)
        return nn.WeightNorm(layer)(x) + nn.WeightNorm(layer, scale_init=nn.initializers.constant(2.0))(x)


@pytest.mark.parametrize("kind", ["block", "twice", "spectral", "called twice", "spectral twice", "shared"])
def test_norms_around_norms_and_norms_that_are_called_again(kind):
    key, x = jax.random.key(0), jnp.linspace(-1.0, 1.0, 6).reshape(2, 3)
    y, variables = Nested(kind).init_with_output(key, x)
    z, updates = Nested(kind).apply(variables, x, mutable=["batch_stats"])
    assert jnp.all(jnp.isfinite(z))
    if "spectral" not in kind:  # whose estimates go on
        np.testing.assert_allclose(z, y, rtol=1e-5)
        assert not updates
    layer = variables["params"]["Dense_0"] if kind != "block" else variables["params"]["Block_0"]["Dense_0"]
    if kind in ("block", "twice", "called twice"):
        np.testing.assert_allclose(jnp.linalg.norm(layer["kernel"], axis=0), 1.0, rtol=1e-5)
    if kind == "shared":
        np.testing.assert_allclose(z, 1.5 * (x @ layer["kernel"]), rtol=1e-5)  # stored as the second one saw it
    if kind == "called twice":
        np.testing.assert_allclose(z, x @ layer["kernel"] @ layer["kernel"], rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("none", [None, {}, set(), []])
def test_no_text_to_filter_by_is_every_weight(none):
    variables = nn.WeightNorm(nn.Dense(3), variable_filter=none).init(jax.random.key(0), jnp.ones((1, 2)))
    assert {"layer_instance/kernel/scale", "layer_instance/bias/scale"} < set(variables["params"])


@pytest.mark.parametrize("norm", ["weight", "spectral"])
@pytest.mark.parametrize("boxed", [nn.with_partitioning, nn.with_logical_partitioning])
def test_weights_with_partition_names(norm, boxed):
    def make(init):
        layer = nn.Dense(3, kernel_init=init)
        return nn.WeightNorm(layer) if norm == "weight" else nn.SpectralNorm(layer)

    key, x, init = jax.random.key(0), jnp.ones((1, 2)), nn.initializers.lecun_normal()
    options = {} if norm == "weight" else {"update_stats": False}
    plain, named = make(init), make(boxed(init, ("in", "out")))
    variables = named.init(key, x, **options)
    assert variables["params"]["layer_instance"]["kernel"].names == ("in", "out")
    expected = plain.apply(plain.init(key, x, **options), x, **options)
    np.testing.assert_allclose(named.apply(variables, x, **options), expected, rtol=1e-6)
    np.testing.assert_allclose(named.apply(nn.unbox(variables), x, **options), expected, rtol=1e-6)


def test_map_variables_maps_what_is_there_already_once():
    doubled = nn.map_variables(nn.Dense, "params", lambda tree: jax.tree.map(lambda w: 2 * w, tree), init=True)

    class Net(nn.Module):
        @nn.compact
        def __call__(self, x):
            layer = doubled(3, use_bias=False)
            first = layer(x)
            return first, layer(x), layer.variables["params"]["kernel"]

    (first, second, kernel), _ = Net().init_with_output(jax.random.key(0), jnp.ones((1, 3)))
    np.testing.assert_allclose(second, jnp.ones((1, 3)) @ kernel, rtol=1e-6)
    np.testing.assert_allclose(second, 2 * first, rtol=1e-6)


def test_parameters_stay_as_they_are_trained():
    layer = nn.WeightNorm(nn.Dense(4), scale_init=nn.initializers.constant(-3.0))
    variables = layer.init(KEY, X)
    out, after = layer.apply(variables, X, mutable=True)
    jax.tree.map(np.testing.assert_array_equal, after, variables)
    np.testing.assert_array_equal(layer.apply(after, X), out)
