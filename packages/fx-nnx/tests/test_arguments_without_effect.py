"""Arguments that are documented to have no effect: they are few, and nothing depends on them."""

import inspect
import re

import fx_nnx as nnx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from fx_core.errors import ArgumentError


def counted(m, x):
    m.count[...] += 1
    return m.w[...] * x


def model():
    return nnx.Dict(w=nnx.Param(jnp.arange(2.0)), count=nnx.BatchStat(jnp.zeros(())))


def of_pmap(**options):
    m = model()
    out = nnx.pmap(lambda m, x: m.w[...] * x, in_axes=(None, 0), **options)(m, jnp.ones((1, 2)))
    return out, nnx.to_pure_dict(nnx.state(m))


def of_rms_norm(**options):
    return nnx.RMSNorm(3, rngs=nnx.Rngs(0), **options)(jnp.arange(6.0).reshape(2, 3))


def of_with_rngs(**options):
    rngs = nnx.Rngs(0, dropout=1)
    new = nnx.with_rngs(rngs, split={"dropout": 2}, fork="default", **options)
    states = [nnx.to_pure_dict(nnx.state(node)) for node in (rngs, new)]
    return jax.tree.map(lambda x: jax.random.key_data(x) if jnp.issubdtype(x.dtype, jax.dtypes.prng_key) else x, states)


# By the name that is exported, and the argument.
WITHOUT_EFFECT = {
    ("pmap", "donate_argnums"): (of_pmap, ((), 1, (0, 1))),
    ("RMSNorm", "use_fast_variance"): (of_rms_norm, (True, False)),
    ("with_rngs", "graph_updates"): (of_with_rngs, (None, True, False)),
}


@pytest.mark.parametrize(("name", "argument"), WITHOUT_EFFECT)
def test_nothing_depends_on_them(name, argument):
    of, values = WITHOUT_EFFECT[name, argument]
    expected, *others = (of(**{argument: value}) for value in values)
    for other in others:
        jax.tree.map(np.testing.assert_array_equal, expected, other)


def test_they_are_documented_and_there_are_no_others():
    found = {
        (name, argument)
        for name in nnx.__all__
        if callable(public := getattr(nnx, name))
        for argument in re.findall(r"^ *(\w+): no effect", inspect.getdoc(public) or "", re.MULTILINE)
    }
    assert found - {("UpdateContext", "static_cache")} == set(WITHOUT_EFFECT)


@pytest.mark.parametrize("argument", ["graph", "graph_updates"])
def test_cached_arguments_are_treated_as_their_function_does(argument):
    m = model()
    for value in (None, True):
        partial = nnx.cached_partial(nnx.cached_partial(nnx.jit(counted), **{argument: value}), m, **{argument: value})
        np.testing.assert_array_equal(partial(jnp.ones(2)), m.w[...])
    assert float(m.count[...]) == 2
    tree = nnx.jit(counted, **{argument: False})
    nnx.cached_partial(tree, m, **{argument: False})(jnp.ones(2))
    for f, value in ((nnx.jit(counted), False), (tree, True), (nnx.cached_partial(tree), True)):
        with pytest.raises(ValueError, match="cannot change how a compiled function treats modules") as caught:
            nnx.cached_partial(f, m, **{argument: value})
        assert isinstance(caught.value, ArgumentError)
        assert caught.value.got == {argument: value}
