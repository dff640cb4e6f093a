"""Layers of both faces with quantized weights in ONNX files: with the operators by which runtimes know them."""

import collections
import math

import fx_compress
import fx_export
import fx_linen as nn
import fx_nnx as nnx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

onnx, runtime = pytest.importorskip("onnx"), pytest.importorskip("onnxruntime")

X = jax.random.normal(jax.random.key(0), (2, 3, 8))
INT8, INT4 = fx_compress.int8(), fx_compress.int4()
STATIC = fx_compress.int8(activations="static")
STATIC_INT4 = fx_compress.int4(activations="static")


class Logits(nn.Module):
    @nn.compact
    def __call__(self, x):
        embed = nn.Embed(16, 8)
        return embed.attend(embed(jnp.abs(x[..., 0]).astype(jnp.int32)))


def exported(path, fn, small):
    """The bundle, and how often each operator is in the graph itself."""
    # The export compares with the model in ONNX Runtime, on several inputs.
    fx_export.export(path, fn, small, [jax.ShapeDtypeStruct(X.shape, X.dtype)], format="onnx")
    graph = onnx.load(str(next(path.rglob("*.onnx")))).graph
    return fx_export.load(path), graph, collections.Counter(node.op_type for node in graph.node)


@pytest.mark.parametrize(
    ("module", "scheme", "weights"),
    [
        (nn.DenseGeneral((2, 4)), INT8, 1),
        (nn.DenseGeneral(4, axis=(-2, -1)), INT4, 1),
        (nn.MultiHeadDotProductAttention(num_heads=2), INT8, 4),
        (Logits(), INT8, 1),
        (nn.RNN(nn.LSTMCell(4)), INT8, 8),
        (nn.RNN(nn.GRUCell(4)), fx_compress.int4(group=2), 6),
    ],
    ids=["heads", "several axes", "attention", "tied", "LSTM", "GRU"],
)
def test_weights_of_linen_layers_are_dequantized(module, scheme, weights, tmp_path):
    small = fx_compress.quantize(module.init(jax.random.key(1), X), scheme)
    loaded, _, operators = exported(tmp_path / "net", lambda v, x: module.apply(v, x), small)
    # Once each, before loops and not in them.
    assert operators["DequantizeLinear"] == weights
    np.testing.assert_allclose(loaded(X), module.apply(small, X), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("module", "scheme"),
    [
        (nn.Dense(4), STATIC),
        (nn.DenseGeneral((2, 4)), STATIC),
        (nn.Conv(4, (3,)), STATIC),
        (nn.Dense(5), STATIC_INT4),
        (nn.Conv(4, (3,)), STATIC_INT4),
    ],
    ids=["dense", "heads", "conv", "four bits", "conv of four bits"],
)
def test_inputs_with_a_known_range_are_quantized_before_products(module, scheme, tmp_path):
    variables = module.init(jax.random.key(1), X)
    statistics = fx_compress.calibrate(module.apply, variables, [X], scheme)
    small = fx_compress.quantize(variables, scheme, calibration=statistics)
    loaded, graph, operators = exported(tmp_path / "net", lambda v, x: module.apply(v, x), small)
    assert (operators["QuantizeLinear"], operators["DequantizeLinear"]) == (1, 2)
    assert operators["MatMul"] + operators["Conv"] == 1
    # A product of these operators and none between them, which runtimes make one of integers.
    made = {name: node for node in graph.node for name in node.output}
    product = next(node for node in graph.node if node.op_type in ("MatMul", "Conv"))
    assert made[product.input[1]].op_type == "DequantizeLinear"
    sizes = {each.name: each.data_type for each in graph.initializer}
    unsigned = onnx.TensorProto.UINT4 if scheme is STATIC_INT4 else onnx.TensorProto.UINT8
    assert sizes[made[product.input[1]].input[0]] == unsigned
    # Beyond the range and at its ends, and with numbers that no integer stands for.
    largest = float(jnp.abs(X).max())
    edges = X.at[0, 0, :4].set(jnp.array([-largest, largest, -9 * largest, 9 * largest]))
    for inputs in (3 * X, edges, X.at[1, 2, 3].set(math.nan)):
        want = module.apply(small, inputs)
        np.testing.assert_allclose(loaded(inputs), want, rtol=1e-4, atol=1e-5)
    assert np.isnan(want).any()


def test_nnx_models_are_quantized_alike(tmp_path):
    class Net(nnx.Module):
        def __init__(self, rngs):
            self.attention = nnx.MultiHeadAttention(2, 8, decode=False, rngs=rngs)
            self.rnn = nnx.RNN(nnx.GRUCell(8, 4, rngs=rngs))

        def __call__(self, x):
            return self.rnn(self.attention(x))

    model = Net(nnx.Rngs(0))
    rules = {"attention/*": STATIC, "rnn/*": INT8}
    statistics = fx_compress.calibrate(lambda model, x: model(x), model, [X], rules)
    small = fx_compress.quantize(model, rules, calibration=statistics)
    graphdef, params, rest = nnx.split(small, nnx.Param, ...)
    pure = nnx.to_pure_dict(params)
    fn = lambda v, x: nnx.merge(graphdef, v, rest)(x)  # noqa: E731
    loaded, _, operators = exported(tmp_path / "net", fn, pure)
    assert operators["QuantizeLinear"] == 2  # of the input, which three projections share, and before the last
    np.testing.assert_allclose(loaded(X), fn(pure, X), rtol=1e-4, atol=1e-5)
