"""What every layer has to do, in Linen and in NNX.

The suites know layers by what they can do: neither fx-linen nor fx-nnx is imported here.
"""

import copy
import importlib
import importlib.util
import inspect
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fx_core import serialization
from fx_core.collections import saved


def _assert_same(expected: Any, got: Any, rtol: float = 0.0) -> None:
    assert jax.tree.structure(expected) == jax.tree.structure(got)
    for want, have in zip(jax.tree.leaves(expected), jax.tree.leaves(got), strict=True):
        np.testing.assert_allclose(
            np.asarray(have, np.float64), np.asarray(want, np.float64), rtol=rtol, atol=rtol, err_msg="outputs differ"
        )


def _is_real(x: Any) -> bool:
    return jnp.issubdtype(jnp.result_type(x), jnp.floating)


def _assert_finite(tree: Any) -> None:
    for path, leaf in jax.tree_util.tree_leaves_with_path(tree):
        assert np.isfinite(np.asarray(leaf, np.float64)).all(), f"not finite: {jax.tree_util.keystr(path)}"


class _LayerSuite:
    """What Linen and NNX have in common.

    Attributes:
      rtol: how far compiled results may be from eager ones.
    """

    rtol: float = 1e-5

    def inputs(self) -> tuple[Any, ...]:
        """Positional arguments of a call; by default a small batch of vectors."""
        return (jnp.linspace(-1.0, 1.0, 12).reshape(4, 3),)

    def kwargs(self) -> dict[str, Any]:
        """Keyword arguments of a call."""
        return {}

    def full_mask(self) -> Any:
        """A mask that leaves nothing out, for a layer whose call takes ``mask``."""
        return jnp.ones(jnp.shape(self.inputs()[0]), bool)

    def _of_less_precision(self) -> Any:
        return jax.tree.map(lambda x: x.astype(jnp.bfloat16) if _is_real(x) else x, self.inputs())

    def _stacked(self) -> Any:
        return jax.tree.map(lambda x: jnp.stack([x, x[::-1]]), self.inputs())


def _takes_mask(layer: Any) -> bool:
    return callable(layer) and "mask" in inspect.signature(layer.__call__).parameters


def _quantized(tree: Any) -> tuple[Any, Any]:
    """Returns a tree with quantized weights, and the same numbers as arrays."""
    if importlib.util.find_spec("fx_compress") is None:
        pytest.skip("fx-compress is not installed")
    compress = importlib.import_module("fx_compress")
    try:
        quantized = compress.quantize(tree, compress.int8())
    except compress.errors.RuleError:
        pytest.skip("the layer has no weights of two dimensions or more")
    return quantized, compress.dequantize(quantized)


def _loss(out: Any) -> jax.Array:
    real = [leaf for leaf in jax.tree.leaves(out) if _is_real(leaf)]
    return sum((jnp.sum(leaf.astype(jnp.float32) ** 2) for leaf in real), jnp.float32(0))


