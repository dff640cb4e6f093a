"""What layers ask of their inputs."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from fx_core.errors import ShapeMismatchError
from fx_core.ops import attention
from fx_core.ops.inputs import features_of


@pytest.mark.parametrize(
    ("inputs", "features"),
    [(jnp.ones((2, 3)), 3), (np.ones(4), 4), ([1.0, 2.0], 2), ([[1], [2]], 1), (jnp.ones((2, 0)), 0), ([True], 1)],
)
def test_features_are_the_last_axis(inputs, features):
    assert features_of(inputs) == features
    assert features_of(jax.ShapeDtypeStruct((5, features), jnp.bfloat16)) == features


@pytest.mark.parametrize(
    ("inputs", "got"),
    [(jnp.ones(()), r"shape \(\)"), (1.0, "float"), ("abc", "str"), (None, "NoneType"), ([[1], [1, 2]], "list")],
)
def test_inputs_without_an_axis_are_refused(inputs, got):
    with pytest.raises(ShapeMismatchError, match=rf"(?s)queries have no axis.*\(\.\.\., features\).*{got}.*x\[None\]"):
        features_of(inputs, "queries")


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_attention_over_vectors_is_refused(dtype):
    x = jnp.ones((2, 2), dtype)
    with pytest.raises(ShapeMismatchError, match="at least three"):
        attention.dot_product_attention(x, x, x)
