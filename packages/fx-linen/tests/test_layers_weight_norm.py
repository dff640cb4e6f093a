"""SpectralNorm and WeightNorm."""

import fx_linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from fx_linen.weight_normalization import NonMatrixWeightError

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
    with pytest.raises(NonMatrixWeightError, match="is no matrix, but error_on_non_matrix is True") as caught:
        layer.init(KEY, jnp.ones((1, 5, 3)), update_stats=True)
    assert "layer_instance/kernel" in str(caught.value)
    assert "(3, 3, 2)" in str(caught.value)


def test_columns_have_the_length_scale():
    layer = nn.WeightNorm(nn.Dense(4, use_bias=False))
    variables = layer.init(KEY, X)
    variables["params"]["layer_instance/kernel/scale"] = jnp.arange(1.0, 5.0)
    y = layer.apply(variables, jnp.eye(3))
    np.testing.assert_allclose(jnp.linalg.norm(y, axis=0), jnp.arange(1.0, 5.0), rtol=1e-5)


def test_which_weights_are_normalised():
    def names(**options):
        return sorted(nn.WeightNorm(nn.Dense(4), **options).init(KEY, X)["params"])

    assert names() == ["layer_instance", "layer_instance/kernel/scale"]
    assert names(use_scale=False) == ["layer_instance"]
    assert names(variable_filter={"bias"}) == ["layer_instance", "layer_instance/bias/scale"]
    assert len(names(variable_filter=None)) == 3