class LinenLayerSuite(_LayerSuite):
    """The contract of a layer that has ``init`` and ``apply``, as those of fx-linen do.

    Subclass it and say how to make the layer; `inputs`, `kwargs` and `rngs` where the defaults do not fit.
    """

    def make(self) -> Any:
        """Creates the layer under test."""
        raise TypeError(f"{type(self).__name__} does not say how to make its layer: define make(self).")

    def rngs(self, seed: int) -> Any:
        """Returns keys for ``init`` and ``apply``: a key, or a dict of keys by stream."""
        return {"params": jax.random.key(seed), "dropout": jax.random.key(seed + 1)}

    def init(self, seed: int = 0) -> Mapping[str, Any]:
        """Initializes the layer, and leaves out what it sows."""
        return saved(self.make().init(self.rngs(seed), *self.inputs(), **self.kwargs()))

    def call(self, variables: Mapping[str, Any], *inputs: Any) -> Any:
        """Applies the layer with all collections mutable, and returns its output and what it changed."""
        return self.make().apply(variables, *inputs, rngs=self.rngs(7), mutable=True, **self.kwargs())

    def test_init_gives_collections_of_arrays(self):
        variables = self.init()
        assert all(isinstance(name, str) for name in variables)
        for leaf in jax.tree.leaves(variables):
            assert hasattr(leaf, "dtype"), f"{leaf!r} is not an array"
        _assert_finite(variables)

    def test_the_same_key_gives_the_same_parameters(self):
        _assert_same(self.init(3), self.init(3))

    def test_apply_is_a_function(self):
        variables = self.init()
        before = jax.tree.map(np.asarray, variables)
        first, second = self.call(variables, *self.inputs()), self.call(variables, *self.inputs())
        _assert_same(first, second)
        _assert_same(before, variables)
        _assert_finite(first[0])

    def test_apply_keeps_the_structure_of_its_variables(self):
        variables = self.init()
        _, updated = self.call(variables, *self.inputs())
        for name in variables:
            assert jax.tree.structure(variables[name]) == jax.tree.structure(updated[name]), name
            for old, new in zip(jax.tree.leaves(variables[name]), jax.tree.leaves(updated[name]), strict=True):
                assert (old.shape, old.dtype) == (new.shape, new.dtype), name

    def test_compiled_equals_eager(self):
        variables = self.init()
        eager, compiled = self.call(variables, *self.inputs()), jax.jit(self.call)(variables, *self.inputs())
        _assert_same(eager, compiled, self.rtol)

    def test_shapes_are_known_without_computing(self):
        variables = self.init()
        abstract = jax.eval_shape(self.call, variables, *self.inputs())
        concrete = self.call(variables, *self.inputs())
        assert jax.tree.map(jnp.shape, concrete) == jax.tree.map(jnp.shape, abstract)

    def test_gradients_are_finite(self):
        variables = dict(self.init())
        params = variables.pop("params", {})

        def loss(params: Any) -> jax.Array:
            out, _ = self.call({**variables, "params": params} if params else variables, *self.inputs())
            return _loss(out)

        _assert_finite(jax.grad(loss)(params))

    def test_vmap_equals_one_after_the_other(self):
        variables = self.init()
        stacked = self._stacked()
        mapped = jax.vmap(lambda *inputs: self.call(variables, *inputs)[0])(*stacked)
        for i in range(2):
            alone, _ = self.call(variables, *jax.tree.map(lambda x, i=i: x[i], stacked))
            _assert_same(alone, jax.tree.map(lambda x, i=i: x[i], mapped), self.rtol)

    def test_scan_equals_a_loop(self):
        def step(state: Any, _: Any) -> tuple[Any, Any]:
            out, updated = self.call(state, *self.inputs())
            return {name: updated[name] for name in state}, out

        first = dict(self.init())
        looped, outs = first, []
        for _ in range(2):
            looped, out = step(looped, None)
            outs.append(out)
        scanned, stacked = jax.lax.scan(step, first, length=2)
        _assert_same(looped, scanned, self.rtol)
        _assert_same(jax.tree.map(lambda *xs: jnp.stack(xs), *outs), stacked, self.rtol)

    def test_variables_come_back_from_a_state_dict(self):
        variables = self.init()
        again = serialization.from_state_dict(variables, serialization.to_state_dict(variables))
        _assert_same(self.call(variables, *self.inputs()), self.call(again, *self.inputs()))

    def test_inputs_of_less_precision_stay_finite(self):
        variables = self.init()
        out, _ = self.call(variables, *self._of_less_precision())
        _assert_finite(out)
        whole, _ = self.call(variables, *self.inputs())
        assert jax.tree.map(jnp.shape, out) == jax.tree.map(jnp.shape, whole)

    def test_a_full_mask_changes_nothing(self):
        if not _takes_mask(self.make()):
            pytest.skip("the call takes no mask")
        variables, rngs, options = self.init(), self.rngs(7), {**self.kwargs(), "mask": self.full_mask()}
        masked = self.make().apply(variables, *self.inputs(), rngs=rngs, mutable=True, **options)
        _assert_same(self.call(variables, *self.inputs()), masked, self.rtol)

    def test_quantized_parameters_are_used_as_arrays_are(self):
        quantized, plain = _quantized(self.init())
        _assert_same(self.call(plain, *self.inputs())[0], self.call(quantized, *self.inputs())[0], 1e-2)

    def test_equal_arguments_make_equal_layers(self):
        assert self.make() == self.make()
        assert hash(self.make()) == hash(self.make())


