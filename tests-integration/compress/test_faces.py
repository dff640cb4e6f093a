"""Quantized weights in the layers of both faces, in checkpoints, in lifted transforms, under LoRA, and exported."""

import fx_ckpt
import fx_compress
import fx_export
import fx_linen as nn
import fx_nnx as nnx
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from fx_compress import QuantizedArray, Rule

INT8, DYNAMIC = fx_compress.int8(), fx_compress.int8(activations="dynamic")
X, IDS = jnp.linspace(-1.0, 1.0, 80).reshape(2, 5, 8), jnp.array([[0, 3, 8], [1, 1, 2]])

LINEN = {
    "dense": (lambda: nn.Dense(8), X),
    "general": (lambda: nn.DenseGeneral((2, 4)), X),
    "einsum": (lambda: nn.Einsum((8, 4), "abc,cd->abd"), X),
    "conv": (lambda: nn.Conv(8, (3,)), X),
    "transposed": (lambda: nn.ConvTranspose(8, (3,)), X),
    "local": (lambda: nn.ConvLocal(8, (3,)), X),
    "embed": (lambda: nn.Embed(9, 8), IDS),
    "attention": (lambda: nn.MultiHeadDotProductAttention(2), X),
    "lstm": (lambda: nn.RNN(nn.LSTMCell(8)), X),
    "fused lstm": (lambda: nn.RNN(nn.OptimizedLSTMCell(8)), X),
    "gru": (lambda: nn.RNN(nn.GRUCell(8)), X),
}
NNX = {
    "linear": (lambda r: nnx.Linear(8, 8, rngs=r), X),
    "general": (lambda r: nnx.LinearGeneral(8, (2, 4), rngs=r), X),
    "einsum": (lambda r: nnx.Einsum("abc,cd->abd", (8, 4), rngs=r), X),
    "conv": (lambda r: nnx.Conv(8, 8, (3,), rngs=r), X),
    "transposed": (lambda r: nnx.ConvTranspose(8, 8, (3,), rngs=r), X),
    "embed": (lambda r: nnx.Embed(9, 8, rngs=r), IDS),
    "attention": (lambda r: nnx.MultiHeadAttention(2, 8, decode=False, rngs=r), X),
    "lstm": (lambda r: nnx.RNN(nnx.LSTMCell(8, 8, rngs=r)), X),
    "fused lstm": (lambda r: nnx.RNN(nnx.OptimizedLSTMCell(8, 8, rngs=r)), X),
    "gru": (lambda r: nnx.RNN(nnx.GRUCell(8, 8, rngs=r)), X),
}


def close(got, want, rtol=1e-4):
    np.testing.assert_allclose(got, want, rtol=rtol, atol=rtol * float(jnp.abs(want).max()))


@pytest.mark.parametrize("name", LINEN)
def test_linen_layers_multiply_quantized_weights(name):
    make, x = LINEN[name]
    variables = make().init(jax.random.key(0), x)
    small = fx_compress.quantize(variables, INT8)
    plain = fx_compress.dequantize(small)
    got = jax.jit(make().apply)(small, x)
    close(got, make().apply(plain, x))
    assert any(isinstance(leaf, QuantizedArray) for leaf in jax.tree.leaves(small, is_leaf=is_quantized))


@pytest.mark.parametrize("layer", [nn.WeightNorm, nn.SpectralNorm])
def test_norms_of_weights_take_quantized_weights_of_linen(layer):
    class Normed(nn.Module):
        @nn.compact
        def __call__(self, x):
            options = {} if layer is nn.WeightNorm else {"update_stats": False}
            return layer(nn.Dense(4))(x, **options)

    variables = Normed().init(jax.random.key(0), X)
    small = fx_compress.quantize(variables, {"*Dense_0/kernel": INT8})
    close(Normed().apply(small, X), Normed().apply(fx_compress.dequantize(small), X))


@pytest.mark.parametrize("name", NNX)
def test_nnx_layers_multiply_quantized_weights(name):
    make, x = NNX[name]
    model = make(nnx.Rngs(0))
    before = model(x)
    small = fx_compress.quantize(model, INT8)
    assert type(small) is type(model)
    got = nnx.jit(lambda m, x: m(x))(small, x)
    close(got, fx_compress.dequantize(small)(x))
    np.testing.assert_array_equal(model(x), before)
    graphdef, state = nnx.split(small)
    close(nnx.merge(graphdef, state)(x), got)
    close(nnx.clone(small)(x), got)


