"""ONNX models as files: names, free sizes, fused layers, large weights, and what cannot be translated."""

import json

import fx_export
import jax
import jax.numpy as jnp
import numpy as np
import onnx
import pytest
from fx_core.plugins import OnnxPrimitiveEntry, hookimpl, registry
from fx_export.errors import ArgumentTypeError, BundleError, UncoveredPrimitivesError, UnsupportedProgramError
from fx_export.onnx.walk import module_path

KERNEL = np.linspace(-1, 1, 32, dtype=np.float32).reshape(8, 4)


def operators(path):
    return [node.op_type for node in onnx.load(path / "data/model.onnx").graph.node]


def export(tmp_path, fn, variables, inputs, **options):
    return fx_export.export(tmp_path / "net", fn, variables, inputs, format="onnx", **options)


def test_initializers_inputs_and_outputs_have_names(tmp_path):
    def fn(variables, x):
        return {"y": (x @ variables["dense"]["kernel"], x)}

    path = export(tmp_path, fn, {"dense": {"kernel": KERNEL}}, ["float32[batch, 8]"], metadata={"of": "us"})
    model = onnx.load(path / "data/model.onnx")
    assert [i.name for i in model.graph.initializer] == ["dense/kernel"]
    assert [i.name for i in model.graph.input] == ["input"]
    assert [o.name for o in model.graph.output] == ["output/y/0", "output/y/1"]
    assert model.graph.input[0].type.tensor_type.shape.dim[0].dim_param == "batch"
    assert {p.key: p.value for p in model.metadata_props} == {"of": "us"}
    assert model.opset_import[0].version == 23
    names = export(tmp_path / "2", fn, {"dense": {"kernel": KERNEL}}, ["float32[2, 8]"], input_names=["a"],
                   output_names=["b", "c"], opset=18)  # fmt: skip
    model = onnx.load(names / "data/model.onnx")
    assert [v.name for v in [*model.graph.input, *model.graph.output]] == ["a", "b", "c"]
    assert model.opset_import[0].version == 18


def test_texts_name_inputs(tmp_path):
    path = export(tmp_path, lambda w, x, y: x + y, {}, ["image:float32[n]", "mask:float32[n]"])
    assert [v.name for v in onnx.load(path / "data/model.onnx").graph.input] == ["image", "mask"]


def layers(w, x):
    mean = x.mean(-1, keepdims=True)
    x = (x - mean) * jax.lax.rsqrt(((x - mean) ** 2).mean(-1, keepdims=True) + 1e-6) * w["scale"][None] + w["bias"][
        None
    ]
    x = x * (jax.lax.rsqrt((x * x).mean(-1, keepdims=True) + 1e-6) * w["scale"][None])
    x = (x - w["mean"][None]) * (jax.lax.rsqrt(w["var"][None] + 1e-5) * w["scale"][None]) + w["bias"][None]
    return jax.nn.softmax(jax.nn.gelu(jax.nn.gelu(x), approximate=False))


def test_layers_are_single_operators_unless_that_is_switched_off(tmp_path):
    w = {name: np.linspace(0.5, 2, 8, dtype=np.float32) for name in ("scale", "bias", "mean", "var")}
    fused = export(tmp_path, layers, w, ["float32[batch, 8]"])
    wanted = ["LayerNormalization", "RMSNormalization", "BatchNormalization", "Gelu", "Gelu", "Softmax"]
    assert operators(fused) == wanted
    written_out = export(tmp_path / "2", layers, w, ["float32[batch, 8]"], fuse=False)
    assert not set(wanted) & set(operators(written_out))
    older = operators(export(tmp_path / "3", layers, w, ["float32[batch, 8]"], opset=18))
    assert "LayerNormalization" in older
    assert not {"Gelu", "RMSNormalization"} & set(older)


def test_what_only_looks_like_a_layer_stays_as_it_is(tmp_path):
    def fn(w, x):
        total = jnp.exp(x - x.max(0, keepdims=True))
        return total / total.sum(1, keepdims=True), x.sum(-1, keepdims=True) / 7.0

    assert not {"Softmax", "ReduceMean"} & set(operators(export(tmp_path, fn, {}, ["float32[3, 8]"])))


def test_transposes_and_broadcasts_cancel(tmp_path):
    def block(w, x):
        for _ in range(3):
            dims = ("NHWC", "HWIO", "NHWC")
            x = jax.lax.conv_general_dilated(x, w["kernel"], (1, 1), "SAME", dimension_numbers=dims)
            x = jax.nn.relu(x + w["bias"][None, None, None])
        return x

    w = {"kernel": np.ones((3, 3, 4, 4), np.float32), "bias": np.ones(4, np.float32)}
    found = operators(export(tmp_path, block, w, ["float32[batch, 6, 6, 4]"]))
    # One each for the image, the kernel, and the result; nothing between the convolutions.
    assert found.count("Transpose") == 3
    assert found.count("Expand") == 0


