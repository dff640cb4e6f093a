"""`current_module` tells libraries whose method is running, and where it is."""

import fx_nnx as nnx
import jax
import jax.numpy as jnp
import pytest


class Spied:
    """Notes, at each product, which module is running."""

    def __init__(self):
        self.seen = []

    def dot(self, *args, **options):
        module, path = nnx.current_module()
        self.seen.append((type(module).__name__, path))
        return jax.lax.dot_general(*args, **options)


class Model(nnx.Module):
    def __init__(self, dot):
        rngs = nnx.Rngs(0)
        self.first = nnx.Linear(2, 2, dot_general=dot, rngs=rngs)
        self.rest = nnx.List([nnx.Linear(2, 2, dot_general=dot, rngs=rngs), lambda x: x])
        self.shared = self.first

    def __call__(self, x):
        return self.shared(self.rest[0](self.first(x)))

    def encode(self, x):
        return self.rest[0](x)


PATHS = [("Linear", ("first",)), ("Linear", ("rest", 0)), ("Linear", ("first",))]
TRANSFORMS = {
    "plain": lambda f: f,
    "jit": nnx.jit,
    "remat": nnx.remat,
    "grad": lambda f: nnx.grad(lambda m, x: f(m, x).sum()),
    "vmap": lambda f: nnx.vmap(f, in_axes=(None, 0)),
}


@pytest.mark.parametrize("name", TRANSFORMS)
def test_the_path_is_that_in_the_model(name):
    spy = Spied()
    TRANSFORMS[name](lambda m, x: m(x))(Model(spy.dot), jnp.ones((1, 2)))
    assert spy.seen[:3] == PATHS


def test_methods_and_layers_alone():
    spy = Spied()
    model = Model(spy.dot)
    model.encode(jnp.ones((1, 2)))
    model.first(jnp.ones((1, 2)))
    assert spy.seen == [("Linear", ("rest", 0)), ("Linear", ())]


def test_nothing_runs_outside_of_modules():
    assert nnx.current_module() is None
