"""What is kept of a model as a tree is never older than the model."""

import fx_nnx as nnx
import jax.numpy as jnp
import pytest
from fx_nnx.errors import SharedReferenceError


class Block(nnx.Module):
    def __init__(self):
        self.a, self.b = nnx.Param(jnp.ones(2)), nnx.Param(jnp.zeros(2))


class Model(nnx.Module):
    def __init__(self):
        self.blocks = nnx.List([Block(), Block()])
        self.name = "model"


def test_the_structure_is_found_once():
    model = Model()
    first, second = (nnx.split(model, graph=False)[0] for _ in range(2))
    assert first is second


@pytest.mark.parametrize(
    "change",
    [
        lambda model: setattr(model.blocks[1], "c", nnx.Param(jnp.ones(3))),
        lambda model: delattr(model.blocks[0], "b"),
        lambda model: model.blocks.append(Block()),
        lambda model: setattr(model, "name", "other"),
        lambda model: model.blocks[0].a.set_metadata("tag", 1),
    ],
    ids=["added", "deleted", "appended", "static", "metadata"],
)
def test_changes_are_seen(change):
    model = Model()
    before = nnx.split(model, graph=False)[0]
    change(model)
    after, state = nnx.split(model, graph=False)
    assert after != before
    assert after == nnx.split(nnx.clone(model), graph=False)[0]
    assert len(nnx.to_flat_state(state)) == len(nnx.to_flat_state(nnx.state(model)))


def test_what_becomes_shared_is_refused():
    model = Model()
    nnx.split(model, graph=False)
    model.blocks[1].a = model.blocks[0].a
    for call in (nnx.split, nnx.clone, nnx.state):
        with pytest.raises(SharedReferenceError):
            call(model, graph=False)


def test_new_values_are_taken_and_clones_are_apart():
    model = Model()
    nnx.clone(model, graph=False)
    model.blocks[0].a[...] = jnp.full(2, 5.0)
    copy = nnx.clone(model, graph=False)
    assert copy.blocks[0].a[0] == 5.0
    copy.blocks[0].a[...] = jnp.zeros(2)
    assert model.blocks[0].a[0] == 5.0