def test_several_free_sizes(tmp_path):
    def fn(w, x, y):
        flat = x.reshape(-1, 4) @ w.T
        spread = jnp.broadcast_to(y[:, None], (y.shape[0], x.shape[1]))
        mean = x.mean() + jnp.arange(x.shape[1]).sum()
        return flat.reshape(x.shape[0], x.shape[1], 8), spread, mean, jnp.concatenate([x, x], 1)[:, :-1]

    path = export(tmp_path, fn, KERNEL, ["float32[b, 2*n+1, 4]", "float32[b]"])
    assert len(fx_export.load(path).verification["trials"]) == 9


def test_padding_by_free_sizes(tmp_path):
    kernel = np.linspace(-1, 1, 3 * 2 * 4, dtype=np.float32).reshape(3, 1, 2, 4)

    def fn(w, x):
        axes = ("NHWC", "HWIO", "NHWC")
        window = ((1, 3, 2, 1), (1, 2, 2, 1), "SAME")
        size = x.shape[1]
        return {
            "conv": jax.lax.conv_general_dilated(x, w, (2, 1), "SAME", dimension_numbers=axes),
            "max": jax.lax.reduce_window(x, -jnp.inf, jax.lax.max, *window),
            "sum": jax.lax.reduce_window(x, 0.0, jax.lax.add, *window),
            "cut or longer": jax.lax.pad(x, 0.0, [(0, 0, 0), (2 - size, size, 0), (0, 0, 0), (0, 0, 0)]),
        }

    sizes = {"height": [1, 4], "width": [3, 6]}
    path = export(tmp_path, fn, kernel, ["float32[2, height, width, 2]"], verify_sizes=sizes)
    assert len(fx_export.load(path).verification["trials"]) == 12


@pytest.mark.parametrize("height", [2, 3, 4, 5])
def test_windows_that_are_longer_than_a_free_size_give_nothing(tmp_path, height):
    def fn(_, x):
        window = ((1, 4, 2, 1), (1, 3, 2, 1), "VALID")
        kinds = {"max": (-jnp.inf, jax.lax.max), "min": (jnp.inf, jax.lax.min), "sum": (0.0, jax.lax.add)}
        return {name: jax.lax.reduce_window(x, *kind, *window) for name, kind in kinds.items()}

    path = export(tmp_path, fn, {}, ["float32[2, height, width, 3]"], verify=False)
    x = np.random.default_rng(0).normal(size=(2, height, 5, 3)).astype(np.float32)
    got, expected = fx_export.load(path)(x), fn({}, x)
    assert expected["max"].shape == (2, height >= 4, 2, 3)
    for name, values in expected.items():
        assert got[name].shape == values.shape
        np.testing.assert_allclose(got[name], values, rtol=1e-5, atol=1e-6)


def test_bfloat16_goes_in_and_out(tmp_path):
    x = jnp.ones((2, 8), jnp.bfloat16)
    path = export(tmp_path, lambda w, x: x @ w, KERNEL.astype(jnp.bfloat16), ["bfloat16[batch, 8]"])
    assert fx_export.load(path)(x).dtype == jnp.bfloat16
    model = onnx.load(path / "data/model.onnx")
    assert model.graph.initializer[0].data_type == onnx.TensorProto.BFLOAT16


def test_integers_stay_integers(tmp_path):
    def fn(w, x):
        return x @ (w["values"].astype(jnp.float32) * w["scale"])

    w = {"values": np.arange(32, dtype=np.int8).reshape(8, 4), "scale": np.float32(0.1)}
    path = export(tmp_path, fn, w, ["float32[batch, 8]"])
    kinds = {i.name: i.data_type for i in onnx.load(path / "data/model.onnx").graph.initializer}
    assert kinds["values"] == onnx.TensorProto.INT8


def test_large_weights_lie_beside_the_model(tmp_path):
    kernel = np.ones((64, 64), np.float32)
    path = export(tmp_path, lambda w, x: x @ w["kernel"], {"kernel": kernel}, ["float32[batch, 64]"], external_bytes=0)
    assert (path / "data/weights.bin").stat().st_size == kernel.nbytes
    assert (path / "data/model.onnx").stat().st_size < 1000
    assert fx_export.load(path)(np.ones((2, 64), np.float32))[1, 0] == 64


