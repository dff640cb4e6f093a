"""Tables of references: flatten and unflatten with them, contexts, trees that stand for objects."""

import fx_nnx as nnx
import jax
import jax.numpy as jnp
import pytest
from fx_core.errors import InvalidAttributeError
from fx_nnx.errors import NnxError
from fx_nnx.transforms.references import RefMap
from fx_transforms.errors import TransformError


class Net(nnx.Module):
    def __init__(self):
        self.a, self.b, self.n = nnx.Param(jnp.ones(2)), nnx.BatchStat(jnp.zeros(2)), 0


def test_flatten_and_unflatten_refer_to_what_is_known():
    model, refs, made = Net(), RefMap(), {}
    graphdef, flat = nnx.flatten(model, ref_index=refs)
    assert len(refs) == 3
    assert refs[model.a] == 1
    assert model.b in refs
    again, nothing = nnx.flatten(model.a, ref_index=refs, with_paths=False)
    assert nothing == []
    first = nnx.unflatten(graphdef, flat, index_ref=made)
    assert nnx.unflatten(again, nothing, index_ref=made) is first.a
    inner, leaves = nnx.flatten(model, ref_outer_index=refs)
    assert inner.outer == ((0, 0), (1, 1), (2, 2))
    assert inner.with_no_outer_index() == graphdef
    assert graphdef.with_same_outer_index() == graphdef.with_matching_outer_index(inner) == inner
    assert inner != graphdef
    changed = {number: ref for ref, number in refs.pairs()}
    values = [leaf.replace(leaf + 1) for _, leaf in leaves]
    assert nnx.unflatten(inner, values, outer_index_outer_ref=changed) is model
    assert float(model.a[0]) == 2
    assert nnx.unflatten(inner, [jnp.zeros(2)] * 2, outer_index_outer_ref=changed).a is model.a
    assert float(model.a[0]) == 0
    del refs[model.a]
    assert len(list(refs)) == 2


@nnx.update_context("step")
def changed_inside(model):
    with nnx.split_context("step") as ctx:
        graphdef, params, rest = ctx.split(model, nnx.Param, ...)
        assert ctx.flatten(model.a, with_paths=False)[1] == []
    with nnx.merge_context("step", inner=True) as ctx:
        inner = ctx.merge(graphdef, params, rest)
    inner.n, inner.new, inner.again = 3, nnx.Param(jnp.zeros(1)), inner
    inner.a[...] = inner.a * 5
    assert nnx.current_update_context("step").inner_ref_outer_index[inner] == 0
    with nnx.split_context("step") as ctx:
        assert ctx.is_inner
        graphdef, flat = ctx.flatten(inner)
    with pytest.raises(InvalidAttributeError, match="after its block"):  # it keeps nothing alive
        ctx.split(inner)
    with nnx.merge_context("step", inner=False) as ctx:
        return ctx.unflatten(graphdef, flat)


def test_update_contexts_bring_changes_back():
    model = Net()
    a = model.a
    assert changed_inside(model) is model
    assert model.n == 3
    assert model.again is model
    assert model.a is a
    assert float(a[0]) == 5
    assert model.new.shape == (1,)
    with pytest.raises(NnxError, match="There is no update context 'step'"):
        nnx.current_update_context("step")


def test_trees_stand_for_objects_and_keep_references():
    model = Net()
    tree = nnx.to_tree({"model": model, "a": model.a, "x": jnp.ones(3)})
    assert isinstance(tree["model"], nnx.NodeStates)
    assert tree["x"].shape == (3,)
    doubled = nnx.from_tree(jax.jit(lambda t: jax.tree.map(lambda v: 2 * v, t))(tree))
    assert doubled["model"].a is doubled["a"] or doubled["a"] is doubled["model"].a
    assert float(doubled["a"][0]) == 2
    assert tree["model"].replace(metadata="m").metadata == "m"
    states = nnx.NodeStates.from_states(nnx.state(model, nnx.Param), nnx.state(model, nnx.BatchStat))
    with pytest.raises(NnxError, match="no graph definition"):
        _ = states.graphdef
    with pytest.raises(NnxError, match="not exactly one state"):
        _ = states.state
    assert nnx.NodeStates.from_prefixes((0, None)).states == (0, None)


def test_trees_have_prefixes():
    model = Net()
    axes = nnx.StateAxes({nnx.Param: 0, ...: None})

    def split(ctx, path, prefix, leaf):
        return nnx.NodeStates.from_split(*ctx.split(leaf, *prefix.filters), metadata=prefix)

    tree = nnx.to_tree((model, model), prefix=(axes, axes), split_fn=split)
    assert len(tree[0].states) == 2
    seen = []

    def merge(ctx, path, prefix, leaf):
        seen.append(prefix)
        return ctx.merge(leaf.graphdef, *leaf.states)

    first, second = nnx.from_tree(tree, prefix=(1, 2), merge_fn=merge)
    assert first is second
    assert seen == [1, 2]
    with pytest.raises(TransformError, match="to_tree got the same state twice"):
        nnx.to_tree((model, model), prefix=(0, None))
