import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from fx_core.ops import linear, norm, recurrent
from fx_core.ops import recorded as recorded_module
from fx_core.ops.attention import dot_product_attention
from fx_core.ops.recorded import recorded_once

IMAGES, VECTOR = np.ones((2, 3, 3, 4), np.float32), np.ones(4, np.float32)
QUERY = np.ones((2, 3, 2, 4), np.float32)
STEP, CARRY = np.ones((2, 3), np.float32), np.ones((2, 4), np.float32)
MAPS = (np.ones((3, 4), np.float32), np.ones((4, 4), np.float32), VECTOR)


def gates_of(maps: tuple[Any, ...]) -> tuple[list[recurrent.Affine], list[recurrent.Affine]]:
    """Returns the maps of the inputs, which have no bias, and those of the carry."""
    return [recurrent.Affine(kernel) for kernel in maps[::3]], [
        recurrent.Affine(*m) for m in zip(maps[1::3], maps[2::3])
    ]


OPERATIONS: dict[str, tuple[Callable[..., Any], tuple[Any, ...]]] = {
    "dense": (linear.dense, (IMAGES, np.ones((4, 2), np.float32), np.ones(2, np.float32))),
    "layer_norm": (functools.partial(norm.layer_norm, norm.plan_layer_norm(4)), (IMAGES, VECTOR, VECTOR)),
    "rms_norm": (functools.partial(norm.layer_norm, norm.plan_layer_norm(4), use_mean=False), (IMAGES, VECTOR)),
    "batch_norm": (functools.partial(norm.batch_norm, norm.plan_batch_norm(4)), (IMAGES, *[VECTOR] * 4)),
    "group_norm": (functools.partial(norm.group_norm, norm.plan_group_norm(IMAGES.shape, 2)), (IMAGES, VECTOR, VECTOR)),
    "moments": (functools.partial(norm.moments, axes=(0, 1)), (IMAGES,)),
    "attention": (functools.partial(dot_product_attention, is_causal=True), (QUERY, QUERY, QUERY)),
    "lstm update": (recurrent.lstm_update, (VECTOR,) * 5),
    "lstm": (lambda x, c, h, *maps: recurrent.lstm((c, h), x, *gates_of(maps)), (STEP, CARRY, CARRY, *MAPS * 4)),
    "gru": (lambda x, h, *maps: recurrent.gru(h, x, *gates_of(maps)), (STEP, CARRY, *MAPS * 3)),
}


class Counted:
    """A function of an array that knows how often it ran."""

    def __init__(self) -> None:
        self.calls = 0

    def __call__(self, x: jax.Array, y: Any = None, *, by: Any = 2.0) -> jax.Array:
        self.calls += 1
        return x * by


@pytest.mark.parametrize("name", OPERATIONS)
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("axes", [None, (0, 0), (0, None), (1, 0)], ids=str)
def test_the_program_is_that_of_calling_the_function(
    name: str, dtype: str, axes: tuple[int | None, int | None] | None, monkeypatch: pytest.MonkeyPatch
):
    operation, arrays = OPERATIONS[name]
    arrays = tuple(array.astype(dtype) for array in arrays)
    if axes is not None:
        along = (axes[0], *[axes[1]] * (len(arrays) - 1))
        arrays = tuple(a if axis is None else np.stack([a] * 3, axis) for a, axis in zip(arrays, along))
        operation = jax.vmap(operation, along)

    def twice(*arrays: Any) -> Any:
        with jax.named_scope("first"):
            first = operation(*arrays)
        with jax.named_scope("second"):
            return first, operation(*arrays)

    recorded = jax.make_jaxpr(twice)(*arrays)
    monkeypatch.setattr(recorded_module, "tracing", lambda: False)
    plain = jax.make_jaxpr(lambda *arrays: twice(*arrays))(*arrays)
    assert str(recorded) == str(plain)
    assert [str(eqn.source_info.name_stack) for eqn in recorded.eqns] == [
        str(eqn.source_info.name_stack) for eqn in plain.eqns
    ]


