"""Ways to call a compiled train step of modules, and transforms outside of one.

A train step by position, by name, in containers, donated, with shardings, as a bound method: each against `jax.jit` of
the same computation on the flat list of the same arrays, called plainly. Transforms called outside of jit: the second
call against the function of JAX on the same arrays.
"""

import types
from collections.abc import Callable, Iterator
from typing import Any

import fx_nnx as nnx
import jax
import jax.numpy as jnp
import optax
from jax.sharding import SingleDeviceSharding

from benchmarks.measure import Ratio, interleaved
from benchmarks.nnx_step import WIDTH, network, raw_stepper, train_step

DEPTH, ROUNDS = 8, 301


def ways() -> dict[str, tuple[dict[str, Any], Callable[..., Any] | None]]:
    """For each way the options of jit, and how the step is called; None as a method of the model."""
    here = SingleDeviceSharding(jax.devices()[0])
    each = nnx.StateSharding({nnx.Param: here, ...: None})
    return {
        "positions": ({}, lambda step, model, optimizer, x, y: step(model, optimizer, x, y)),
        "after eval() and train()": ({}, lambda step, model, optimizer, x, y: step(model, optimizer, x, y)),
        "names": ({}, lambda step, model, optimizer, x, y: step(model=model, optimizer=optimizer, x=x, y=y)),
        "a batch in a dictionary": ({}, lambda step, model, optimizer, x, y: step(model, optimizer, {"x": x, "y": y})),
        "donated": ({"donate_argnums": (0, 1)}, lambda step, *args: step(*args)),
        "as a bound method": ({}, None),
        "with in_shardings": ({"in_shardings": (each, each, here, here)}, lambda step, *args: step(*args)),
    }


def step_of(model: Any, optimizer: Any, x: Any, y: Any = None) -> Any:
    """The step, whose batch may be a dictionary."""
    x, y = (x["x"], x["y"]) if y is None else (x, y)
    return train_step(nnx)(model, optimizer, x, y)


LENGTH = 16


def eager() -> dict[str, tuple[Callable[..., Any], Callable[..., Any]]]:
    """For each transform a function of a layer and arrays, and the same by JAX of the arrays of the layer."""

    def body(layer: Any, c: Any, x: Any) -> Any:
        return jnp.tanh(layer(c) + x), c

    def raw(params: Any, c: Any, x: Any) -> Any:
        return jnp.tanh(c @ params[1] + params[0] + x), c

    def double(layer: Any, x: Any) -> Any:
        return layer(x) * 2

    def plain(layer: Any, x: Any) -> Any:
        return layer(x)

    def loss(layer: Any, x: Any) -> Any:
        return layer(x).sum()

    def raw_of(scale: float) -> Callable[..., Any]:
        return lambda params, x: (x @ params[1] + params[0]) * scale

    def raw_loss(params: Any, x: Any) -> Any:
        return raw_plain(params, x).sum()

    raw_double, raw_plain = raw_of(2.0), raw_of(1.0)
    xs = jnp.ones((LENGTH, 4, WIDTH))
    loop = nnx.scan(body, in_axes=(None, nnx.Carry, 0), out_axes=(nnx.Carry, 0))
    step = lambda i, state: (state[0], jnp.tanh(state[0](state[1])))  # noqa: E731
    raw_step = lambda i, state: (state[0], jnp.tanh(raw_plain(state[0], state[1])))  # noqa: E731
    again = lambda state: state[0] < LENGTH  # noqa: E731
    advance = lambda state: (state[0] + 1, *step(0, state[1:]))  # noqa: E731
    raw_advance = lambda state: (state[0] + 1, *raw_step(0, state[1:]))  # noqa: E731
    zero = jnp.array(0)

    def raw_scan(params: Any, x: Any) -> Any:
        return jax.lax.scan(scan_body, (params, x), xs)

    def scan_body(state: Any, x: Any) -> Any:
        c, y = raw(state[0], state[1], x)
        return (state[0], c), y

    mapped, raw_mapped = nnx.vmap(plain, in_axes=(None, 0)), jax.vmap(raw_plain, in_axes=(None, 0))
    derived, raw_derived = nnx.grad(loss), jax.grad(raw_loss)
    return {
        "scan": (lambda layer, x: loop(layer, x, xs), raw_scan),
        "cond": (
            lambda layer, x: nnx.cond(True, double, plain, layer, x),
            lambda params, x: jax.lax.cond(True, raw_double, raw_plain, params, x),
        ),
        "fori_loop": (
            lambda layer, x: nnx.fori_loop(0, LENGTH, step, (layer, x)),
            lambda params, x: jax.lax.fori_loop(0, LENGTH, raw_step, (params, x)),
        ),
        "while_loop": (
            lambda layer, x: nnx.while_loop(again, advance, (zero, layer, x)),
            lambda params, x: jax.lax.while_loop(again, raw_advance, (zero, params, x)),
        ),
        "vmap": (mapped, raw_mapped),
        "grad": (derived, raw_derived),
    }


def values(out: Any) -> Any:
    """The arrays of a result, which may have modules."""
    return [leaf for leaf in jax.tree.leaves(out) if isinstance(leaf, jax.Array)]


def cases() -> Iterator[Ratio]:
    """Rows of the table."""
    layer, x = nnx.Linear(WIDTH, WIDTH, rngs=nnx.Rngs(0)), jnp.ones((4, WIDTH))
    params = [layer.bias[...], layer.kernel[...]]
    for name, (call, raw_call) in eager().items():
        yield interleaved(
            f"{name} outside of jit, second call",
            lambda call=call: jax.block_until_ready(values(call(layer, x))),
            lambda raw_call=raw_call: jax.block_until_ready(raw_call(params, x)),
            rounds=ROUNDS // 3,
            aim=1.5,
        )
    x, y = jnp.ones((4, WIDTH)), jnp.ones((4, WIDTH))
    raw = raw_stepper(DEPTH, x, y)
    for name, (options, call) in ways().items():
        model = network(nnx, DEPTH)
        optimizer = nnx.Optimizer(model, optax.adam(1e-3), wrt=nnx.Param)
        if call is None:
            step, call = nnx.jit(types.MethodType(step_of, model)), lambda step, model, *args: step(*args)
        else:
            step = nnx.jit(step_of, **options)
        if name == "after eval() and train()":  # as from the second epoch on
            model.train()
            step(model, optimizer, x, y)
            model.eval()
            model.train()

        def ours(step: Any = step, call: Any = call, model: Any = model, optimizer: Any = optimizer) -> object:
            return jax.block_until_ready(call(step, model, optimizer, x, y))

        yield interleaved(f"train step of {DEPTH} layers, {name}", ours, raw, rounds=ROUNDS, aim=1.5)
