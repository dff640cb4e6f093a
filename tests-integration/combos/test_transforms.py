"""fx-core and fx-transforms: lifted transforms of functions of a scope."""

import jax
import jax.numpy as jnp
import numpy as np
from fx_core import apply, init
from fx_transforms import lift


def layer(scope, x):
    kernel = scope.param("kernel", jax.nn.initializers.normal(), (x.shape[-1], x.shape[-1]))
    return jnp.tanh(x @ kernel)


def test_scan_over_layers_equals_the_loop():
    def stacked(scope, x):
        def body(scope, x, _):
            return layer(scope, x), None

        return lift.scan(body, variable_axes={"params": 0}, split_rngs={"params": True}, length=3)(scope, x, None)[0]

    x = jnp.ones((2, 4))
    y, variables = init(stacked)(jax.random.key(0), x)
    kernels = variables["params"]["kernel"]
    assert kernels.shape == (3, 4, 4)
    expected = x
    for kernel in kernels:
        expected = jnp.tanh(expected @ kernel)
    np.testing.assert_allclose(y, expected, rtol=1e-6, atol=1e-10)
    np.testing.assert_allclose(apply(stacked)(variables, x), expected, rtol=1e-6, atol=1e-10)


def test_vmap_gives_each_row_its_own_parameters():
    def ensemble(scope, x):
        return lift.vmap(layer, variable_axes={"params": 0}, split_rngs={"params": True})(scope, x)

    x = jnp.ones((3, 4))
    y, variables = init(ensemble)(jax.random.key(0), x)
    kernels = variables["params"]["kernel"]
    assert kernels.shape == (3, 4, 4)
    assert not np.allclose(kernels[0], kernels[1])
    np.testing.assert_allclose(y, jnp.tanh(jnp.einsum("bi,bij->bj", x, kernels)), rtol=1e-6)
