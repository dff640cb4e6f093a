"""fx-export alone: a bundle of any function of a pytree."""

import fx_export
import jax
import jax.numpy as jnp
import numpy as np
from jax.export import symbolic_shape


def test_plain_pytree_function_round_trips(tmp_path):
    variables = {"w": jnp.arange(6.0).reshape(3, 2), "b": (jnp.ones(2),)}

    def predict(variables, x):
        return jnp.tanh(x @ variables["w"] + variables["b"][0][None])

    inputs = [jax.ShapeDtypeStruct(symbolic_shape("batch, 3"), jnp.float32)]
    fx_export.export(tmp_path / "bundle", predict, variables, inputs)
    loaded = fx_export.load(tmp_path / "bundle")
    for batch in (1, 5):
        x = jnp.ones((batch, 3))
        np.testing.assert_allclose(loaded(x), predict(variables, x), rtol=1e-6)
