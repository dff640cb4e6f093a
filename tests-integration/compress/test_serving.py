"""Quantized networks where they are served: integers in exported programs, and little memory."""

import fx_compress
import fx_export
import fx_linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from fx_compress import Rule
from fx_core.ops.linear import dense

X = jax.random.normal(jax.random.key(0), (4, 16))


class Net(nn.Module):
    @nn.compact
    def __call__(self, x):
        return nn.Dense(16)(jnp.tanh(nn.Dense(32)(x)))


def smaller(scheme):
    return fx_compress.quantize(Net().init(jax.random.key(1), X), {"*/kernel": scheme})


@pytest.mark.parametrize(
    ("scheme", "kept", "product"),
    [
        (fx_compress.int8(), "16x32xi8", None),
        (fx_compress.int4(group=8), "16x16xui8", None),
        (
            fx_compress.int8(activations="dynamic"),
            "16x32xi8",
            "(tensor<4x16xi8>, tensor<16x32xi8>) -> tensor<4x32xi32>",
        ),
    ],
    ids=["int8", "int4", "dynamic"],
)
def test_integers_stay_integers_in_stablehlo(scheme, kept, product):
    program = jax.export.export(jax.jit(Net().apply))(smaller(scheme), X).mlir_module()
    assert kept in program
    if product is not None and jax.__version_info__ >= (0, 10, 2):
        assert product in program


@pytest.mark.parametrize(
    ("scheme", "operator"),
    [
        (fx_compress.int8(), "DequantizeLinear"),
        (fx_compress.int4(), "DequantizeLinear"),
        (fx_compress.int4(group=8, symmetric=False), "DequantizeLinear"),
        (fx_compress.nf4(group=8), "Gather"),
        (fx_compress.int8(activations="dynamic"), "MatMulInteger"),
    ],
    ids=["int8", "int4", "int4 in groups", "nf4", "dynamic"],
)
def test_onnx_files_hold_integers_and_compute_the_same(scheme, operator, tmp_path):
    onnx, runtime = pytest.importorskip("onnx"), pytest.importorskip("onnxruntime")
    small = smaller(scheme)
    path = tmp_path / "net.onnx"
    fx_export.export(path, Net(), small, [jax.ShapeDtypeStruct(X.shape, X.dtype)], format="onnx")
    file = next(iter([path] if path.is_file() else path.rglob("*.onnx")))
    graph = onnx.load(str(file)).graph
    kinds = {onnx.TensorProto.DataType.Name(tensor.data_type) for tensor in graph.initializer if len(tensor.dims) == 2}
    codes = {"int4": "INT4", "nf4": "UINT8"}.get(scheme.format, "INT8")
    assert codes in kinds
    assert [node.op_type for node in graph.node].count(operator) == 2
    options = runtime.SessionOptions()
    # In float32; by default the runtime rounds inputs of products with weights of few bits to eight bits.
    options.add_session_config_entry("session.qdq_matmulnbits_accuracy_level", "1")
    session = runtime.InferenceSession(str(file), options)
    (got,) = session.run(None, {session.get_inputs()[0].name: np.asarray(X)})
    np.testing.assert_allclose(got, Net().apply(small, X), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("scheme", [fx_compress.int8(), fx_compress.int4(group=32)], ids=["int8", "int4"])
def test_stacked_quantized_layers_are_never_floats_all_at_once(scheme):
    kernels = {"kernel": jax.random.normal(jax.random.key(0), (12, 128, 128))}
    small = fx_compress.quantize(kernels, [Rule("kernel", scheme, stacked=1)])

    def run(m, x):
        return jax.lax.scan(lambda h, kernel: (jnp.tanh(dense(h, kernel)), None), x, m["kernel"])[0]

    memory = jax.jit(run).lower(small, jnp.ones((1, 128))).compile().memory_analysis()
    layer = 4 * 128 * 128
    # Beside the model as stored there are the floats of two layers at most, of twelve.
    assert memory.temp_size_in_bytes <= 2.5 * layer
    assert small["kernel"].nbytes + memory.temp_size_in_bytes < 0.5 * 12 * layer


@pytest.mark.parametrize("scheme", [fx_compress.int8(), fx_compress.int4(group=4)], ids=["int8", "int4"])
def test_onnx_files_dequantize_kernels_of_convolutions(scheme, tmp_path):
    onnx = pytest.importorskip("onnx")
    pytest.importorskip("onnxruntime")
    module, x = nn.Conv(8, (3,)), jax.random.normal(jax.random.key(0), (2, 8, 4))
    small = fx_compress.quantize(module.init(jax.random.key(1), x), scheme)
    path = tmp_path / "net"
    # The export itself compares with the model in ONNX Runtime.
    fx_export.export(path, module, small, [jax.ShapeDtypeStruct(x.shape, x.dtype)], format="onnx")
    nodes = onnx.load(str(next(path.rglob("*.onnx")))).graph.node
    operators = [node.op_type for node in nodes]
    assert "DequantizeLinear" in operators
    assert "Cast" not in operators
    np.testing.assert_allclose(fx_export.load(path)(x), module.apply(small, x), rtol=1e-4, atol=1e-5)