def test_sums_of_64_bits_are_exact(tmp_path):
    """ONNX Runtime adds up 64-bit integers as float64, which has 53 bits."""
    numbers = np.array([[[2**62 + 1, 5], [2**62, -1], [2**62 + 2, 3]], [[7, 2**53 + 1], [1, 1], [0, -1]]])

    def fn(_, x):
        return {"one": x.sum(1), "two": x.sum((0, 2)), "unsigned": x.astype(np.uint64).sum(-1), "none": x.sum(())}

    with jax.enable_x64(True):
        path = export(tmp_path, fn, {}, ["int64[batch, n, 2]"])
        results, expected = fx_export.load(path)(numbers), jax.device_get(fn({}, jnp.asarray(numbers)))
    for name, wanted in expected.items():
        np.testing.assert_array_equal(results[name], wanted, strict=True)


def test_places_beyond_those_of_64_signed_bits_are_after_the_end(tmp_path):
    table, places = np.arange(8.0), np.array([1, 8, 2**63 - 1, 2**63, 2**64 - 1], np.uint64)

    def fn(table, places):
        parts = [jax.lax.dynamic_slice(table, (places[n],), (2,)) for n in range(5)]
        new = [jax.lax.dynamic_update_slice(table, parts[0] - 9, (places[n],)) for n in range(5)]
        return jnp.take(table, places, mode="clip"), table.at[places].add(1.0), parts, new

    with jax.enable_x64(True):
        path = export(tmp_path, fn, table, [places])
        results, expected = fx_export.load(path)(places), jax.device_get(fn(jnp.asarray(table), jnp.asarray(places)))
    for one, other in zip(jax.tree.leaves(results), jax.tree.leaves(expected), strict=True):
        np.testing.assert_array_equal(one, other, strict=True)


def test_shifts_and_choices_of_64_bits(tmp_path):
    """ONNX Runtime chooses among no unsigned ones."""
    numbers = np.array([2**62 + 1, -(2**62) - 1, -1, 0, 2**53 + 1])

    def fn(_, x, places):
        unsigned = x.astype(np.uint64)
        return x >> 3, x >> places, unsigned % np.uint64(7), jnp.where(x > 0, unsigned, ~unsigned)

    with jax.enable_x64(True):
        given = numbers, np.array([0, 1, 63, 64, 5])
        path = export(tmp_path, fn, {}, given)
        results, expected = fx_export.load(path)(*given), jax.device_get(fn({}, *map(jnp.asarray, given)))
    for one, other in zip(results, expected, strict=True):
        np.testing.assert_array_equal(one, other, strict=True)


def test_all_primitives_without_translation_are_listed_with_module_and_line(tmp_path):
    def fn(w, x):
        with jax.named_scope("Encoder/Block_0"):
            y = jax.lax.lgamma(x)
        return jnp.real(jnp.fft.fft(y)), jax.lax.digamma(x)

    with pytest.raises(UncoveredPrimitivesError, match="have no translation") as error:
        export(tmp_path, fn, {}, ["float32[8]"])
    lines = error.value.uncovered
    assert "lgamma in Encoder/Block_0, test_onnx_models.py:" in lines[0]
    assert [line.split()[0] for line in lines] == ["lgamma", "convert_element_type", "fft", "real", "digamma"]
    assert list(tmp_path.iterdir()) == []


def lgamma_as_zero(build, eqn, x):
    return build.elementwise("Mul", [x, build.like(x, 0)])


class Plugin:
    @hookimpl
    def fx_onnx_primitives(self):
        target = "test_onnx_models:lgamma_as_zero"
        return [OnnxPrimitiveEntry(name="test.lgamma", target=target, summary="None", primitive="lgamma")]


def test_dtypes_that_onnx_lacks(tmp_path):
    with pytest.raises(UncoveredPrimitivesError, match="complex64, which ONNX does not have"):
        export(tmp_path, lambda _, x: jnp.abs(x + 1j), {}, ["float32[3]"])
    with pytest.raises(UnsupportedProgramError, match="'input' has the dtype complex64"):
        export(tmp_path, lambda _, x: x, {}, ["complex64[3]"])


def test_plugins_bring_translations(tmp_path):
    registry().register(Plugin(), name="test")
    try:
        path = export(tmp_path, lambda w, x: jax.lax.lgamma(x), {}, ["float32[8]"], verify=False)
    finally:
        registry().unregister("test")
    assert operators(path) == ["Mul"]


