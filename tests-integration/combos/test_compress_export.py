"""A quantized network in an inference bundle, in which integers stay integers."""

import fx_compress
import fx_export
import jax
import jax.numpy as jnp
import numpy as np
from fx_core.ops.linear import dense


def test_a_quantized_network_is_exported(tmp_path):
    variables = {"kernel": jnp.linspace(-1, 1, 4096).reshape(64, 64)}
    x = jnp.linspace(-1, 1, 128).reshape(2, 64)

    def predict(variables, x):
        return dense(x, variables["kernel"])

    small = fx_compress.quantize(variables, fx_compress.int4(group=32))
    fx_export.export(tmp_path / "small", predict, small, [jax.ShapeDtypeStruct(x.shape, x.dtype)])
    fx_export.export(tmp_path / "large", predict, variables, [jax.ShapeDtypeStruct(x.shape, x.dtype)])
    np.testing.assert_allclose(fx_export.load(tmp_path / "small")(x), predict(small, x), rtol=1e-5, atol=1e-5)
    sizes = [next((tmp_path / name).rglob("weights.bin")).stat().st_size for name in ("small", "large")]
    assert sizes[0] < 0.17 * sizes[1]
