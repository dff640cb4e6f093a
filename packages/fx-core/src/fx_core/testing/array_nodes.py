"""What every array-like parameter has to do."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fx_core import serialization
from fx_core.array_node import ArrayNode
from fx_core.ops import contract
from fx_core.ops.conv import conv, plan_conv
from fx_core.ops.dtypes import promote_dtype
from fx_core.ops.embed import attend, lookup
from fx_core.ops.linear import dense, dense_general, einsum, plan_dense_general, plan_einsum
from fx_core.ops.recurrent import Affine, fuse
from fx_core.ops.recurrent.maps import apply_gates


def _random(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).uniform(-1, 1, shape).astype(np.float32)


class ArrayNodeSuite:
    """The contract of `fx_core.array_node.ArrayNode`: subclass it and say how to make a node of an array.

    A node is compared with the array that it materializes: how far that is from the array it was made of is the
    business of its own tests.

    Attributes:
      rtol: how far products may be from those with the materialized array, relatively to the largest.
      stacked: whether a node may have leading axes that ``vmap`` and ``scan`` map.
      serializable: whether state dictionaries know the node.
    """

    rtol: float = 1e-5
    stacked: bool = True
    serializable: bool = True

    def make(self, array: jax.Array) -> ArrayNode:
        """Creates the node under test of a float32 array of two to four dimensions, whose sizes divide by 4."""
        raise TypeError(f"{type(self).__name__} does not say how to make its node: define make(self, array).")

    def assert_close(self, got: Any, want: Any) -> None:
        """Compares a product with that of the materialized array."""
        assert got.shape == want.shape
        assert got.dtype == want.dtype
        bound = self.rtol * max(1.0, float(np.abs(np.asarray(want, np.float64)).max()))
        np.testing.assert_allclose(np.asarray(got, np.float64), np.asarray(want, np.float64), rtol=0, atol=bound)

    def test_looks_like_its_array(self):
        node = self.make(jnp.asarray(_random(8, 4)))
        array = node.materialize()
        assert isinstance(array, jax.Array)
        assert (node.shape, node.ndim, node.size, len(node)) == (array.shape, array.ndim, array.size, len(array))
        assert jnp.dtype(node.dtype) == array.dtype
        assert node.nbytes == sum(leaf.nbytes for leaf in jax.tree.leaves(node))

    def test_becomes_its_array_where_one_is_needed(self):
        node, x = self.make(jnp.asarray(_random(8, 4))), jnp.asarray(_random(3, 8, seed=1))
        array = node.materialize()
        np.testing.assert_array_equal(jnp.asarray(node), array)
        np.testing.assert_array_equal(np.asarray(node), array)
        copied = np.array(node)
        copied[0] = 0.0
        np.testing.assert_array_equal(np.array(node, copy=True), array)
        np.testing.assert_array_equal(node[1:3], array[1:3])
        np.testing.assert_array_equal(node.T, array.T)
        np.testing.assert_array_equal(2 * node + 1, 2 * array + 1)
        self.assert_close(x @ node, x @ array)

    def test_is_a_pytree_that_jit_takes_and_gives_back(self):
        node = self.make(jnp.asarray(_random(8, 4)))
        leaves, structure = jax.tree.flatten(node)
        assert all(isinstance(leaf, jax.Array | np.ndarray) for leaf in leaves)
        back = jax.jit(lambda x: x)(jax.tree.unflatten(structure, leaves))
        assert type(back) is type(node)
        np.testing.assert_array_equal(back.materialize(), node.materialize())
        abstract = jax.eval_shape(lambda x: x, node)
        assert (abstract.shape, jnp.dtype(abstract.dtype)) == (node.shape, jnp.dtype(node.dtype))

    @pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16"])
    def test_stands_for_its_array_in_another_dtype(self, dtype: str):
        node = self.make(jnp.asarray(_random(8, 4)))
        cast = node.astype(dtype)
        assert type(cast) is type(node)
        assert jnp.dtype(cast.dtype) == cast.materialize().dtype == jnp.dtype(dtype)
        x, promoted = promote_dtype(jnp.ones((2, 8), jnp.bfloat16), cast)
        assert isinstance(promoted, ArrayNode)
        assert x.dtype == jnp.dtype(promoted.dtype) == jnp.promote_types(jnp.bfloat16, dtype)

    def test_is_contracted_by_every_linear_map(self):
        x, bias = jnp.asarray(_random(3, 8, seed=1)), jnp.asarray(_random(4, seed=2))
        node = self.make(jnp.asarray(_random(8, 4)))
        array = node.materialize()
        self.assert_close(dense(x, node, bias), dense(x, array, bias))
        self.assert_close(jax.jit(dense)(x, node), dense(x, array))
        node = self.make(jnp.asarray(_random(4, 8, 4)))
        plan, y = plan_dense_general(3, 4, axis=(1, 2)), jnp.asarray(_random(2, 4, 8, seed=1))
        self.assert_close(dense_general(plan, y, node), dense_general(plan, y, node.materialize()))
        plan, y = plan_dense_general(2, (8, 4)), jnp.asarray(_random(2, 4, seed=1))
        self.assert_close(dense_general(plan, y, node), dense_general(plan, y, node.materialize()))

    @pytest.mark.parametrize(
        "equation", ["ab,bcd->acd", "...b,bcd->...dc", "ab,bcd->ad", "bac,bcd->bad", "abc,bcd->bad"]
    )
    def test_is_an_operand_of_an_einsum(self, equation: str):
        node = self.make(jnp.asarray(_random(4, 8, 4)))
        left = equation.split(",")[0].replace("...", "aa")
        x = jnp.asarray(_random(*({"b": 4, "c": 8}.get(label, 3) for label in left), seed=1))
        plan = plan_einsum(equation, x.ndim, 3)
        self.assert_close(einsum(plan, x, node), einsum(plan, x, node.materialize()))

    def test_is_the_kernel_of_a_convolution(self):
        node, x = self.make(jnp.asarray(_random(4, 4, 8))), jnp.asarray(_random(2, 7, 4, seed=1))
        plan = plan_conv((4,), strides=2, kernel_dilation=1)
        self.assert_close(conv(plan, x, node), conv(plan, x, node.materialize()))

    def test_is_masked(self):
        node = self.make(jnp.asarray(_random(4, 4, 8)))
        mask = np.asarray(_random(4, 4, 8, seed=1) > 0, np.float32)
        for each in (mask, mask.astype(bool), mask / 2):
            np.testing.assert_allclose(jnp.asarray(node.masked(each)), node.materialize() * each, rtol=1e-6)
        got = jax.jit(lambda node, mask: jnp.asarray(node.masked(mask)))(node, mask)
        np.testing.assert_allclose(got, node.materialize() * mask, rtol=1e-6)

    def test_is_an_embedding(self):
        node, indices = self.make(jnp.asarray(_random(8, 4))), jnp.array([[0, 7], [3, 3]])
        array = node.materialize()
        self.assert_close(lookup(node, indices), lookup(array, indices))
        assert np.isnan(np.asarray(lookup(node, jnp.array([8])))).all()
        query = jnp.asarray(_random(3, 4, seed=1))
        self.assert_close(attend(query, node), attend(query, array))

    def test_is_the_map_of_a_gate(self):
        nodes = [self.make(jnp.asarray(_random(8, 4, seed=seed))) for seed in range(2)]
        x, arrays = jnp.asarray(_random(3, 8, seed=5)), [node.materialize() for node in nodes]
        for got, want in zip(
            apply_gates([Affine(node) for node in nodes], x), apply_gates(list(map(Affine, arrays)), x)
        ):
            self.assert_close(got, want)
        self.assert_close(fuse([Affine(node) for node in nodes])(x), fuse(list(map(Affine, arrays)))(x))

    def test_gives_gradients_to_what_it_multiplies(self):
        node, x = self.make(jnp.asarray(_random(8, 4))), jnp.asarray(_random(3, 8, seed=1))
        got = jax.grad(lambda x: (dense(x, node) ** 2).sum())(x)
        self.assert_close(got, jax.grad(lambda x: (dense(x, node.materialize()) ** 2).sum())(x))

    def test_hands_its_array_to_a_replaced_contraction(self):
        node, x = self.make(jnp.asarray(_random(8, 4))), jnp.asarray(_random(3, 8, seed=1))
        seen: list[Any] = []

        def replacement(lhs: jax.Array, rhs: Any, dims: Any, **options: Any) -> jax.Array:
            seen.append(rhs)
            return jax.lax.dot_general(lhs, rhs, dims, **options)

        contract.dot_general(x, node, (((1,), (0,)), ((), ())), replacement)
        assert isinstance(seen[0], jax.Array)

    def test_is_mapped_and_scanned_over_stacked_layers(self):
        if not self.stacked:
            return
        nodes = [self.make(jnp.asarray(_random(8, 8, seed=seed))) for seed in range(3)]
        stack = jax.tree.map(lambda *leaves: jnp.stack(leaves), *nodes)
        x = jnp.asarray(_random(2, 8, seed=5))
        want = jnp.stack([dense(x, node.materialize()) for node in nodes])
        self.assert_close(jax.vmap(dense, in_axes=(None, 0))(x, stack), want)
        last, _ = jax.lax.scan(lambda h, node: (dense(h, node), None), x, stack)
        for node in nodes:
            x = dense(x, node.materialize())
        self.assert_close(last, x)

    def test_survives_state_dictionaries(self):
        if not self.serializable:
            return
        node, other = (self.make(jnp.asarray(_random(8, 4, seed=seed))) for seed in range(2))
        state = serialization.to_state_dict({"kernel": node})
        back = serialization.from_state_dict({"kernel": other}, state)["kernel"]
        assert type(back) is type(node)
        for got, want in zip(jax.tree.leaves(back), jax.tree.leaves(node), strict=True):
            assert got.dtype == want.dtype
            np.testing.assert_array_equal(got, want)
