"""Functions that are private in Flax and that fx-flax serves: they compute what Flax's compute."""

import flax.linen as flax_nn
import fx_linen
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import serialization
from flax.linen import linear, normalization
from flax.nnx import module
from flax.nnx.nn import linear as nnx_linear
from fx_ckpt.formats import msgpack_hooks
from fx_flax import private

X = jax.random.normal(jax.random.key(0), (2, 3, 4)) + 2.0


def test_axes_are_the_same():
    for axes in (0, -1, (-1, 0), (2, -1)):
        assert private.canonicalize_axes(3, axes) == tuple(sorted(normalization._canonicalize_axes(3, axes)))


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"use_mean": False},
        {"use_fast_variance": False},
        {"mask": jnp.arange(24).reshape(2, 3, 4) % 3 > 0},
        {"force_float32_reductions": False},
    ],
)
@pytest.mark.parametrize("dtype", [None, jnp.float32])
def test_statistics_are_the_same(options, dtype):
    x = X.astype(jnp.bfloat16) if "force_float32_reductions" in options else X
    for mine, its in zip(
        private.compute_stats(x, (0, -1), dtype, **options),
        normalization._compute_stats(x, (0, -1), dtype, **options),
    ):
        assert mine.dtype == its.dtype
        np.testing.assert_allclose(mine, its, rtol=1e-6)


@pytest.mark.parametrize("use_scale", [True, False])
@pytest.mark.parametrize("force", [True, False])
def test_normalizing_is_the_same(use_scale, force):
    def layer(nn, function):
        class Layer(nn.Module):
            @nn.compact
            def __call__(self, x):
                mean, var = jnp.mean(x, (0, 1)), jnp.var(x, (0, 1))
                ones = jax.nn.initializers.ones
                return function(
                    self, x, mean, var, (0, 1), -1, None, jnp.bfloat16, 1e-5, True, use_scale, ones, ones, force
                )

        return Layer()

    mine, variables = layer(fx_linen, private.normalize).init_with_output(jax.random.key(0), X)
    its, expected = layer(flax_nn, normalization._normalize).init_with_output(jax.random.key(0), X)
    assert jax.tree.map(jnp.shape, variables) == jax.tree.map(jnp.shape, expected)
    assert mine.dtype == its.dtype
    np.testing.assert_array_equal(mine, its)


@pytest.mark.parametrize(
    "padding", ["SAME", 2, (1, 2), ((1, 0), 2), [(0, 1), (2, 3)], (1, 2, 3), 1.5, None, ((1, 2, 3), 1)]
)
def test_paddings_of_convolutions(padding):
    def result(function):
        try:
            return function(padding, 2)
        except ValueError:
            return "refused"

    expected = result(linear.canonicalize_padding)
    assert result(private.canonicalize_padding) == expected
    assert result(nnx_linear.canonicalize_padding) == expected


def test_the_first_that_is_not_none():
    for values in [(None, False, True), (0,), (None, None, [1])]:
        assert private.first_from(*values, error_msg="") == module.first_from(*values, error_msg="")
    for function in (private.first_from, module.first_from):
        with pytest.raises(ValueError, match="say which"):
            function(None, error_msg="say which")


@pytest.mark.parametrize("value", [np.arange(6.0).reshape(2, 3), jnp.ones(2, jnp.bfloat16), np.float32(3), 1 + 2j])
def test_bytes_packed_by_msgpack_are_the_same(value):
    mine, its = msgpack_hooks.pack(value), serialization._msgpack_ext_pack(value)
    assert (mine.code, mine.data) == (its.code, its.data)
    back, expected = msgpack_hooks.unpack(*its), serialization._msgpack_ext_unpack(*its)
    assert type(back) is type(expected)
    np.testing.assert_array_equal(back, expected)


def test_what_msgpack_has_no_kind_for_is_left():
    extension = msgpack_hooks.unpack(9, b"x")
    assert extension == serialization._msgpack_ext_unpack(9, b"x") == (9, b"x")
    assert msgpack_hooks.pack("text") == serialization._msgpack_ext_pack("text") == "text"


@pytest.mark.parametrize("shape", [(2, 3), (2, 5, 3), (2, 5, 6, 3), (1, 2, 3, 4, 5)])
def test_axes_of_convolutions_are_the_same(shape):
    assert private.conv_dimension_numbers(shape) == linear._conv_dimension_numbers(shape)
