"""What a layer costs, counted exactly, so that it cannot grow unseen: a change here is a decision."""

import collections
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import fx_linen as nn
import jax
import jax.numpy as jnp
import pytest


class Stack(nn.Module):
    depth: int

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        for _ in range(self.depth):
            x = nn.relu(nn.Dense(2)(x))
        return x


def by_hand(params: Any, x: jax.Array) -> jax.Array:
    for layer in params.values():
        x = jax.nn.relu(x @ layer["kernel"] + layer["bias"].reshape(1, -1))
    return x


def calls_of_fx(function: Callable[[], Any]) -> int:
    """Counts the calls of functions of fx; comprehensions are calls in some versions of Python only."""
    called: collections.Counter[str] = collections.Counter()

    def profile(frame: Any, event: str, argument: Any) -> None:
        code = frame.f_code
        if event == "call" and not code.co_name.startswith("<"):
            called[next((part for part in Path(code.co_filename).parts if part.startswith("fx_")), "")] += 1

    sys.setprofile(profile)
    try:
        function()
    finally:
        sys.setprofile(None)
    return sum(count for package, count in called.items() if package)


def equations(jaxpr: Any) -> int:
    """Counts the equations of a jaxpr and of those inside it."""
    inner = [part for equation in jaxpr.eqns for part in equation.params.values() if hasattr(part, "jaxpr")]
    return len(jaxpr.eqns) + sum(equations(part.jaxpr) for part in inner)


def test_calls_in_python_of_one_more_layer():
    x, counts = jnp.ones((1, 2)), []
    for depth in (2, 3, 4):
        model = Stack(depth)
        variables = model.init(jax.random.key(0), x)
        jax.make_jaxpr(model.apply)(variables, x)  # what is found out once per class and per shape
        counts.append(calls_of_fx(lambda m=model, v=variables: jax.make_jaxpr(lambda v, x: m.apply(v, x))(v, x)))
    assert counts[2] - counts[1] == counts[1] - counts[0] == 74


def test_no_equation_more_than_by_hand():
    x, model = jnp.ones((1, 2)), Stack(3)
    variables = model.init(jax.random.key(0), x)
    ours = jax.make_jaxpr(model.apply)(variables, x)
    assert equations(ours.jaxpr) == equations(jax.make_jaxpr(by_hand)(variables["params"], x).jaxpr)


def test_equations_that_init_records_for_one_more_layer():
    x, key = jnp.ones((1, 2)), jax.random.key(0)
    counts = [len(jax.make_jaxpr(Stack(depth).init)(key, x).eqns) for depth in (1, 2)]
    # One key, four to draw (which JAX 0.12 has as one until it lowers them), and the four of the layer; the bias is
    # that of the first layer, and a key for it is counted and not derived.
    assert counts[1] - counts[0] in (5 + 4, 2 + 4)


@pytest.mark.parametrize("depth", [1, 4])
def test_init_compiles_one_program_and_the_second_one_none(depth: int):
    compiled: list[str] = []

    def listen(event: str, duration_secs: float, **details: Any) -> None:
        if event == "/jax/core/compile/backend_compile_duration":
            compiled.append(event)

    x, key = jnp.ones((1, 2)), jax.random.key(0)
    jax.block_until_ready((x, key))
    jax.clear_caches()
    jax.monitoring.register_event_duration_secs_listener(listen)
    try:
        Stack(depth).init(key, x)
        assert len(compiled) == 1
        Stack(depth).init(key, x)
        assert len(compiled) == 1
    finally:
        jax.monitoring.unregister_event_duration_listener(listen)
