"""fx-compress alone: any function of a pytree with smaller weights."""

import fx_compress
import jax
import jax.numpy as jnp
import numpy as np
from fx_core.ops.linear import dense


def test_a_plain_pytree_is_quantized_calibrated_and_pruned():
    variables = {"kernel": jnp.linspace(-1, 1, 64).reshape(16, 4), "bias": jnp.ones(4)}
    x = jnp.linspace(-1, 1, 32).reshape(2, 16)

    def predict(variables, x):
        return dense(x, variables["kernel"], variables["bias"])

    rules = {"kernel": fx_compress.int8(activations="static")}
    found = fx_compress.calibrate(predict, variables, [x], rules)
    small = fx_compress.quantize(variables, rules, calibration=found)
    np.testing.assert_allclose(jax.jit(predict)(small, x), predict(variables, x), atol=0.05)
    assert fx_compress.compare(variables, small).ratio < 0.4
    masks = fx_compress.make_masks(variables, fx_compress.NofM(2, 4))
    assert float((fx_compress.apply_masks(variables, masks)["kernel"] == 0).mean()) == 0.5
