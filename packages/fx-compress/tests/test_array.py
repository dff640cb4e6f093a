"""Quantized arrays: the suite of array-like parameters on every format, and what only they do."""

import dataclasses

import fx_compress
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from fx_compress.formats import FORMATS, pack, unpack
from fx_core import serialization
from fx_core.array_node import ArrayNode
from fx_core.errors import FxError
from fx_core.ops.conv import conv, plan_conv
from fx_core.ops.linear import dense
from fx_core.testing import ArrayNodeSuite
from jax import lax


def random(*shape, seed=0):
    return jnp.asarray(np.random.default_rng(seed).normal(size=shape), jnp.float32)


class LayerAxes(ArrayNodeSuite):
    scheme = fx_compress.int8()

    def make(self, array):
        return self.scheme.quantize(array)


class TestInt8(LayerAxes):
    pass


class TestInt8Affine(LayerAxes):
    scheme = fx_compress.int8(symmetric=False)


class TestInt8LeastSquares(LayerAxes):
    scheme = fx_compress.int8(clip="mse")


class TestInt8Groups(LayerAxes):
    scheme = fx_compress.int8(group=2)


class TestInt4(LayerAxes):
    scheme = fx_compress.int4()


class TestInt4GroupsAffine(LayerAxes):
    scheme = fx_compress.int4(group=4, symmetric=False)


class TestNf4(LayerAxes):
    scheme = fx_compress.nf4(group=4)


class TestFp8(LayerAxes):
    scheme = fx_compress.fp8()


class TestFp8Wide(LayerAxes):
    scheme = fx_compress.fp8("e5m2")


class TestDynamic(LayerAxes):
    """Inputs are rounded as well, so products are close only to the size of that rounding."""

    scheme = fx_compress.int8(activations="dynamic")
    rtol = 0.02


class TestInt4Dynamic(LayerAxes):
    scheme = fx_compress.int4(activations="dynamic")
    rtol = 0.02


class TestStatic(LayerAxes):
    """Inputs beyond the calibrated range are cut off, so chains of layers are left to tests of calibration."""

    scheme = fx_compress.int8(activations="static")
    rtol = 0.02
    stacked = False

    def make(self, array):
        return self.scheme.quantize(array, input_scale=jnp.float32(1 / 127))


class TestEmbeddingRows(ArrayNodeSuite):
    def make(self, array):
        return fx_compress.int8(group=2).quantize(array, (-1,))


@pytest.mark.parametrize("name", FORMATS)
def test_each_code_stands_for_the_nearest_number(name):
    kind = FORMATS[name]
    if kind.bits == 4:
        codes = jnp.arange(-7, 8, dtype=jnp.int8) if kind.integer else jnp.arange(16, dtype=jnp.int8)
        numbers = kind.numbers(codes, jnp.float32)
        np.testing.assert_array_equal(kind.encode(numbers), codes)
        between = numbers[1:] * 0.6 + numbers[:-1] * 0.4
        np.testing.assert_array_equal(kind.encode(between), codes[1:])
    else:
        x = random(100) * kind.largest / 4
        got = kind.numbers(kind.encode(x), jnp.float32)
        assert float(jnp.abs(got - x).max()) <= kind.largest / (250 if kind.integer else 16)


