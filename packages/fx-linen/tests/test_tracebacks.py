"""Tracebacks of users' mistakes show the users' lines, without frames of fx in between."""

import os
import traceback

import fx_core
import fx_linen as nn
import fx_transforms
import jax
import jax.numpy as jnp
import pytest
from fx_core import traceback_util

KEY, X = jax.random.key(0), jnp.ones((2, 4))
OURS = tuple(os.path.dirname(package.__file__) + os.sep for package in (fx_core, fx_transforms, nn))


class Layer(nn.Module):
    """A layer whose user makes a mistake."""

    mistake: str = "none"

    @nn.compact
    def __call__(self, x):
        x = nn.Dense(4)(x)
        return MISTAKES[self.mistake](self, x)


def add_seven(module, x):
    return module(x) + jnp.ones(7)


def fail(module, x):
    raise RuntimeError("mine")


def own_layer(module, x):
    class Inner(nn.Module):
        @nn.compact
        def __call__(self, x):
            return nn.Dense(3)(x.reshape(5))

    return nn.Sequential([nn.Dense(4), Inner()])(x)


MISTAKES = {
    "none": lambda m, x: x,
    "own error": fail,
    "misspelt attribute": lambda m, x: m.kernel(x),
    "assigned attribute": lambda m, x: setattr(m, "size", 3),
    "name twice": lambda m, x: nn.Dense(3, name="Dense_0")(x),
    "parameter twice": lambda m, x: [m.param("w", nn.initializers.ones, ()) for _ in range(2)],
    "shape": lambda m, x: x.reshape(5),
    "shape, deeper": own_layer,
    "function of a list": lambda m, x: nn.Sequential([nn.relu, lambda x: x @ jnp.ones(9)])(x),
    "inside jit": lambda m, x: nn.jit(add_seven)(nn.Dense(4), x),
    "inside remat": lambda m, x: nn.remat(add_seven)(nn.Dense(4), x),
    "inside vmap": lambda m, x: nn.vmap(add_seven, variable_axes={"params": 0}, split_rngs={"params": True})(
        nn.Dense(4), x
    ),
    "inside scan": lambda m, x: nn.scan(lambda m, c, _: (c[:1], None), variable_broadcast="params", length=3)(
        nn.Dense(4), x, None
    ),
    "inside cond": lambda m, x: nn.cond(True, add_seven, add_seven, nn.Dense(4), x),
    "collection not lifted": lambda m, x: nn.vmap(nn.Dense, variable_axes={}, split_rngs={})(3)(x),
    "missing variable": lambda m, x: m.variable("stats", "mean").value,
    "wrong mask": lambda m, x: nn.LayerNorm()(x, mask=jnp.ones((5,))),
    "two of one argument": lambda m, x: nn.Dropout(0.5, deterministic=True)(x, deterministic=True),
}

VARIABLES = Layer().init(KEY, X)
CALLS = {
    "other shape": lambda: Layer().apply(VARIABLES, jnp.ones((2, 7))),
    "other shape, in jit": lambda: jax.jit(Layer().apply)(VARIABLES, jnp.ones((2, 7))),
    "no parameters": lambda: Layer().apply({}, X),
    "no key": lambda: nn.Dropout(0.5, deterministic=False).apply({}, X),
    "seed as key": lambda: Layer().init(3, X),
    "missing argument": lambda: Layer().apply(VARIABLES),
    "unknown method": lambda: Layer().apply(VARIABLES, X, method="forward"),
    "in a table": lambda: Layer("own error").tabulate(KEY, X),
    "in a function": lambda: nn.init(fail, Layer())(KEY, X),
}


def frames_of(run):
    with pytest.raises(Exception) as caught:
        run()
    return [frame.filename for frame in traceback.extract_tb(caught.value.__traceback__)]


@pytest.mark.parametrize("mistake", [name for name in MISTAKES if name != "none"])
def test_mistakes_in_methods(mistake):
    frames = frames_of(lambda: Layer(mistake).init(KEY, X))
    assert not [name for name in frames if name.startswith(OURS)]
    assert frames.count(__file__) >= 3  # the call of init, and the line in the method


@pytest.mark.parametrize("mistake", CALLS)
def test_mistakes_in_calls(mistake):
    assert not [name for name in frames_of(CALLS[mistake]) if name.startswith(OURS)]


def test_so_many_mistakes_are_tried():
    assert len(MISTAKES) - 1 + len(CALLS) == 26


def test_frames_can_be_shown():
    run = lambda: Layer("own error").init(KEY, X)  # noqa: E731
    traceback_util.show_fx_in_tracebacks()
    try:
        assert [name for name in frames_of(run) if name.startswith(OURS)]
    finally:
        traceback_util.hide_fx_in_tracebacks()
    assert not [name for name in frames_of(run) if name.startswith(OURS)]
    before = jax.config.jax_traceback_filtering
    jax.config.update("jax_traceback_filtering", "off")
    try:
        assert [name for name in frames_of(run) if name.startswith(OURS)]
    finally:
        jax.config.update("jax_traceback_filtering", before)
