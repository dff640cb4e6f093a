"""What a call of a transform goes through, counted, so that it cannot grow unseen: a change here is a decision.

`tools/call_counts.py` prints these counts beside those of other calls.
"""

import gc
import os
import sys
from collections.abc import Callable
from typing import Any

import fx_nnx as nnx
import jax
import jax.numpy as jnp
import pytest
from fx_nnx import captures

COMPREHENSIONS = {"<listcomp>", "<dictcomp>", "<setcomp>", "<genexpr>"}


class Model(nnx.Module):
    def __init__(self, size):
        rngs = nnx.Rngs(0)
        self.linear = nnx.Linear(size, size, rngs=rngs)
        self.norm = nnx.LayerNorm(size, rngs=rngs)

    def __call__(self, x):
        return self.norm(self.linear(x))


def counts_of(call: Callable[[], Any]) -> tuple[int, int, int, int]:
    """Counts the functions, files and classes of fx that a call goes through, and the calls of these functions."""
    found = []

    def note(frame: Any, event: str, argument: Any) -> None:
        code = frame.f_code
        # Comprehensions are functions in some versions of Python only.
        if event == "call" and f"{os.sep}fx_" in code.co_filename and code.co_name not in COMPREHENSIONS:
            found.append((code.co_filename, code.co_qualname, code.co_firstlineno))

    gc.collect()
    gc.disable()  # what is collected may call functions of fx
    sys.setprofile(note)
    try:
        call()
    finally:
        sys.setprofile(None)
        gc.enable()
    owners = {(file, name.split(".<locals>")[0].rpartition(".")[0]) for file, name, _ in found}
    files = {file for file, _, _ in found}
    return len(set(found)), len(files), len([owner for _, owner in owners if owner]), len(found)


def jitted():
    return nnx.jit(lambda model, x: model(x))


def scanned():
    body, axes = lambda x, model: (model(x), None), {"in_axes": (nnx.Carry, None), "out_axes": (nnx.Carry, 0)}
    loop = nnx.scan(body, length=3, **axes)
    return lambda model, x: loop(x, model)


@pytest.fixture
def undisturbed(monkeypatch):
    """Without variables that functions of other tests have read from outside, which cost a look each time."""
    monkeypatch.setattr(captures.constants, "ever", False)
    captures.constants.clear()


def scanned_in_jit():
    loop = scanned()
    return nnx.jit(lambda model, x: loop(model, x))


BOUNDS = {jitted: (98, 34, 17, 226), scanned: (135, 44, 21, 323), scanned_in_jit: (148, 42, 21, 1130)}


@pytest.mark.parametrize(("make", "most"), BOUNDS.items(), ids=["jit", "scan", "scan in jit"])
def test_a_first_call_goes_through_no_more_than(make, most, undisturbed):
    jax.clear_caches()  # operations that another test has recorded for the same shapes would not be counted
    make()(Model(3), jnp.ones((4, 3)))  # what is found out once per type does not count
    x, model, transformed = jnp.ones((4, 2)), Model(2), make()
    found = counts_of(lambda: transformed(model, x))
    assert all(now <= bound for now, bound in zip(found, most, strict=True)), found


def test_equations_that_building_records_for_one_more_layer():
    def build(depth):
        rngs = nnx.Rngs(0)
        return nnx.state([nnx.Linear(2, 2, rngs=rngs) for _ in range(depth)])

    counts = [len(jax.make_jaxpr(build, static_argnums=0)(depth).eqns) for depth in (1, 2)]
    # One key and four to draw (which JAX 0.12 has as one until it lowers them); the bias is that of the first layer.
    # Keys are counted without equations, and one for the bias is counted and not derived.
    assert counts[1] - counts[0] in (5, 2)


def test_a_further_call_goes_through_no_more_than(undisturbed):
    x, model, transformed = jnp.ones((4, 2)), Model(2), jitted()
    transformed(model, x)
    transformed(model, x)
    found = counts_of(lambda: transformed(model, x))
    assert all(now <= most for now, most in zip(found, (8, 4, 4, 8))), found


def test_a_further_call_after_the_modes_went_there_and_back_goes_through_no_more_than(undisturbed):
    x, model, transformed = jnp.ones((4, 2)), nnx.Sequential(Model(2), nnx.Dropout(0.5, rngs=nnx.Rngs(0))), jitted()
    model.train()
    transformed(model, x)
    model.eval()
    model.train()  # the structure is looked at again, and found to be that which the function was compiled for
    transformed(model, x)
    transformed(model, x)
    found = counts_of(lambda: transformed(model, x))
    assert transformed._cache_size() == 1
    assert all(now <= most for now, most in zip(found, (15, 8, 7, 17))), found


def test_making_a_variable_goes_through_no_more_than(undisturbed):
    value = jnp.ones(2)
    nnx.Param(value)
    found = counts_of(lambda: nnx.Param(value))
    assert all(now <= most for now, most in zip(found, (15, 10, 3, 16))), found


def test_a_trace_of_a_recurrent_network_goes_through_no_more_than(undisturbed):
    network = nnx.RNN(nnx.LSTMCell(2, 3, rngs=nnx.Rngs(0)), rngs=nnx.Rngs(0))
    graphdef, state = nnx.split(network)
    x = jnp.ones((2, 4, 2))

    def trace():
        return jax.jit(lambda state, x: nnx.merge(graphdef, state, copy=True)(x)).trace(state, x)

    trace()  # the step is recorded once
    found = counts_of(trace)
    assert all(now <= most for now, most in zip(found, (171, 46, 25, 843))), found
