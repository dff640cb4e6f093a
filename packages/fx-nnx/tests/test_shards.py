"""Layers whose weights are cut into shards, as inside of `jax.shard_map`: what is there counts, not what was."""

import fx_nnx as nnx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from fx_nnx.errors import ShapeMismatchError

X = jnp.sin(jnp.arange(2 * 6 * 4.0)).reshape(2, 6, 4)
rngs = lambda: nnx.Rngs(0)  # noqa: E731


def half(array, axis, i):
    return jnp.split(array, 2, axis)[i]


def shard(layer, i, **axes):
    """The i-th of two shards of a layer: its weights cut along the axes given by name; None leaves one as it is."""
    part = nnx.clone(layer)
    for path, variable in nnx.state(part).flat_state():
        axis = axes[path[-1]]
        if axis is not None:
            variable.set_value(half(variable.get_value(), axis, i))
    return part


def of_inputs(layer, x, *, axis=-1, **axes):
    """The layer on shards of the features: what a sum over devices gives."""
    return sum(shard(layer, i, **axes)(half(x, axis, i)) for i in range(2))


def of_features(layer, x, **axes):
    """The layer with shards of weights and input that belong to each other: results side by side."""
    return jnp.concatenate([shard(layer, i, **axes)(half(x, -1, i)) for i in range(2)], -1)


def of_outputs(layer, x, **axes):
    """The layer with shards of its outputs: results side by side."""
    return jnp.concatenate([shard(layer, i, **axes)(x) for i in range(2)], -1)


CUT = {
    "linear": (lambda: nnx.Linear(4, 3, use_bias=False, rngs=rngs()), of_inputs, {"kernel": 0}),
    "linear, outputs": (lambda: nnx.Linear(4, 6, rngs=rngs()), of_outputs, {"kernel": 1, "bias": 0}),
    "general": (lambda: nnx.LinearGeneral(4, (3, 2), use_bias=False, rngs=rngs()), of_inputs, {"kernel": 0}),
    "general, outputs": (lambda: nnx.LinearGeneral(4, (3, 4), rngs=rngs()), of_outputs, {"kernel": 2, "bias": 1}),
    "einsum": (lambda: nnx.Einsum("nta,ab->ntb", (4, 3), rngs=rngs()), of_inputs, {"kernel": 0}),
    "lora": (lambda: nnx.LoRA(4, 2, 3, b_initializer=nnx.initializers.ones, rngs=rngs()), of_inputs,
             {"lora_a": 0, "lora_b": None}),
    "conv": (lambda: nnx.Conv(4, 3, 3, use_bias=False, rngs=rngs()), of_inputs, {"kernel": 1}),
    "conv, outputs": (lambda: nnx.Conv(4, 6, 3, rngs=rngs()), of_outputs, {"kernel": 2, "bias": 0}),
    "conv, groups": (lambda: nnx.Conv(4, 4, 3, feature_group_count=1, use_bias=False, rngs=rngs()), of_inputs,
                     {"kernel": 1}),
    "transposed": (lambda: nnx.ConvTranspose(4, 3, 3, use_bias=False, rngs=rngs()), of_inputs, {"kernel": 1}),
    "transposed kernel": (lambda: nnx.ConvTranspose(4, 3, 3, use_bias=False, transpose_kernel=True, rngs=rngs()),
                          of_inputs, {"kernel": 2}),
    "batch norm": (lambda: nnx.BatchNorm(4, rngs=rngs()), of_features, {"mean": 0, "var": 0, "scale": 0, "bias": 0}),
    "instance norm": (lambda: nnx.InstanceNorm(4, rngs=rngs()), of_features, {"scale": 0, "bias": 0}),
    "group norm": (lambda: nnx.GroupNorm(4, num_groups=2, rngs=rngs()), of_features, {"scale": 0, "bias": 0}),
}  # fmt: skip


@pytest.mark.parametrize("name", CUT)
def test_shards_of_weights_meet_shards_of_inputs(name):
    make, apply, axes = CUT[name]
    layer = make()
    np.testing.assert_allclose(apply(nnx.clone(layer), X, **axes), layer(X), rtol=1e-5, atol=1e-5)


def test_attention_with_half_of_the_heads():
    layer = nnx.MultiHeadAttention(
        4, 4, qkv_features=8, decode=False, out_bias_init=nnx.initializers.zeros, rngs=rngs()
    )
    total = 0
    for i in range(2):
        part = nnx.clone(layer)
        for name in ("query", "key", "value"):
            projection = getattr(part, name)
            projection.kernel.set_value(half(projection.kernel[...], 1, i))
            projection.bias.set_value(half(projection.bias[...], 0, i))
        part.out.kernel.set_value(half(part.out.kernel[...], 0, i))
        total = total + part(X)
    np.testing.assert_allclose(total, layer(X), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("kind", [nnx.LSTMCell, nnx.OptimizedLSTMCell, nnx.GRUCell, nnx.SimpleCell])
def test_cells_take_what_their_kernels_take(kind):
    cell = kind(4, 3, rngs=rngs())
    carry = cell.initialize_carry((2, 4), rngs())
    for path, variable in nnx.state(cell).flat_state():
        if path[0] in ("ii", "if_", "ig", "io", "dense_i") and path[-1] == "kernel":
            variable.set_value(half(variable[...], 0, 0))
    assert cell(carry, X[:, 0, :2])[1].shape == (2, 3)
    with pytest.raises(ShapeMismatchError, match="2 features"):
        cell(carry, X[:, 0])


def test_logits_of_half_a_table():
    table = nnx.Embed(5, 4, rngs=rngs())
    halves = [shard(table, i, embedding=1).attend(half(X, -1, i)) for i in range(2)]
    np.testing.assert_allclose(sum(halves), table.attend(X), rtol=1e-5)


def test_linear_inside_of_shard_map():
    mesh = jax.make_mesh((1,), ("m",), axis_types=(jax.sharding.AxisType.Auto,))
    layer = nnx.Linear(4, 3, use_bias=False, rngs=rngs())
    spec = jax.sharding.PartitionSpec
    specs = nnx.StateSharding({nnx.Param: spec("m", None)})
    part = lambda layer, x: jax.lax.psum(layer(x), "m")  # noqa: E731
    run = nnx.shard_map(part, mesh=mesh, in_specs=(specs, spec(None, None, "m")), out_specs=spec())
    np.testing.assert_allclose(run(layer, X), layer(X), rtol=1e-5)