class NnxLayerSuite(_LayerSuite):
    """The contract of a layer that is a pytree and holds its variables, as those of fx-nnx do.

    Subclass it and say how to make the layer from a seed; `inputs` and `kwargs` where the defaults do not fit.
    """

    def make(self, seed: int) -> Any:
        """Creates the layer under test; the same seed gives the same parameters."""
        raise TypeError(f"{type(self).__name__} does not say how to make its layer: define make(self, seed).")

    def call(self, layer: Any, *inputs: Any) -> Any:
        """Calls the layer."""
        return layer(*inputs, **self.kwargs())

    def test_holds_arrays(self):
        for leaf in jax.tree.leaves(self.make(0)):
            assert hasattr(leaf, "dtype"), f"{leaf!r} is not an array"

    def test_the_same_seed_gives_the_same_layer(self):
        one, two = jax.tree.leaves(self.make(3)), jax.tree.leaves(self.make(3))
        _assert_same(_all_numbers(one), _all_numbers(two))

    def test_equal_layers_compute_the_same(self):
        _assert_same(self.call(self.make(3), *self.inputs()), self.call(self.make(3), *self.inputs()))

    def test_output_is_finite(self):
        _assert_finite(self.call(self.make(0), *self.inputs()))

    def test_taking_apart_and_putting_together(self):
        leaves, structure = jax.tree.flatten(self.make(1))
        again = jax.tree.unflatten(structure, leaves)
        _assert_same(self.call(self.make(1), *self.inputs()), self.call(again, *self.inputs()))

    def test_copies_are_independent(self):
        layer = self.make(1)
        twin = copy.deepcopy(layer)
        self.call(twin, *self.inputs())
        _assert_same(self.call(self.make(1), *self.inputs()), self.call(layer, *self.inputs()))

    def test_compiled_equals_eager(self):
        state, call = self._function()
        eager, compiled = call(state, *self.inputs()), jax.jit(call)(state, *self.inputs())
        _assert_same(eager[0], compiled[0], self.rtol)
        _assert_same(_all_numbers(eager[1]), _all_numbers(compiled[1]), self.rtol)

    def test_shapes_are_known_without_computing(self):
        state, call = self._function()
        abstract, concrete = jax.eval_shape(call, state, *self.inputs()), call(state, *self.inputs())
        assert jax.tree.map(_form, concrete) == jax.tree.map(_form, abstract)

    def test_a_call_keeps_the_form_of_its_variables(self):
        state, call = self._function()
        _, after = call(state, *self.inputs())
        assert [_form(leaf) for leaf in state] == [_form(leaf) for leaf in after]

    def test_gradients_are_finite(self):
        state, call = self._function()
        real = [number for number, leaf in enumerate(state) if _is_real(leaf)]

        def loss(chosen: Sequence[Any]) -> jax.Array:
            return _loss(call(_replaced(state, real, chosen), *self.inputs())[0])

        _assert_finite(jax.grad(loss)([state[number] for number in real]))

    def test_vmap_equals_one_after_the_other(self):
        state, call = self._function()
        stacked = self._stacked()
        mapped = jax.vmap(lambda *inputs: call(state, *inputs)[0])(*stacked)
        for i in range(2):
            alone, _ = call(state, *jax.tree.map(lambda x, i=i: x[i], stacked))
            _assert_same(alone, jax.tree.map(lambda x, i=i: x[i], mapped), self.rtol)

    def test_scan_equals_a_loop(self):
        state, call = self._function()
        looped, outs = state, []
        for _ in range(2):
            out, looped = call(looped, *self.inputs())
            outs.append(out)
        scanned, stacked = jax.lax.scan(lambda carry, _: call(carry, *self.inputs())[::-1], state, length=2)
        _assert_same(_all_numbers(looped), _all_numbers(scanned), self.rtol)
        _assert_same(jax.tree.map(lambda *xs: jnp.stack(xs), *outs), stacked, self.rtol)

    def test_arrays_of_the_host_do_as_well(self):
        state, call = self._function()
        hosted = [np.asarray(leaf) if not jnp.issubdtype(leaf.dtype, jax.dtypes.extended) else leaf for leaf in state]
        _assert_same(call(state, *self.inputs())[0], call(hosted, *self.inputs())[0])

    def test_inputs_of_less_precision_stay_finite(self):
        state, call = self._function()
        out, whole = call(state, *self._of_less_precision())[0], call(state, *self.inputs())[0]
        _assert_finite(out)
        assert jax.tree.map(jnp.shape, out) == jax.tree.map(jnp.shape, whole)

    def test_a_full_mask_changes_nothing(self):
        if not _takes_mask(self.make(1)):
            pytest.skip("the call takes no mask")
        masked = self.make(1)(*self.inputs(), **{**self.kwargs(), "mask": self.full_mask()})
        _assert_same(self.call(self.make(1), *self.inputs()), masked, self.rtol)

    def test_quantized_parameters_are_used_as_arrays_are(self):
        quantized, plain = _quantized(self.make(1))
        _assert_same(self.call(plain, *self.inputs()), self.call(quantized, *self.inputs()), 1e-2)

    def _function(self) -> tuple[list[Any], Any]:
        """Returns the leaves of a layer, and its call as a function of these, which gives them back."""
        found, structure = jax.tree_util.tree_flatten_with_path(self.make(1))

        def call(state: Sequence[Any], *inputs: Any) -> tuple[Any, list[Any]]:
            layer = jax.tree.unflatten(structure, state)
            out = self.call(layer, *inputs)
            after = dict(jax.tree_util.tree_leaves_with_path(layer))  # which has more where the layer sows
            return out, [after[path] for path, _ in found]

        return [leaf for _, leaf in found], call


def _form(leaf: Any) -> tuple[Any, Any]:
    return jnp.shape(leaf), leaf.dtype


def _replaced(state: Sequence[Any], numbers: Sequence[int], values: Sequence[Any]) -> list[Any]:
    new = dict(zip(numbers, values, strict=True))
    return [new.get(number, leaf) for number, leaf in enumerate(state)]


def _all_numbers(state: Sequence[Any]) -> list[Any]:
    return [_numbers(leaf) for leaf in state]


def _numbers(leaf: Any) -> Any:
    return jax.random.key_data(leaf) if jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key) else leaf