@pytest.mark.parametrize("name", sorted(LINEN.keys() - {"embed", "transposed", "local"}))
def test_linen_layers_multiply_integers(name):
    make, x = LINEN[name]
    rules = [Rule("*/query/kernel", DYNAMIC, axes=(0,)), Rule("*", DYNAMIC)] if name == "attention" else DYNAMIC
    small = fx_compress.quantize(make().init(jax.random.key(0), x), rules)
    assert "preferred_element_type=int32" in str(jax.make_jaxpr(make().apply)(small, x))


@pytest.mark.parametrize("name", sorted(NNX.keys() - {"embed", "transposed"}))
def test_nnx_layers_multiply_integers(name):
    make, x = NNX[name]
    graphdef, state = nnx.split(fx_compress.quantize(make(nnx.Rngs(0)), DYNAMIC))
    program = jax.make_jaxpr(lambda state, x: nnx.merge(graphdef, state)(x))(state, x)
    assert "preferred_element_type=int32" in str(program)


def is_quantized(x):
    return isinstance(x, QuantizedArray)


class Stack(nn.Module):
    @nn.compact
    def __call__(self, x):
        body = nn.scan(
            lambda module, x, _: (module(x), None), variable_axes={"params": 0}, split_rngs={"params": True}, length=3
        )
        x, _ = body(nn.Dense(8, name="layers"), x, None)
        return nn.remat(nn.Dense)(8, name="head")(x)


@pytest.mark.parametrize(
    "scheme", [INT8, fx_compress.int4(group=4), DYNAMIC], ids=lambda s: f"{s.format}{s.activations}"
)
def test_stacked_linen_layers_are_scanned(scheme):
    variables = Stack().init(jax.random.key(0), X)
    small = fx_compress.quantize(variables, [Rule("*/layers/kernel", scheme, stacked=1), Rule("*/head/kernel", scheme)])
    assert small["params"]["layers"]["kernel"].scale.shape[0] == 3
    close(Stack().apply(small, X), Stack().apply(fx_compress.dequantize(small), X), 0.05 if scheme is DYNAMIC else 1e-4)


def test_stacked_nnx_layers_are_scanned():
    @nnx.vmap(in_axes=0, out_axes=0)
    def make(key):
        return nnx.Linear(8, 8, rngs=nnx.Rngs(key))

    stack = make(jax.random.split(jax.random.key(0), 3))
    small = fx_compress.quantize(stack, [Rule("kernel", INT8, stacked=1)])

    @nnx.scan(in_axes=(0, nnx.Carry), out_axes=nnx.Carry)
    def run(layer, x):
        return layer(x)

    close(run(small, X), run(fx_compress.dequantize(small), X))


def test_rules_name_classes_of_nnx_layers():
    class Net(nnx.Module):
        def __init__(self, rngs):
            self.conv, self.head = nnx.Conv(8, 8, (3,), rngs=rngs), nnx.Linear(8, 4, rngs=rngs)
            self.tied = self.head.kernel

    net = Net(nnx.Rngs(0))
    small = fx_compress.quantize(net, {nnx.Linear: INT8})
    assert is_quantized(small.head.kernel.get_value())
    assert not is_quantized(small.conv.kernel.get_value())
    assert small.tied is small.head.kernel


@pytest.mark.parametrize("backend", ["msgpack", "safetensors", "orbax"])
@pytest.mark.parametrize(
    "scheme", [INT8, fx_compress.int4(symmetric=False), fx_compress.nf4(group=4), fx_compress.fp8()]
)
def test_checkpoints_hold_quantized_weights_exactly(tmp_path, backend, scheme):
    variables = nn.Dense(8).init(jax.random.key(0), X)
    small = fx_compress.quantize(variables, scheme)
    fx_ckpt.save(tmp_path / "checkpoint", small, backend=backend)
    template = jax.eval_shape(lambda v: fx_compress.quantize(v, scheme), variables)
    back = fx_ckpt.restore(tmp_path / "checkpoint", template)
    assert jax.tree.structure(back) == jax.tree.structure(small)
    for got, want in zip(jax.tree.leaves(back), jax.tree.leaves(small), strict=True):
        assert got.dtype == want.dtype
        np.testing.assert_array_equal(np.asarray(got).view(np.uint8), np.asarray(want).view(np.uint8))


