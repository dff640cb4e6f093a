"""Train steps: options, batches and losses that make no sense."""

import jax
import jax.numpy as jnp
import optax
import pytest
from fx_train.errors import (
    ArgumentError,
    ArgumentTypeError,
    BatchError,
    StateMismatchError,
)
from fx_train.step import Policy, StepState, make_train_step


def loss_fn(params, batch):
    x, y = batch
    hidden = jnp.tanh(x @ params["body"]["w"])
    return jnp.mean((hidden @ params["head"]["w"] - y) ** 2)


def make_params(dtype=jnp.float32):
    one, two = jax.random.split(jax.random.key(0))
    return {"body": {"w": jax.random.normal(one, (3, 4), dtype)}, "head": {"w": jax.random.normal(two, (4,), dtype)}}


def make_state(tx=None, dtype=jnp.float32, **kwargs):
    return StepState.create(params=make_params(dtype), tx=tx or optax.adamw(0.1), **kwargs)


def make_batch(size=8, dtype=jnp.float32):
    return jax.random.normal(jax.random.key(1), (size, 3), dtype), jnp.linspace(-1, 1, size, dtype=dtype)


@pytest.mark.parametrize(
    ("option", "text"),
    [
        ({"accumulate": 0}, "accumulate"),
        ({"clip": 0.0}, "a positive norm"),
        ({"clip": "1"}, "a positive norm"),
        ({"ema": 1.0}, "a decay from 0"),
        ({"policy": "bfloat16"}, "a Policy, such as"),
    ],
)
def test_options_that_make_no_sense(option, text):
    with pytest.raises(ArgumentError, match=text):
        make_train_step(loss_fn, **option)


def test_other_things_that_make_no_step():
    with pytest.raises(ArgumentError, match="a function of parameters and batch\n  got: 3"):
        make_train_step(3)
    for dtype in ("floaty", "int32"):
        with pytest.raises(ArgumentError, match=f"a dtype of floating point for compute\n  got: '{dtype}'"):
            Policy(compute=dtype)


def test_bad_batches():
    with pytest.raises(BatchError, match="cannot be split between 3 equal parts"):
        make_train_step(loss_fn, accumulate=3, weight="examples")(make_state(), make_batch())
    with pytest.raises(BatchError, match=r"shape \(0,\)"):
        make_train_step(loss_fn)(make_state(), make_batch(0))
    with pytest.raises(BatchError, match=r"got: \(8, 3\), \(7,\)"):
        make_train_step(loss_fn, accumulate=2, weight="examples")(make_state(), (make_batch(8)[0], make_batch(7)[1]))
    with pytest.raises(BatchError, match="cannot be split between 3 equal parts"):
        make_train_step(loss_fn, accumulate=3, weight="examples", reproducible=True)(make_state(), make_batch())


@pytest.mark.parametrize(
    ("loss", "text"),
    [
        (lambda p, b: b[1], r"a scalar loss of floating point\n  got: float32 of shape \(8,\)"),
        (lambda p, b: jnp.int32(1), "got: int32 of shape"),
        (lambda p, b: (jnp.float32(1), 2.0), r"expected: loss or \(loss, metrics\)"),
        (lambda p, b, variables: jnp.float32(1), r"expected: \(loss, metrics, variables\)"),
        (
            lambda p, b: (jnp.float32(1), {"loss": 2.0}),
            "names than finite, grad_norm, loss, loss_scale\n  got: loss",
        ),
        (lambda p, b: (jnp.float32(1), {"x": "high"}), "numbers or arrays\n  got: str in 'x'"),
    ],
)
def test_loss_functions_that_give_something_else(loss, text):
    with pytest.raises(ArgumentTypeError, match=text):
        make_train_step(loss)(make_state(variables={"a": jnp.ones(1)}), make_batch())


def test_metrics_of_examples_cannot_be_averaged_over_parts():
    def loss(params, batch):
        return loss_fn(params, batch), {"errors": batch[1]}

    with pytest.raises(ArgumentTypeError, match=r"for parts of a batch\n  got: 'errors' of shape \(4,\)"):
        make_train_step(loss, accumulate=2, weight="examples")(make_state(), make_batch())


def test_fields_that_the_state_lacks():
    with pytest.raises(StateMismatchError, match="The state has no key"):
        make_train_step(lambda p, b, key: jnp.float32(1))(make_state(), make_batch())
    with pytest.raises(StateMismatchError, match="The state has no ema"):
        make_train_step(loss_fn, ema=0.5)(make_state(), make_batch())


def test_gradients_of_another_structure():
    state = make_state()
    with pytest.raises(StateMismatchError, match=r"where: \['head'\]\['w'\]\n  expected: gradients for"):
        state.apply_gradients(grads={"body": state.params["body"], "foot": 1.0})
    with pytest.raises(StateMismatchError, match="a tree like the parameters"):
        state.apply_gradients(grads={**state.params, "foot": 1.0})
    with pytest.raises(StateMismatchError, match=r"where: \['head'\]\['w'\]\n  expected: \(4,\)\n  got: \(1,\)"):
        state.apply_gradients(grads={**state.params, "head": {"w": jnp.ones(1)}})
