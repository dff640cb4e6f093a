"""Transforms made of two halves, one of which takes modules apart and the other puts them together."""

import functools

import fx_nnx as nnx
import jax
import jax.numpy as jnp
import pytest


class Counter(nnx.Module):
    def __init__(self, shape=()):
        self.count = nnx.BatchStat(jnp.zeros(shape, jnp.int32))

    def __call__(self, x):
        self.count[...] += 1
        return x * self.count


@nnx.merge_inputs
def increment(counter, x):
    return counter(x)


@nnx.merge_inputs
def nothing(counter, x):
    return x


def test_jit_brings_changes_back_and_traces_once():
    traced = []

    @nnx.split_inputs
    @jax.jit
    @nnx.merge_inputs
    def f(counter, x):
        traced.append(x)
        return counter(x)

    counter = Counter()
    assert f(counter, jnp.ones(())) == 1
    assert f(counter, jnp.ones(())) == 2
    assert counter.count[...] == 2
    assert len(traced) == 1
    assert f.__name__ == "f"


@pytest.mark.parametrize("chosen", [True, False])
def test_cond_takes_functions_and_modules(chosen):
    counter = Counter()
    out = nnx.split_inputs(jax.lax.cond)(chosen, increment, nothing, counter, 3.0)
    assert (out, counter.count[...]) == ((3, 1) if chosen else (3, 0))


def test_vmap_describes_arguments_and_result():
    counter, x = Counter((3,)), jnp.arange(3.0)

    @nnx.split_inputs
    @functools.partial(jax.vmap, in_axes=(0, None), out_axes=((0, None), 0))
    @nnx.merge_inputs
    def f(counter, x):
        return nnx.split_inputs(jax.lax.cond)(counter.count > 0, increment, nothing, counter, x.sum())

    counter.count[...] = jnp.array([0, 1, 2])
    assert f(counter, x).tolist() == [3, 6, 9]
    assert counter.count[...].tolist() == [0, 2, 3]


def test_shared_and_new_objects_stay_what_they_are():
    @nnx.split_inputs(ctxtag="own")
    @jax.jit
    @nnx.merge_inputs(ctxtag="own")
    def f(a, b):
        assert a is b
        a.new = nnx.Dict(w=nnx.Param(jnp.ones(2)))
        return a.new, a

    counter = Counter()
    new, same = f(counter, counter)
    assert same is counter
    assert counter.new is new
    assert new.w[...].tolist() == [1, 1]