def test_nnx_states_with_quantized_weights_are_checkpointed(tmp_path):
    small = fx_compress.quantize(nnx.Linear(8, 8, rngs=nnx.Rngs(0)), INT8)
    fx_ckpt.save(tmp_path / "checkpoint", nnx.state(small))
    other = fx_compress.quantize(nnx.Linear(8, 8, rngs=nnx.Rngs(1)), INT8)
    nnx.update(other, fx_ckpt.restore(tmp_path / "checkpoint", nnx.state(other)))
    np.testing.assert_array_equal(other(X), small(X))


def test_adapters_train_on_a_quantized_base():
    base = fx_compress.quantize(nnx.Linear(8, 4, rngs=nnx.Rngs(0)), fx_compress.nf4(group=4))
    model = nnx.LoRA(8, 2, 4, base_module=base, rngs=nnx.Rngs(1))
    optimizer = nnx.Optimizer(model, optax.adam(0.05), wrt=nnx.LoRAParam)
    target = jnp.sin(3 * X[..., :4])

    @nnx.jit
    def step(model, optimizer):
        loss, grads = nnx.value_and_grad(
            lambda m: ((m(X) - target) ** 2).mean(), argnums=nnx.DiffState(0, nnx.LoRAParam)
        )(model)
        optimizer.update(model, grads)
        return loss

    codes = np.asarray(base.kernel.get_value().values)
    losses = [float(step(model, optimizer)) for _ in range(30)]
    assert losses[-1] < 0.8 * losses[0]
    np.testing.assert_array_equal(base.kernel.get_value().values, codes)


def test_exported_programs_keep_integers(tmp_path):
    variables = nn.Dense(8).init(jax.random.key(0), X)
    small = fx_compress.quantize(variables, DYNAMIC)
    fx_export.export(tmp_path / "bundle", nn.Dense(8).apply, small, [jax.ShapeDtypeStruct(X.shape, X.dtype)])
    close(fx_export.load(tmp_path / "bundle")(X), nn.Dense(8).apply(small, X))


def test_summaries_count_bytes_as_stored():
    small = fx_compress.quantize(nnx.Linear(8, 8, rngs=nnx.Rngs(0)), INT8)
    # 64 bytes of codes, and 8 float32 scales and biases each.
    assert "Total Parameters: 72 (128 B)" in nnx.tabulate(small, X)


@pytest.mark.parametrize(
    "scheme",
    [
        fx_compress.int8(activations="dynamic"),
        fx_compress.int4(group=4, symmetric=False),
        fx_compress.nf4(group=4),
        fx_compress.fp8(),
    ],
    ids=lambda scheme: scheme.format,
)
def test_a_masked_convolution_keeps_its_codes(scheme):
    mask = np.asarray(jax.random.bernoulli(jax.random.key(1), 0.5, (3, 4, 6)), np.float32)
    x = jax.random.normal(jax.random.key(2), (2, 7, 4))
    layer = nnx.Conv(4, 6, (3,), mask=mask, rngs=nnx.Rngs(0))
    small = fx_compress.quantize(layer, scheme)
    node = small.kernel.get_value()
    alone = nnx.Conv(4, 6, (3,), rngs=nnx.Rngs(0))
    alone.kernel.set_value(node.masked(mask))
    assert node.masked(mask).format == scheme.format
    np.testing.assert_array_equal(node.masked(mask).materialize(), node.materialize() * mask)
    np.testing.assert_allclose(small(x), alone(x), rtol=1e-5, atol=1e-5)
    linen = nn.Conv(6, (3,), mask=mask).apply({"params": {"kernel": node, "bias": jnp.zeros(6)}}, x)
    np.testing.assert_allclose(linen, small(x), rtol=1e-5, atol=1e-5)
    # Other numbers than 0 and 1 are multiplied as floats.
    np.testing.assert_array_equal(node.masked(mask / 2), node.materialize() * mask / 2)
    got = jax.jit(lambda mask: node.masked(mask))(mask)
    np.testing.assert_allclose(got, node.materialize() * mask, rtol=1e-6)


def test_masked_convolutions_are_observed():
    rules = {"kernel": fx_compress.int8(activations="static")}
    model = nnx.Conv(4, 6, (3,), mask=np.ones((3, 4, 6)), rngs=nnx.Rngs(0))
    model = fx_compress.with_observers(model, rules)
    fx_compress.observe(model, rules)(jnp.full((2, 7, 4), -3.0))
    assert fx_compress.ranges(model)["kernel"][()].largest == 3.0
