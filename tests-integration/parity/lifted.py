"""Functions of scopes for both libraries, and how their results are compared: to the bit."""

import flax.core
import flax.core.axes_scan
import flax.core.lift
import flax.core.meta
import fx_core.meta
import fx_core.scope
import fx_transforms.axes_scan
import fx_transforms.lift
import jax
import jax.numpy as jnp
import numpy as np
from jax import random


class Ours:
    lift, meta, axes_scan = fx_transforms.lift, fx_core.meta, fx_transforms.axes_scan
    init, apply = staticmethod(fx_core.scope.init), staticmethod(fx_core.scope.apply)


class Theirs:
    lift, meta, axes_scan = flax.core.lift, flax.core.meta, flax.core.axes_scan
    init, apply = staticmethod(flax.core.init), staticmethod(flax.core.apply)


KEY = random.key(7)
X = jnp.arange(3.0)
XS = jnp.arange(6.0).reshape(2, 3) - 2


def plain(tree):
    """Arrays of a tree in order, keys as their data; boxes by their names."""
    leaves = []
    for path, leaf in jax.tree_util.tree_leaves_with_path(tree):
        if isinstance(leaf, jax.Array) and jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key):
            leaf = random.key_data(leaf)
        leaves.append((jax.tree_util.keystr(path).replace(".value", ""), np.asarray(leaf)))
    return leaves


def check(ours, theirs):
    ours, theirs = plain(ours), plain(theirs)
    assert [path for path, _ in ours] == [path for path, _ in theirs]
    for (path, a), (_, b) in zip(ours, theirs):
        assert a.dtype == b.dtype, path
        np.testing.assert_array_equal(a, b, err_msg=path)


def dense(scope, x, features=2):
    w = scope.param("w", random.normal, (x.shape[-1], features))
    count = scope.variable("state", "n", lambda: jnp.zeros(()))
    count.value = count.value + 1
    return x @ w


def draw(scope, *_):
    return random.key_data(scope.make_rng("params")), random.key_data(scope.push("in").make_rng("noise"))


def in_a(fn):
    """Run in an inner scope that has drawn before, and draw once more afterwards."""

    def wrapped(scope):
        scope = scope.push("a")
        scope.make_rng("params")
        out = fn(scope)
        return out, random.key_data(scope.make_rng("params"))

    return wrapped


RNGS = {"params": KEY, "noise": random.key(1)}
