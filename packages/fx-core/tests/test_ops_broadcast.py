import jax
import jax.numpy as jnp
import numpy as np
import pytest
from fx_core.ops.broadcast import along
from jax import lax

X = jnp.arange(24.0).reshape(2, 3, 4)


@pytest.mark.parametrize(
    ("shape", "missing"), [((4,), (0, 1)), ((3, 4), (0,)), ((2, 4), (1,)), ((2,), (1, 2)), ((2, 3, 4), ())]
)
@pytest.mark.parametrize("mode", ["allow", "warn", "raise"])
def test_the_program_is_that_of_expanded_axes(shape, missing, mode):
    values = jnp.arange(float(np.prod(shape))).reshape(shape)
    expanded = jax.make_jaxpr(lambda x, v: x + lax.expand_dims(v, missing))(X, values)
    with jax.numpy_rank_promotion(mode):
        made = jax.make_jaxpr(lambda x, v: x + along(v, missing))(X, values)
        out = X + along(values, missing)
    assert str(made) == str(expanded)
    np.testing.assert_array_equal(out, X + lax.expand_dims(values, missing))


def test_jax_adds_leading_axes_where_it_may():
    bias = jnp.ones(4)
    with jax.numpy_rank_promotion("allow"):
        assert along(bias, range(2)) is bias
        assert along(bias, [1, 2]).shape == (4, 1, 1)
    with jax.numpy_rank_promotion("raise"):
        assert along(bias, range(2)).shape == (1, 1, 4)
