"""RNG streams and metadata on their way through the bridge."""

import fx_bridge as bridge
import fx_linen as nn
import fx_nnx as nnx
import jax
import jax.numpy as jnp
import numpy as np

X = jnp.ones((2, 8))
KEY = jax.random.key(0)


class Drops(nnx.Module):
    def __init__(self, rngs):
        self.linear = nnx.Linear(8, 8, rngs=rngs)
        self.dropout = nnx.Dropout(0.5, rngs=rngs)

    def __call__(self, x):
        return self.dropout(x), self.linear(x)


def test_the_default_stream_serves_those_that_were_not_given():
    model = bridge.ToLinen(Drops)
    (dropped, out), variables = model.init_with_output({"default": KEY}, X)
    # The module is that of NNX with the key that Linen draws: two keys for the linear layer, then one for the masks.
    rngs = nnx.Rngs(default=nn.Dropout(0.5).apply({}, rngs={"default": KEY}, method=lambda m: m.make_rng("default")))
    expected = Drops(rngs)
    np.testing.assert_array_equal(variables["params"]["linear"]["kernel"], expected.linear.kernel[...])
    np.testing.assert_array_equal(dropped, expected(X)[0])
    np.testing.assert_array_equal(model.apply(variables, X, rngs={"default": KEY})[0], dropped)
    np.testing.assert_array_equal(out, expected.linear(X))


def test_nnx_modules_in_a_bridge_module_draw_from_its_streams_one_after_another():
    class Model(bridge.Module):
        @bridge.compact
        def __call__(self, x):
            drop = [bridge.nnx_in_bridge_mdl(lambda rngs: nnx.Dropout(0.5, rngs=rngs)) for _ in range(2)]
            return [layer(x) for layer in drop], self.make_rng("dropout")

    variables = Model().init({"params": KEY, "dropout": KEY}, X)
    (first, second), key = Model().apply(variables, X, rngs={"dropout": KEY})
    assert not np.array_equal(first, second)
    (also_first, also_second), also_key = Model().apply(variables, X, rngs={"dropout": KEY, "params": KEY})
    np.testing.assert_array_equal(first, also_first)
    np.testing.assert_array_equal(second, also_second)
    assert key == also_key


def test_an_nnx_layer_in_weight_norm_is_initialized():
    layer = nn.WeightNorm(bridge.ToLinen(nnx.Linear, args=(8, 3)))
    out, variables = layer.init_with_output(KEY, X)
    np.testing.assert_allclose(layer.apply(variables, X), out, rtol=1e-5, atol=1e-6)
    length = jnp.linalg.norm(variables["params"]["layer_instance"]["kernel"], axis=0, keepdims=True)
    kernel = variables["params"]["layer_instance"]["kernel"] / length
    np.testing.assert_allclose(out, X @ kernel, rtol=1e-5, atol=1e-6)


def test_partition_names_for_nnx_layers_are_those_of_linen():
    kernel_init = bridge.with_partitioning(nnx.initializers.ones, ("in", "out"))
    with nnx.use_eager_sharding(False):
        model = bridge.ToLinen(nnx.Linear, args=(8, 3), kwargs={"kernel_init": kernel_init})
        variables = model.init(KEY, X)
        assert model.apply(variables, X).shape == (2, 3)
    kernel = variables["params"]["kernel"]
    assert type(kernel) is nn.Partitioned
    assert kernel.names == ("in", "out")
    # How the variable was made is no metadata of the layer: no box without need.
    assert isinstance(variables["params"]["bias"], jax.Array)
