"""What layers keep from call to call has the same dtype after a call as before, whatever comes in."""

import fx_nnx as nnx
import jax
import jax.numpy as jnp
import pytest


def batch_norm(rngs):
    return nnx.BatchNorm(4, rngs=rngs), lambda m, x: m(x)


def spectral_norm(rngs):
    return nnx.SpectralNorm(nnx.Linear(4, 4, rngs=rngs), rngs=rngs), lambda m, x: m(x, update_stats=True)


def attention(rngs):
    layer = nnx.MultiHeadAttention(2, 4, decode=True, rngs=rngs)
    layer.init_cache((2, 3, 4))
    return layer, lambda m, x: m(x[:, :1])


def average(rngs):
    return nnx.metrics.Average(), lambda m, x: m.update(values=x)


def welford(rngs):
    return nnx.metrics.Welford(), lambda m, x: m.update(values=x)


def dtypes(model):
    return {path: variable.get_value().dtype for path, variable in nnx.state(model).flat_state()}


@pytest.mark.parametrize(("kept", "dtype"), [("bfloat16", "float32"), (None, "float64")])
@pytest.mark.parametrize("make", [batch_norm, spectral_norm, attention, average, welford])
def test_state_keeps_its_dtype(make, kept, dtype):
    with jax.enable_x64(dtype == "float64"):
        model, call = make(nnx.Rngs(0))
        if kept is not None:
            cast = jax.tree.map(
                lambda x: x.astype(kept) if jnp.issubdtype(x.dtype, jnp.floating) else x, nnx.state(model)
            )
            nnx.update(model, cast)
        before = dtypes(model)
        call(model, jnp.ones((2, 3, 4), dtype))
        assert dtypes(model) == before