def test_a_function_runs_once_for_all_calls_that_are_alike():
    function = Counted()

    def layers(x: Any, y: Any) -> Any:
        for _ in range(3):
            x = recorded_once(function, (x, None), {"by": 2.0})
        return x, recorded_once(function, (y, None), {"by": 2.0})

    for expected, y in enumerate((jnp.ones(2), jnp.ones(3), jnp.ones(2, jnp.bfloat16)), 1):
        jax.make_jaxpr(layers)(jnp.ones(2), y)
        assert function.calls == expected


def test_numbers_that_are_equal_and_of_other_types_make_other_programs():
    function, x = Counted(), jnp.ones(2, jnp.bfloat16)
    for by, dtype in ((2.0, "bfloat16"), (2, "bfloat16"), (np.float32(2), "float32"), (2.0, "bfloat16")):
        out = jax.eval_shape(lambda x, by=by: recorded_once(function, (x,), {"by": by}), x)
        assert out.dtype == dtype
    assert function.calls == 3


@pytest.mark.parametrize(
    "transform",
    [
        lambda f: f,
        lambda f: lambda x: jax.vmap(f)(x),
        lambda f: jax.jit(lambda x: jax.jvp(f, (x,), (x,))),
        lambda f: jax.jit(lambda x: jax.vmap(lambda x: jax.jvp(f, (x,), (x,)))(x)),
    ],
    ids=["computing", "vmap", "jvp", "vmap of jvp"],
)
def test_elsewhere_the_function_is_called(transform: Callable[..., Any]):
    function = Counted()
    transform(lambda x: recorded_once(function, (recorded_once(function, (x,), {}),), {}))(jnp.ones(2))
    assert function.calls == 2


def test_options_without_a_hash_are_handed_on():
    function, by = Counted(), np.full(2, 3.0, np.float32)
    out = jax.jit(lambda x: recorded_once(function, (x,), {"by": by}))(jnp.ones(2))
    np.testing.assert_array_equal(out, by)


def test_a_replaced_multiplication_is_used_in_each_layer(monkeypatch: pytest.MonkeyPatch):
    def layers(x: jax.Array, kernel: jax.Array) -> jax.Array:
        return linear.dense(linear.dense(x, kernel), kernel)

    x, kernel, plain, seen = jnp.ones((1, 2)), jnp.ones((2, 2)), jax.lax.dot_general, list[Any]()
    assert [eqn.primitive.name for eqn in jax.make_jaxpr(layers)(x, kernel).eqns] == ["dot_general"] * 2
    monkeypatch.setattr(jax.lax, "dot_general", lambda *args, **kw: seen.append(args) or plain(*args, **kw))
    jax.make_jaxpr(lambda x, kernel: layers(x, kernel))(x, kernel)
    assert len(seen) == 2


def refuse(*args: Any, **options: Any) -> jax.Array:
    raise RuntimeError("asked")


def test_replaced_code_of_a_multiplication_is_used_in_each_layer(monkeypatch: pytest.MonkeyPatch):
    x, kernel = jnp.ones((1, 2)), jnp.ones((2, 2))
    jax.make_jaxpr(lambda x, kernel: linear.dense(x, kernel))(x, kernel)
    monkeypatch.setattr(jax.lax.dot_general, "__code__", refuse.__code__)
    with pytest.raises(RuntimeError, match="asked"):
        jax.make_jaxpr(lambda x, kernel: linear.dense(x, kernel))(x, kernel)


def test_numbers_and_gradients_are_those_of_computing():
    operation, arrays = OPERATIONS["layer_norm"]
    x = jnp.asarray(np.random.default_rng(0).normal(size=IMAGES.shape), jnp.float32)

    def loss(x: jax.Array) -> jax.Array:
        return (operation(operation(x, *arrays[1:]), *arrays[1:]) ** 3).sum()

    np.testing.assert_allclose(jax.jit(loss)(x), loss(x), rtol=1e-5)
    # Recorded within the function that is differentiated.
    np.testing.assert_allclose(jax.grad(jax.jit(loss))(x), jax.grad(loss)(x), rtol=1e-4, atol=1e-5)
