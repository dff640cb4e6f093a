"""Suites of layers with fx-linen, fx-nnx and fx-compress: quantized weights, and layers of fx."""

import fx_linen as nn
import fx_nnx as nnx
import jax
import jax.numpy as jnp
import pytest
from fx_core.layers import Layer, ParamSpec, input_size
from fx_core.ops import initializers
from fx_core.testing import LinenLayerSuite, NnxLayerSuite


class Plain(Layer):
    inputs: int = input_size()

    def specs(self):
        return {"kernel": ParamSpec((self.inputs, 4), initializers.lecun_normal(), ("in", "out"))}

    def apply(self, v, x):
        return x @ v.kernel


class Picky(Plain):
    def apply(self, v, x):
        return x @ v.kernel if isinstance(v.kernel, jax.Array) else jnp.zeros((*x.shape[:-1], 4))


class Bias(Plain):
    def specs(self):
        return {"bias": ParamSpec((self.inputs,), initializers.ones, ("in",))}

    def apply(self, v, x):
        return x + jnp.broadcast_to(v.bias, x.shape)


def suites(layer):
    linen = type("Linen", (LinenLayerSuite,), {"make": lambda self: nn.from_layer(layer)()})
    make = lambda self, seed: nnx.from_layer(layer)(3, rngs=nnx.Rngs(seed))  # noqa: E731
    return [linen(), type("Nnx", (NnxLayerSuite,), {"make": make})()]


@pytest.mark.parametrize("face", [0, 1])
def test_quantized_weights_are_looked_at(face):
    suites(Plain)[face].test_quantized_parameters_are_used_as_arrays_are()
    with pytest.raises(AssertionError, match="outputs differ"):
        suites(Picky)[face].test_quantized_parameters_are_used_as_arrays_are()
    with pytest.raises(pytest.skip.Exception, match="no weights of two dimensions"):
        suites(Bias)[face].test_quantized_parameters_are_used_as_arrays_are()


@pytest.mark.slow
@pytest.mark.parametrize(("name", "options", "shape"), [
    ("BatchNorm", {"num_features": 3}, (4, 3)),
    ("Dropout", {"rate": 0.5}, (4, 3)),
    ("MultiHeadAttention", {"num_heads": 1, "in_features": 3, "decode": False}, (2, 4, 3)),
])  # fmt: skip
def test_layers_of_fx_pass(name, options, shape):
    class Suite(NnxLayerSuite):
        def make(self, seed):
            return getattr(nnx, name)(**options, rngs=nnx.Rngs(seed))

        def inputs(self):
            return (jnp.linspace(-1.0, 1.0, 24)[: shape[0] * 3 * (shape[1] if len(shape) == 3 else 1)].reshape(shape),)

        def full_mask(self):
            return jnp.ones((1, 1, 1, 1) if name == "MultiHeadAttention" else (1, 1), bool)

    suite, ran = Suite(), 0
    for test in [test for test in dir(suite) if test.startswith("test_")]:
        try:
            getattr(suite, test)()
            ran += 1
        except pytest.skip.Exception:
            continue
    assert ran >= 14
