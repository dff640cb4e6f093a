"""Array-like parameters: the suite on two kinds, and where fx-core meets them."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from fx_core import struct
from fx_core.array_node import ArrayNode, array_of, is_array_node
from fx_core.errors import ScopeParamShapeError
from fx_core.meta import Partitioned
from fx_core.ops import norm
from fx_core.scope import apply
from fx_core.testing import ArrayNodeSuite


@struct.dataclass
class Int8(ArrayNode):
    """Integers with a scale per output feature, which multiply first and scale after."""

    values: jax.Array
    scale: jax.Array

    @property
    def shape(self):
        return self.values.shape

    @property
    def dtype(self):
        return self.scale.dtype

    def astype(self, dtype):
        return self.replace(scale=self.scale.astype(dtype))

    def materialize(self):
        return self.values.astype(self.dtype) * self.scale


@struct.dataclass
class LowRank(ArrayNode):
    """Two factors of a matrix that is never made where it is multiplied from the left."""

    a: jax.Array
    b: jax.Array

    @property
    def shape(self):
        return (*self.a.shape[:-1], self.b.shape[-1])

    @property
    def dtype(self):
        return self.a.dtype

    def astype(self, dtype):
        return LowRank(self.a.astype(dtype), self.b.astype(dtype))

    def materialize(self):
        return self.a @ self.b

    def dot_general(self, lhs, dimension_numbers, precision=None, preferred_element_type=None, **options):
        (lhs_axes, rhs_axes), batch = dimension_numbers
        if rhs_axes == (0,) and self.ndim == 2 and batch == ((), ()):
            inner = jax.lax.dot_general(lhs, self.a, ((lhs_axes, (0,)), batch), precision=precision)
            return inner @ self.b
        return super().dot_general(lhs, dimension_numbers, precision, preferred_element_type, **options)


def quantized(array):
    scale = jnp.abs(array).max(axis=-2, keepdims=True) / 127
    return Int8(jnp.round(array / scale).astype(jnp.int8), scale)


class TestInt8(ArrayNodeSuite):
    def make(self, array):
        return quantized(array)


class TestLowRank(ArrayNodeSuite):
    def make(self, array):
        return LowRank(
            array[..., :2], jnp.ones((*array.shape[:-2], 2, array.shape[-1])) if array.ndim > 2 else array[:2]
        )


def test_a_scope_takes_a_node_for_the_parameter_of_its_shape():
    kernel = quantized(jnp.arange(8.0).reshape(4, 2) + 1)

    def body(scope, x):
        return x @ scope.param("kernel", jax.nn.initializers.zeros, (4, 2))

    x = jnp.ones((1, 4))
    np.testing.assert_allclose(apply(body)({"params": {"kernel": kernel}}, x), x @ kernel.materialize(), rtol=1e-6)
    boxed = Partitioned(kernel, ("in", "out"))
    np.testing.assert_allclose(apply(body)({"params": {"kernel": boxed}}, x), x @ kernel.materialize(), rtol=1e-6)


def test_a_scope_refuses_a_node_of_another_shape():
    kernel = quantized(jnp.ones((3, 2)))
    with pytest.raises(ScopeParamShapeError, match=r"(?s)expected: \(4, 2\).*got: \(3, 2\)"):
        apply(lambda scope: scope.param("kernel", jax.nn.initializers.zeros, (4, 2)))({"params": {"kernel": kernel}})


def test_norms_and_biases_use_the_array():
    scale = quantized(jnp.array([[1.0, 2.0, 3.0, 4.0]]))
    flat = jax.tree.map(lambda leaf: leaf[0], scale)
    x = jnp.arange(8.0).reshape(2, 4)
    plan = norm.plan_layer_norm(2)
    want = norm.layer_norm(plan, x, flat.materialize(), flat.materialize())
    np.testing.assert_array_equal(norm.layer_norm(plan, x, flat, flat), want)


def test_array_of_leaves_everything_else():
    array = jnp.ones(2)
    assert array_of(array) is array
    assert not is_array_node(array)
    assert is_array_node(quantized(jnp.ones((2, 2))))


def test_a_kind_that_does_not_say_its_shape_cannot_be_made():
    class Incomplete(ArrayNode):
        dtype = jnp.float32

    with pytest.raises(TypeError, match="shape"):
        Incomplete()