@pytest.mark.parametrize("size", [1, 2, 7, 8])
@pytest.mark.parametrize("signed", [True, False])
def test_packed_codes_come_back(size, signed):
    low, high = (-8, 8) if signed else (0, 16)
    codes = jnp.asarray(np.random.default_rng(0).integers(low, high, (3, size)), jnp.int8)
    assert pack(codes).shape == (3, -(-size // 2))
    np.testing.assert_array_equal(unpack(pack(codes), size, signed), codes)


def test_bytes_as_stored():
    array = random(64, 32)
    assert fx_compress.int8().quantize(array).nbytes == 64 * 32 + 32 * 4
    assert fx_compress.int4(group=16).quantize(array).nbytes == 64 * 32 // 2 + 4 * 32 * 4
    assert fx_compress.int4(group=16, symmetric=False).quantize(array).nbytes == 64 * 32 // 2 + 4 * 32 * (4 + 1)


@pytest.mark.parametrize(
    ("scheme", "bound"),
    [
        (fx_compress.int8(), 0.01),
        (fx_compress.int4(group=32), 0.13),
        (fx_compress.int4(group=32, clip="mse"), 0.12),
        (fx_compress.nf4(group=32), 0.1),
        (fx_compress.fp8(), 0.04),
    ],
    ids=lambda x: getattr(x, "format", x),
)
def test_the_error_is_that_of_the_format(scheme, bound):
    array = random(256, 64)
    error = jnp.linalg.norm(scheme.quantize(array).materialize() - array) / jnp.linalg.norm(array)
    assert float(error) < bound


def test_least_squares_is_no_worse_than_the_largest_value():
    array = random(256, 64) ** 3

    def error(clip):
        return float(jnp.linalg.norm(fx_compress.int4(clip=clip).quantize(array).materialize() - array))

    assert error("mse") < 0.96 * error("minmax")


def test_a_block_of_zeros_and_huge_and_tiny_values_stay_finite():
    array = jnp.stack(
        [jnp.zeros(4), jnp.full(4, 1e30), jnp.full(4, 1e-30), jnp.array([1e30, 1e-30, 0.0, -1.0])], axis=1
    )
    for scheme in (
        fx_compress.int8(),
        fx_compress.int8(symmetric=False),
        fx_compress.int4(clip="mse"),
        fx_compress.fp8(),
    ):
        got = scheme.quantize(array).materialize()
        assert bool(jnp.isfinite(got).all())
        np.testing.assert_array_equal(got[:, 0], 0.0)


@pytest.mark.parametrize("scheme", [fx_compress.int8(), fx_compress.nf4(group=4), fx_compress.fp8()])
@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
@pytest.mark.parametrize("compiled", [False, True])
def test_weights_near_the_largest_number_keep_their_values(scheme, dtype, compiled):
    array = (jnp.linspace(-1.0, 1.0, 16).reshape(4, 4) * 3e38).astype(dtype)
    quantize = jax.jit(scheme.quantize) if compiled else scheme.quantize
    got = np.asarray(quantize(array).materialize(), np.float64)
    np.testing.assert_allclose(got, np.asarray(array, np.float64), atol=0.16 * 3e38)


@pytest.mark.parametrize(
    "scheme", [fx_compress.int8(symmetric=False), fx_compress.nf4(group=4), fx_compress.fp8("e5m2")]
)
def test_weights_whose_scale_has_no_normal_number_are_what_they_were_to_that(scheme):
    array = jnp.array([[0.0, 0.0], [1e-36, 1e-40], [-1e-36, 1e-42], [5e-37, 0.0]])
    got = scheme.quantize(array).materialize()
    np.testing.assert_allclose(got, array, atol=2e-37)
    assert float(got[1, 0]) > 5e-37


def test_integer_products_are_integers_in_the_program():
    kernel, x = fx_compress.int8(activations="dynamic").quantize(random(8, 4)), random(3, 8)
    text = str(jax.make_jaxpr(dense)(x, kernel))
    assert "preferred_element_type=int32" in text
    image, window = random(2, 6, 8), fx_compress.int8(activations="dynamic").quantize(random(3, 8, 4))
    text = str(jax.make_jaxpr(lambda x, k: conv(plan_conv((3,)), x, k))(image, window))
    assert "preferred_element_type=int32" in text


def test_inputs_of_integer_products_get_the_gradient_of_the_exact_product():
    kernel, x = fx_compress.int8(activations="dynamic").quantize(random(8, 4)), random(3, 8)
    got = jax.grad(lambda x: dense(x, kernel).sum())(x)
    np.testing.assert_allclose(got, jax.grad(lambda x: dense(x, kernel.materialize()).sum())(x), rtol=1e-6)
    image, window = random(2, 6, 8), fx_compress.int8(activations="dynamic").quantize(random(3, 8, 4))
    got = jax.grad(lambda x: conv(plan_conv((3,)), x, window).sum())(image)
    want = jax.grad(lambda x: conv(plan_conv((3,)), x, window.materialize()).sum())(image)
    np.testing.assert_allclose(got, want, rtol=1e-5, atol=1e-6)


def test_a_network_of_weights_only_products_never_holds_the_float_weight():
    kernel = fx_compress.int8().quantize(random(8, 4))
    (call,) = (e for e in jax.make_jaxpr(dense)(random(3, 8), kernel).jaxpr.eqns if "jaxpr" in e.params)
    assert call.params["name"] == "fx_dot_int8"  # exporters know it by its name
    # The codes are cast and multiplied; the scale meets the result, not the kernel.
    names = [e.primitive.name for e in call.params["jaxpr"].eqns]
    assert names.index("dot_general") < names.index("mul")
    assert isinstance(kernel, ArrayNode)


@pytest.mark.parametrize(
    ("make", "text"),
    [
        (lambda: fx_compress.Scheme("int5"), r"(?s)no such number format.*int8, int4, nf4, e4m3, e5m2.*int5"),
        (lambda: fx_compress.int8(group=0), r"(?s)A group is a number of inputs.*got: 0"),
        (lambda: fx_compress.Scheme("nf4", symmetric=False), "nf4 has no zero point"),
        (lambda: fx_compress.int8(activations="dynamic", group=4), "(?s)Products of integers need.*leave out"),
        (lambda: fx_compress.Scheme("e4m3", activations="dynamic"), "Products of integers need"),
        (lambda: fx_compress.int8(clip="max"), r"(?s)There is no such clip.*minmax.*got: max"),
        (lambda: fx_compress.int8(percentile=0), "percentile is out of range"),
        (lambda: fx_compress.int4(group=5).quantize(random(8, 4)), r"(?s)do not divide.*divides 8, such as 4.*got: 5"),
        (lambda: fx_compress.int8().quantize(jnp.ones(3)), r"(?s)cannot be quantized.*got: float32\[3\]"),
        (lambda: fx_compress.int8().quantize(jnp.ones((3, 3), int)), r"(?s)cannot be quantized.*got: int32"),
    ],
)
def test_wrong_schemes_say_what_is_wrong(make, text):
    with pytest.raises(fx_compress.SchemeError, match=text):
        make()


class TestShrunkInputs(LayerAxes):
    """As ``rounding="awq"`` makes them."""

    def make(self, array):
        factor = jnp.linspace(0.5, 2.0, array.shape[-2]).reshape(*(1,) * (array.ndim - 2), -1, 1)
        factor = jnp.broadcast_to(factor, (*array.shape[:-2], array.shape[-2], 1))
        return dataclasses.replace(self.scheme.quantize(array * factor), shrink=1 / factor)


@pytest.mark.parametrize("scheme", [fx_compress.int8(), fx_compress.fp8("e4m3"), fx_compress.fp8("e5m2")])
def test_sums_of_codes_stay_in_the_range_of_float16(scheme):
    kernel = scheme.quantize(random(64, 8).astype(jnp.float16))
    x = 8 * random(4, 64, seed=1).astype(jnp.float16)
    got = dense(x, kernel)
    assert got.dtype == jnp.float16
    exact = np.asarray(x, np.float64) @ np.asarray(kernel.astype(jnp.float32).materialize(), np.float64)
    np.testing.assert_allclose(got, exact, rtol=2e-3, atol=2e-3 * np.abs(exact).max())
    image = convolved(x.reshape(1, 4, 64), kernel.astype(jnp.float16))
    np.testing.assert_allclose(image.reshape(4, 8), exact, rtol=2e-3, atol=2e-3 * np.abs(exact).max())


def convolved(x, kernel):
    """Of one position: the product with the kernel."""
    node = dataclasses.replace(kernel, values=kernel.values[None], scale=kernel.scale[None])
    numbers = lax.conv_dimension_numbers(x.shape, node.shape, ("NWC", "WIO", "NWC"))
    return node.conv_general_dilated(x, (1,), "VALID", dimension_numbers=numbers)


def test_scales_are_not_rounded_to_bfloat16():
    table = fx_compress.int8().quantize(random(16, 8).astype(jnp.bfloat16), (1,))
    np.testing.assert_array_equal(table.take(jnp.arange(16)), table.materialize())
    eye = jnp.eye(16, dtype=jnp.bfloat16)
    kernel = fx_compress.int8().quantize(random(16, 8).astype(jnp.bfloat16))
    np.testing.assert_array_equal(dense(eye, kernel), kernel.materialize())


def test_inputs_that_are_not_finite_are_seen_in_the_result():
    x = random(3, 16, seed=1).at[1, 2].set(jnp.nan)
    for input_scale in (None, jnp.float32(0.1)):
        scheme = fx_compress.int8(activations="dynamic" if input_scale is None else "static")
        got = dense(x, scheme.quantize(random(16, 8), input_scale=input_scale))
        assert jnp.isnan(got[1]).all()
    dynamic = fx_compress.int8(activations="dynamic").quantize(random(16, 8))
    np.testing.assert_array_equal(jnp.isnan(dense(x, dynamic)).all(-1), [False, True, False])


def test_leaves_are_named_by_what_their_codes_are():
    def name(scheme, features):
        (key, _), *_ = jax.tree_util.tree_leaves_with_path(scheme.quantize(random(4, features)))
        return key[0].name

    names = [name(fx_compress.int4(), 8), name(fx_compress.int4(), 7), name(fx_compress.nf4(group=4), 8)]
    assert names == ["values_int4", "values_int4_odd", "values_nf4"]
    small = fx_compress.nf4(group=4).quantize(random(4, 8))
    state = serialization.to_state_dict(small)
    back = serialization.from_state_dict(small.replace(scale=2 * small.scale), state)
    np.testing.assert_array_equal(back.materialize(), small.materialize())
    with pytest.raises(FxError, match=r"(?s)values_int4"):
        serialization.from_state_dict(fx_compress.int4(group=4).quantize(random(4, 8)), state)


@pytest.mark.parametrize("scheme", [fx_compress.int8(), fx_compress.int4(group=2), fx_compress.nf4(group=4)])
@pytest.mark.parametrize("axes", [(0,), (1,)])
def test_rows_are_counted_from_the_end_below_zero(scheme, axes):
    table = scheme.quantize(random(8, 8), axes)
    indices = jnp.array([[-1, -3, 2], [-8, -9, 8]])
    np.testing.assert_array_equal(table.take(indices), jnp.take(table.materialize(), indices, axis=0))
    long = scheme.quantize(random(200, 8), axes)
    np.testing.assert_array_equal(long.take(jnp.array([-1], jnp.int8)), long.materialize()[-1:])


def test_sums_of_integers_that_leave_int32_are_those_of_floats():
    inputs = 140_000
    kernel = fx_compress.int8(activations="dynamic").quantize(jnp.ones((inputs, 1)))
    np.testing.assert_allclose(dense(jnp.ones((1, inputs)), kernel), [[inputs]], rtol=1e-3)
    numbers = lax.conv_dimension_numbers((1, 1, inputs), (1, inputs, 1), ("NWC", "WIO", "NWC"))
    image = dataclasses.replace(kernel, values=kernel.values[None], scale=kernel.scale[None])
    got = image.conv_general_dilated(jnp.ones((1, 1, inputs)), (1,), "VALID", dimension_numbers=numbers)
    np.testing.assert_allclose(got, [[[inputs]]], rtol=1e-3)
    four_bits = fx_compress.int4(activations="dynamic").quantize(jnp.ones((inputs, 1)))
    assert "int32" in str(jax.make_jaxpr(dense)(jnp.ones((1, inputs)), four_bits))


@pytest.mark.parametrize("format", ["int8", "int4"])
def test_weights_as_large_as_floats_go_keep_a_zero_point(format):
    array = jnp.array([[3e38, 1e38], [-3e38, 3e38]])
    for scheme in (
        fx_compress.Scheme(format, symmetric=False),
        fx_compress.Scheme(format, symmetric=False, clip="mse"),
    ):
        error = jnp.abs(scheme.quantize(array).materialize() / 1e38 - array / 1e38)
        assert float(error.max()) < 0.5


@pytest.mark.parametrize("format", ["e4m3", "e5m2"])
def test_codes_that_are_floats_have_no_gradient(format):
    model, x = {"kernel": fx_compress.fp8(format).quantize(random(4, 4)), "bias": jnp.ones(4)}, random(2, 4)

    def loss(model, x):
        return (dense(x, model["kernel"], model["bias"]) + model["kernel"].take(jnp.arange(2))).sum()

    for used in (
        loss,
        lambda m, x: m["kernel"].materialize().sum(),
        lambda m, x: m["kernel"].take(jnp.arange(2)).sum(),
    ):
        with pytest.raises(fx_compress.SchemeError, match=rf"(?s)Codes have no gradient.*float8_{format}.*dequantize"):
            jax.grad(used)(model, x)
    # What they are multiplied with has one, under the transforms of JAX, too.
    bias, inputs = jax.jit(jax.grad(lambda b, x: loss({**model, "bias": b}, x), (0, 1)))(model["bias"], x)
    np.testing.assert_allclose(bias, jnp.full(4, 2.0))
    np.testing.assert_allclose(inputs[0], model["kernel"].materialize().sum(1), rtol=1e-5)
    each = jax.vmap(jax.grad(jax.checkpoint(lambda x: dense(x, model["kernel"]).sum())))(x)
    np.testing.assert_allclose(each, inputs, rtol=1e-5)


@pytest.mark.parametrize("scheme", [fx_compress.int8(), fx_compress.int4()], ids=lambda s: s.format)
def test_shapes_follow_the_codes_of_joined_and_mapped_arrays(scheme):
    left, right, x = scheme.quantize(random(4, 6)), scheme.quantize(random(4, 6, seed=1)), random(2, 4)
    both = jax.tree.map(lambda *leaves: jnp.concatenate(leaves, -1), left, right)
    want = jnp.concatenate([left.materialize(), right.materialize()], -1)
    assert both.shape == (4, 12)
    np.testing.assert_array_equal(both.materialize(), want)
    np.testing.assert_allclose(dense(x, both), x @ want, rtol=1e-5, atol=1e-5)
    if scheme.format == "int8":
        columns = jax.vmap(lambda column: jnp.zeros(column.shape) + column.materialize(), in_axes=-1)(left)
        np.testing.assert_array_equal(columns, left.materialize().T)


@pytest.mark.parametrize("scheme", [fx_compress.int4(group=16), fx_compress.nf4(group=16)], ids=lambda s: s.format)
def test_a_piece_of_codes_is_not_scaled_by_the_scales_of_other_groups(scheme):
    whole = scheme.quantize(jax.random.normal(jax.random.key(0), (32, 8)))
    halves = jax.tree.map(lambda leaf: leaf.reshape(2, -1, *leaf.shape[1:]), whole)
    for half in range(2):
        piece = jax.tree.map(lambda leaf, half=half: leaf[half], halves)
        np.testing.assert_array_equal(piece.materialize(), whole.materialize()[half * 16 :][:16])
    # ``shard_map`` gives codes in four or sixteen pieces, and copies of both scales.
    for size in (8, 2):
        piece = whole.replace(values=whole.values[:size])
        for use in (jnp.asarray, lambda node: jnp.ones((1, len(node))) @ node, lambda node: node.take(jnp.arange(2))):
            with pytest.raises(fx_compress.SchemeError, match=r"(?s)piece of an array.*16 codes.*no more pieces"):
                use(piece)
    joined = jax.tree.map(lambda leaf: jnp.concatenate([leaf, leaf]), whole)
    np.testing.assert_array_equal(joined.materialize()[32:], whole.materialize())
