"""Tracebacks of users' mistakes show few frames of fx."""

import os
import traceback

import fx_core
import fx_nnx as nnx
import fx_transforms
import jax
import jax.numpy as jnp
import pytest

X = jnp.ones((2, 4))
OURS = tuple(os.path.dirname(package.__file__) + os.sep for package in (fx_core, fx_transforms, nnx))


class Model(nnx.Module):
    def __init__(self, rngs):
        self.layer = nnx.Linear(4, 3, rngs=rngs)

    def __call__(self, x):
        return self.layer(x)


def wrong(model, x):
    return model(x) + jnp.ones(7)


MODEL = Model(nnx.Rngs(0))
MISTAKES = {
    "shape": (lambda: MODEL(jnp.ones((2, 7))), 3),
    "shape, in jit": (lambda: nnx.jit(Model.__call__)(MODEL, jnp.ones((2, 7))), 3),
    "own, in jit": (lambda: nnx.jit(wrong)(MODEL, X), 3),
    "own, in vmap": (lambda: nnx.vmap(wrong, in_axes=(None, 0))(MODEL, X), 3),
    "own, in remat": (lambda: nnx.remat(wrong)(MODEL, X), 3),
    "no number to differentiate": (lambda: nnx.grad(Model.__call__)(MODEL, X), 4),
    "changed carry": (
        lambda: nnx.scan(lambda c, m: (c[:1], None), in_axes=(nnx.Carry, None), out_axes=(nnx.Carry, 0), length=3)(
            X, MODEL
        ),
        6,
    ),
    "misspelt attribute": (lambda: MODEL.kernel, 0),
    "no rngs": (lambda: nnx.Linear(3, 4), 1),
    "no stream": (lambda: nnx.Dropout(0.5, deterministic=False)(X), 2),
    "assigned in a trace": (lambda: jax.jit(lambda x: setattr(MODEL, "extra", nnx.Param(x)))(X), 0),
    "other state": (lambda: nnx.update(MODEL, {"layer": {"kernel": jnp.ones(3)}}), 2),
    "no state": (lambda: nnx.merge(nnx.split(MODEL)[0]), 2),
    "wrong input of a cell": (lambda: nnx.RNN(nnx.LSTMCell(3, 4, rngs=nnx.Rngs(0)))(X), 9),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_frames(mistake):
    run, most = MISTAKES[mistake]
    with pytest.raises(Exception) as caught:
        run()
    frames = [frame.filename for frame in traceback.extract_tb(caught.value.__traceback__)]
    assert len([name for name in frames if name.startswith(OURS)]) <= most
