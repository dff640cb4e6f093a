"""A `jax.Ref` that no variable holds, in several places of a model: it is one leaf, as a variable is."""

import fx_nnx as nnx
import jax
import jax.numpy as jnp
import pytest
from fx_nnx.errors import NnxError, SharedReferenceError
from fx_nnx.transforms.references import RefMap


def new(value=1.0):
    return jax.new_ref(jnp.array(value))


class Model(nnx.Module):
    def __init__(self):
        self.a = self.b = new()
        self.c, self.items = new(2.0), nnx.data([self.a, jnp.zeros(2)])


def test_state_has_it_once():
    model, numbers = Model(), RefMap()
    graphdef, state = nnx.split(model)
    assert [path for path, _ in nnx.to_flat_state(state)] == [("a",), ("c",), ("items", 1)]
    assert graphdef == nnx.graphdef(Model())
    made = nnx.merge(graphdef, jax.tree.map(lambda x: x, state))
    assert made.a is made.b is made.items[0] is model.a
    nnx.flatten(model, ref_index=numbers)
    assert len(numbers) == 3  # the model and two references
    with nnx.split_context() as ctx:
        parts = ctx.split(model), ctx.split({"again": model.a})
    assert parts[1][0].num_leaves == 0
    with nnx.merge_context() as ctx:
        first, second = ctx.merge(*parts[0]), ctx.merge(*parts[1])
    assert second["again"] is first.a
    with pytest.raises(SharedReferenceError, match="at /a and /b"):
        nnx.split(model, graph=False)


def test_structure_is_never_older_than_the_model():
    model = nnx.Dict(a=jnp.ones(()), b=jnp.ones(()), items=nnx.data([jnp.ones(())]))
    counts = [len(nnx.state(model))]
    model.a = model.b = ref = new()
    counts.append(len(nnx.to_flat_state(nnx.state(model))))
    model["items"][0] = ref
    counts.append(len(nnx.to_flat_state(nnx.state(model))))
    model.b = jnp.zeros(())
    counts.append(len(nnx.to_flat_state(nnx.state(model))))
    assert counts == [3, 2, 1, 2]


@pytest.mark.parametrize("options", [{}, {"graph_updates": False}])
def test_transforms_take_it(options):
    def write(model, other):
        model.a[...] += other["again"]["ref"][...]
        return model.b[...] + model["items"][0][...]

    model = nnx.Dict(a=new(), items=nnx.data([None, jnp.zeros(2)]))
    model.b = model["items"][0] = model.a
    assert nnx.jit(write, **options)(model, {"again": nnx.Dict(ref=model.b)}) == 4
    assert model.a is model.b is model["items"][0]
    assert nnx.vmap(lambda m, x: m.a[...] * m.b[...] + x, in_axes=(None, 0), **options)(model, jnp.ones(1)) == 5
    assert nnx.grad(lambda x, m: x * m.a[...] * m.b[...], **options)(jnp.ones(()), model) == 4


def test_jit_changes_which_reference_is_where():
    @nnx.jit
    def change(model):
        model.a, model.c = model.c, model.a
        model.b = new(5.0)
        return nnx.Dict(same=model.a, new=model.b)

    model = Model()
    first, second = model.a, model.c
    for before, after in ((first, second), (second, first)):
        assert model.a is before
        out = change(model)
        assert model.a is out["same"] is after
        assert model.c is before
        assert model.b is out["new"]
    assert model.items[0] is first
    assert nnx.jit(lambda model: nnx.Dict(r=model.b))(model)["r"] is model.b


@pytest.mark.parametrize("path", ["a", "b"])
def test_update_writes_into_it(path):
    model = Model()
    ref = model.a
    nnx.update(model, {path: jnp.array(3.0)})
    assert model.a is model.b is model.items[0] is ref
    assert ref[...] == 3
    nnx.update(model, nnx.state(Model()))
    assert model.a is ref
    assert ref[...] == 1
    with pytest.raises(NnxError, match="shape"):
        nnx.update(model, {path: jnp.ones(3)})
