"""Models made for inference compute in the dtypes of the models that they are made from."""

import fx_nnx as nnx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from fx_nnx.inference import for_inference


@pytest.mark.parametrize("dtype", ["float64", "complex64", "complex128", "bfloat16"])
def test_merged_adapters_keep_wide_and_complex_kernels(dtype):
    with jax.enable_x64(True):
        init = nnx.initializers.normal(1.0)
        layer = nnx.LoRALinear(
            3,
            2,
            lora_rank=2,
            param_dtype=jnp.dtype(dtype),
            b_initializer=init,
            rngs=nnx.Rngs(0),
            lora_param_type=nnx.Param,
        )
        merged, _, _ = for_inference(layer)
        wide = jnp.promote_types(dtype, "float32")
        kernel, a, b = (
            np.asarray(v.get_value().astype(wide)) for v in (layer.kernel, layer.lora.lora_a, layer.lora.lora_b)
        )
        assert merged.kernel.get_value().dtype == dtype
        expected = jnp.asarray(kernel + a @ b).astype(dtype)
        eps = float(jnp.finfo(dtype).eps)
        np.testing.assert_allclose(
            np.asarray(merged.kernel.get_value().astype(wide)),
            np.asarray(expected.astype(wide)),
            rtol=8 * eps,
            atol=8 * eps,
        )