@pytest.mark.parametrize("option", [{"opset": 17}, {"opset": "23"}, {"external_bytes": -1}, {"external_bytes": 2**31}])
def test_options_are_checked(tmp_path, option):
    with pytest.raises(ArgumentTypeError, match="'onnx' does not take this"):
        export(tmp_path, lambda w, x: x, {}, ["float32[8]"], **option)


def test_sizes_that_no_input_has(tmp_path):
    a, b = jax.export.symbolic_shape("a*b, b*b")
    with pytest.raises(UnsupportedProgramError, match="the size 'a'"):
        export(tmp_path, lambda w, x: jnp.zeros((a + 1,)) + x[0], {}, [jax.ShapeDtypeStruct((a * b,), jnp.float32)])


@pytest.mark.parametrize(
    ("change", "text"),
    [
        (lambda index: index.pop("inputs"), "lacks inputs or outputs"),
        (lambda index: index.pop("out_tree"), "lacks the structure"),
        (lambda index: index.update(in_tree={"list": [7]}), "the description of inputs or outputs is malformed"),
        (lambda index: index.update(inputs=[{"name": "x", "shape": "__import__('os')", "dtype": "int8"}]), "malformed"),
        (lambda index: index.update(inputs=[{"name": "x", "shape": "2", "dtype": "object"}]), "malformed"),
    ],
)
def test_hostile_indices(tmp_path, change, text):
    from fx_export.onnx.exporter import OnnxExporter

    path = export(tmp_path, lambda w, x: x, {}, ["float32[8]"]) / "data"
    index = json.loads((path / "index.json").read_text())
    change(index)
    (path / "index.json").write_text(json.dumps(index))
    with pytest.raises(BundleError, match=text):
        OnnxExporter().load(path)


def test_paths_of_modules():
    assert module_path("jit(f)/GPT/Block_0/jvp(Dense_0)") == "GPT/Block_0/Dense_0"
    assert module_path("transpose(jvp(GPT))/while/body/Dense_0") == "GPT/Dense_0"


def attention(variables, x, mask, low=-1e38):
    scores = jnp.einsum("bqnh,bknh->bnqk", x, x + 1) / 2
    weights = jax.nn.softmax(jnp.where(mask, scores, low))
    return jnp.einsum("bnqk,bknh->bqnh", weights, x * variables)


ATTENDED = ["float32[b, t, 2, 3]", "bool[b, 1, t, t]"]


def test_weights_of_attention_are_not_transposed(tmp_path):
    """A product in the other order takes a factor as it lies; only queries, keys, values and the result are moved."""
    model = export(tmp_path, attention, np.float32(2), ATTENDED, verify_sizes={"b": [2], "t": [5]}, fuse=False)
    assert operators(model).count("Transpose") == 4


@pytest.mark.parametrize(("low", "fused"), [(-1e38, True), (-1e9, False), (-np.inf, False)])
def test_attention_is_one_operator_where_masks_mean_the_same(low, fused, tmp_path):
    """Rows in which all is masked are equal weights in JAX, which additions of small numbers would not give."""
    options = {"call": {"low": low}, "verify": low > -np.inf, "verify_sizes": {"b": [2], "t": [5]}}
    model = export(tmp_path, attention, np.float32(2), ATTENDED, **options)
    assert operators(model).count("Attention") == fused
    assert operators(model).count("Softmax") == (not fused)


def test_attention_with_a_bias_or_without_anything(tmp_path):
    def fn(variables, x, bias):
        plain = jax.nn.softmax(jnp.einsum("bnqh,bknh->bnqk", x, jnp.swapaxes(x, 1, 2)))
        biased = jax.nn.softmax(jnp.einsum("bnqh,bknh->bnqk", x, jnp.swapaxes(x, 1, 2) * 2) + bias)
        return jnp.einsum("bnqk,bnkh->bnqh", plain, x), jnp.einsum("bnqk,bnkh->bnqh", biased, x)

    model = export(tmp_path, fn, {}, ["float32[b, 2, 4, 3]", "float32[1, 2, 4, 4]"], verify_sizes={"b": [2]})
    assert operators(model).count("Attention") == 2
    older = export(tmp_path / "older", fn, {}, ["float32[b, 2, 4, 3]", "float32[1, 2, 4, 4]"], opset=22, verify=False)
    assert "Attention" not in operators(older)


def test_gelu_of_64_bits_is_exact(tmp_path):
    """The operator of ONNX Runtime has constants of 32 bits."""
    with jax.enable_x64(True):
        x = np.linspace(-3, 3, 50)
        path = export(tmp_path, lambda _, x: jax.nn.gelu(x), {}, [x], verify=False)
        np.testing.assert_allclose(fx_export.load(path)(x), jax.nn.gelu(x), rtol=1e-12)
