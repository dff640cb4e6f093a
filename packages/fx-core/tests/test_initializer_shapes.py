import jax
import numpy as np
import pytest
from fx_core.ops import initializers


@pytest.mark.parametrize("name", ["zeros", "ones", "normal", "truncated_normal", "uniform"])
def test_a_number_is_a_shape_of_one_axis(name):
    ours, theirs = getattr(initializers, name), getattr(jax.nn.initializers, name)
    if name not in ("zeros", "ones"):
        ours, theirs = ours(), theirs()
    key = jax.random.key(0)
    np.testing.assert_array_equal(ours(key, 3), theirs(key, 3), strict=True)
