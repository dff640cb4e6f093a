import copy
import gc
import pickle
import weakref

import fx_nnx as nnx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from fx_nnx.errors import ArgumentTypeError, NnxError, SharedReferenceError, StateStructureError


class Block(nnx.Module):
    def __init__(self, rngs):
        self.linear = nnx.Linear(2, 2, rngs=rngs)
        self.norm = nnx.BatchNorm(2, rngs=rngs)

    def __call__(self, x):
        return self.norm(self.linear(x))


class Model(nnx.Module):
    def __init__(self):
        rngs = nnx.Rngs(0)
        self.blocks = nnx.List([Block(rngs) for _ in range(2)])
        self.tied = self.blocks[0].linear.kernel
        self.me = self
        self.table = jnp.arange(3.0)
        self.extra = nnx.data({"p": (nnx.Param(jnp.ones(1)), [jnp.zeros(1), 7])})
        self.size = 3

    def __call__(self, x):
        for block in self.blocks:
            x = block(x)
        return x @ self.tied


def test_split_and_merge_keep_sharing_and_cycles():
    model = Model()
    graphdef, state = nnx.split(model)
    again = nnx.merge(graphdef, state)
    assert again.me is again
    assert again.tied is again.blocks[0].linear.kernel
    assert again.blocks[0].linear.kernel is model.tied  # the variables are those of the state
    assert again.extra["p"][1][1] == 7
    assert nnx.graphdef(again) == graphdef
    assert hash(nnx.graphdef(again)) == hash(graphdef)
    x = jnp.ones((3, 2))
    np.testing.assert_array_equal(nnx.clone(model)(x), nnx.clone(again)(x))


def test_split_by_filters():
    graphdef, params, stats, rest = nnx.split(Model(), nnx.Param, nnx.BatchStat, ...)
    assert set(params.blocks[0]) == {"linear", "norm"}
    assert set(stats.blocks[0]) == {"norm"}
    assert set(rest) == {"table", "extra"}
    again = nnx.merge(graphdef, rest, params, stats)
    assert nnx.graphdef(again) == graphdef
    assert set(nnx.state(again, nnx.BatchStat)) == {"blocks"}
    kernels, biases = nnx.state(again, nnx.PathContains("kernel"), nnx.PathContains("bias"))
    assert len(kernels.flat_state()) == 2
    assert len(biases.flat_state()) == 4
    assert len(nnx.variables(again, nnx.Variable).flat_state()) == 13
    assert nnx.variables(again) == nnx.state(again)  # one function in Flax: bare arrays are in both
    assert "table" in nnx.variables(again)


def test_pure_use_with_raw_jax():
    model = Model()
    graphdef, params, rest = nnx.split(model, nnx.Param, ...)
    x = jnp.ones((3, 2))

    @jax.jit
    def step(params, rest):
        def loss(params):
            model = nnx.merge(graphdef, params, rest, copy=True)
            return (model(x) ** 2).sum(), nnx.state(model, nnx.Not(nnx.Param))

        grads, rest = jax.grad(loss, has_aux=True)(params)
        return jax.tree.map(lambda p, g: p - 0.1 * g, params, grads), rest

    new_params, new_rest = step(params, rest)
    nnx.update(model, new_params, new_rest)
    assert float(model.blocks[0].norm.mean[0]) != 0
    assert jax.tree.structure(new_params) == jax.tree.structure(params)


def test_graph_definitions_pass_through_jit():
    graphdef, state = nnx.split(Model())

    @jax.jit
    def f(graphdef, state):
        model = nnx.merge(graphdef, state)
        model.size = 4
        return nnx.split(model)

    new, _ = f(graphdef, state)
    assert new != graphdef
    assert nnx.merge(new, state).size == 4
    assert pickle.loads(pickle.dumps(graphdef)) == graphdef


def test_merge_says_what_does_not_fit():
    graphdef, state = nnx.split(nnx.Linear(1, 1, rngs=nnx.Rngs(0)))
    with pytest.raises(StateStructureError, match=r"no value for a variable.*\n  where: /bias"):
        nnx.merge(graphdef, {"kernel": 1.0})
    with pytest.raises(StateStructureError, match=r"no place for.\n  where: /more"):
        nnx.merge(graphdef, state, {"more": 1.0})
    made = nnx.merge(graphdef, {"kernel": jnp.ones((1, 1)), "bias": jnp.ones(1)})
    assert isinstance(made.kernel, nnx.Param)


def test_clone():
    model = Model()
    other = nnx.clone(model)
    assert other.tied is other.blocks[0].linear.kernel
    assert other.tied is not model.tied
    assert other.tied.get_value() is model.tied.get_value()
    assert nnx.clone(model, arrays=True).tied.get_value() is not model.tied.get_value()
    assert nnx.clone(model, variables=False).tied is model.tied


def test_flatten_and_call():
    model = nnx.Linear(2, 2, rngs=nnx.Rngs(0))
    graphdef, flat = nnx.flatten(model)
    assert flat.paths == (("bias",), ("kernel",))
    assert nnx.unflatten(graphdef, flat).kernel is model.kernel
    _, leaves = nnx.flatten(model, with_paths=False)
    assert nnx.unflatten(graphdef, leaves, copy_variables=True).kernel is not model.kernel
    out, (graphdef2, state) = nnx.call(nnx.split(model))(jnp.ones((1, 2)))
    np.testing.assert_array_equal(out, model(jnp.ones((1, 2))))
    assert graphdef2 == graphdef
    assert graphdef.apply(state)(jnp.ones((1, 2)))[0].shape == (1, 2)


def test_pytrees_of_models():
    a = nnx.Linear(1, 1, rngs=nnx.Rngs(0))
    graphdef, state = nnx.split({"x": a, "y": [a, jnp.ones(2)]})
    made = nnx.merge(graphdef, state)
    assert made["x"] is made["y"][0]


def test_shared_references_can_be_refused():
    shared = nnx.Param(1.0)
    model = nnx.Dict(a=shared, b=nnx.Dict(c=shared))
    with pytest.raises(SharedReferenceError, match="at /a and /b/c"):
        nnx.split(model, graph=False)
    assert nnx.find_duplicates(model) == [[("a",), ("b", "c")]]
    assert nnx.find_duplicates(model, only=nnx.Module) == []


def test_pop_and_iteration():
    model = Model()
    stats = nnx.pop(model, nnx.BatchStat)
    assert len(stats.flat_state()) == 4
    assert not hasattr(model.blocks[1].norm, "mean")
    paths = [path for path, _ in nnx.iter_modules(model)]
    assert paths[-1] == ()
    assert ("blocks", 0, "linear") in paths
    assert [name for name, _ in nnx.iter_children(model)] == ["blocks", "me", "tied"]
    assert sum(value is model.tied for _, value in nnx.iter_graph(model)) == 1


@pytest.mark.parametrize("graph", [True, False])
def test_children_are_objects_and_variables(graph):
    class Holder(nnx.Module):
        def __init__(self):
            self.scale, self.rngs, self.layers = nnx.Param(jnp.ones(1)), nnx.Rngs(0), nnx.List([nnx.Dropout(0.5)])
            self.plain, self.array = nnx.data({"layer": nnx.Dropout(0.5)}), nnx.data(jnp.ones(1))

    model = Holder()
    children = dict(nnx.iter_children(model, graph=graph))
    assert list(children) == ["layers", "rngs", "scale"]
    assert all(children[name] is getattr(model, name) for name in children)
    assert [name for name, _ in nnx.iter_module_children(model, graph=graph)] == ["layers"]
    assert [name for name, _ in nnx.iter_children(model.plain, graph=graph)] == ["layer"]
    assert [name for name, _ in nnx.iter_children((1.0, model), graph=graph)] == [1]
    for leaf in (model.scale, 1.0, model.array):
        with pytest.raises(NnxError, match="not a graph node"):
            nnx.iter_children(leaf, graph=graph)


class Unhashable:
    __slots__ = ()
    __hash__ = None  # type: ignore[assignment]


def test_unhashable_statics_are_named():
    model = nnx.Dict(inner=nnx.Dict(sizes=[1, Unhashable()]))
    graphdef = nnx.graphdef(model)
    with pytest.raises(ArgumentTypeError, match=r"where: /inner/sizes"):
        hash(graphdef)


def test_records_do_not_keep_models_or_parts_alive():
    model = Model()
    nnx.split(model)
    dropped = weakref.ref(model.blocks[1].linear.kernel)
    del model.blocks[1]
    gc.collect()
    assert dropped() is None
    gone = weakref.ref(model)
    del model
    gc.collect()
    assert gone() is None


def test_the_record_is_used_until_the_structure_changes():
    model = Model()
    first = nnx.graphdef(model)
    model.tied[...] = jnp.zeros((2, 2))
    model.table = jnp.ones(3)
    assert nnx.graphdef(model) is first
    model.blocks[0].linear.use_bias = 7
    assert nnx.graphdef(model) is not first


def test_copies_are_independent():
    model = Model()
    nnx.split(model)
    for other in (copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
        assert other.me is other
        assert nnx.graphdef(other) == nnx.graphdef(model)
        other.size = 5
        assert nnx.graphdef(other) != nnx.graphdef(model)
    shallow = copy.copy(model)
    shallow.size = 9
    assert model.size == 3


def test_pop_takes_from_dictionaries_too():
    tree = {"a": jnp.ones(2), "b": nnx.Param(jnp.ones(1)), "m": nnx.Linear(1, 1, rngs=nnx.Rngs(0))}
    params = nnx.pop(tree, nnx.Param)
    assert nnx.to_flat_state(params).paths == (("b",), ("m", "bias"), ("m", "kernel"))
    assert sorted(tree) == ["a", "m"]
    assert not hasattr(tree["m"], "kernel")
    assert nnx.to_flat_state(nnx.pop(tree, ...)).paths == (("a",),)
    model = nnx.Dict(x=nnx.data({"a": nnx.Param(1), "b": nnx.BatchStat(2)}), w=jnp.ones(1))
    first, second = nnx.pop(model, nnx.BatchStat, ...)
    assert (nnx.to_flat_state(first).paths, nnx.to_flat_state(second).paths) == ((("x", "b"),), (("w",), ("x", "a")))
    assert model.x == {}


def test_pop_refuses_what_it_cannot_do():
    model = nnx.Dict(x=nnx.data([nnx.Param(1)]), y=nnx.Param(2))
    with pytest.raises(StateStructureError, match=r"taken out of a list.\n  where: /x/0"):
        nnx.pop(model, nnx.Param)
    assert model.y == 2
    with pytest.raises(StateStructureError, match="pop got no filter"):
        nnx.pop(model)


def test_pop_of_what_is_on_several_paths():
    def shared():
        weight = nnx.Cache(1.0)
        return nnx.Dict(a=weight, b=nnx.Dict(c=weight), d=weight)

    model = shared()
    assert nnx.to_flat_state(nnx.state(model)).paths == (("a",),)
    assert nnx.to_flat_state(nnx.pop(model, nnx.Cache)).paths == (("a",),)
    assert not nnx.state(model)
    model = shared()
    assert nnx.to_flat_state(nnx.pop(model, nnx.PathContains("d"))).paths == (("d",),)
    assert model.a is model.b.c
    assert not hasattr(model, "d")
    model = nnx.List([nnx.Cache(1.0), nnx.Param(2.0), nnx.Cache(3.0), nnx.Param(4.0)])
    assert nnx.to_flat_state(nnx.pop(model, nnx.Cache)).paths == ((0,), (2,))
    assert [item[...] for item in model] == [2.0, 4.0]
    inner = {"w": nnx.Param(1.0)}
    model = nnx.Dict(x=nnx.data(inner), y=nnx.data(inner))
    assert nnx.to_flat_state(nnx.pop(model, nnx.Param)).paths == (("x", "w"),)
    assert model.x == model.y == {}
    array = jnp.ones(2)
    assert nnx.to_flat_state(nnx.pop({"a": array, "b": array}, ...)).paths == (("a",), ("b",))


@pytest.mark.parametrize("leaf", [jnp.ones(2), np.ones(2), jax.random.key(0)], ids=["array", "numpy", "key"])
def test_an_array_is_its_own_state(leaf):
    graphdef, state = nnx.split(leaf)
    assert state is leaf
    assert nnx.merge(graphdef, state) is leaf
    assert nnx.clone(leaf) is leaf
    assert graphdef.paths == [()]
    assert nnx.graphdef(leaf) == graphdef


def test_merge_needs_a_state():
    graphdef = nnx.graphdef(nnx.Linear(1, 1, rngs=nnx.Rngs(0)))
    with pytest.raises(TypeError, match=r"merge\(\) missing 1 required positional argument: 'state'"):
        nnx.merge(graphdef)
    assert nnx.merge(nnx.graphdef(nnx.Dict(a=1))).a == 1


def test_calls_of_items():
    model = nnx.Dict(layers=nnx.List([nnx.Linear(1, 2, rngs=nnx.Rngs(0))]))
    out, (graphdef, _) = nnx.call(nnx.split(model))["layers"][0](jnp.ones((3, 1)))
    assert out.shape == (3, 2)
    assert graphdef == nnx.graphdef(model)


def test_weak_references():
    things = [nnx.state(Model()), nnx.OfType(nnx.Param), nnx.DiffState(0, nnx.Param), nnx.StateAxes({...: 0}), Model()]
    for thing in (*things, nnx.Everything(), nnx.Not(nnx.Param), nnx.Param(1)):
        assert weakref.ref(thing)() is thing


def test_filters_say_what_they_are_made_of():
    param = nnx.OfType(nnx.Param)
    assert nnx.Not(nnx.Param).predicate == param
    assert nnx.All(nnx.Param, "a").predicates == nnx.Any(nnx.Param, "a").predicates == (param, nnx.WithTag("a"))
    contains = nnx.PathContains("a", exact=False)
    assert (contains.key, contains.exact, nnx.PathIn(("a",)).paths) == ("a", False, frozenset({("a",)}))
    assert (param.type, nnx.WithTag("a").tag) == (nnx.Param, "a")
    param.__doc__ = "Weights."
    param.label = 1
    assert param == nnx.OfType(nnx.Param)
    assert (param.__doc__, param.label) == ("Weights.", 1)


def test_merge_warns_of_values_of_other_shapes():
    layer = nnx.Linear(2, 2, rngs=nnx.Rngs(0))
    graphdef = nnx.graphdef(layer)
    wrong = {"kernel": jnp.ones(7), "bias": jnp.ones(2)}
    with pytest.warns(
        UserWarning, match=r"nnx.merge: /kernel gets a value of shape \(7,\), where the model has \(2, 2\)"
    ):
        nnx.merge(graphdef, wrong)
    with pytest.warns(UserWarning, match="/bias gets None"):
        nnx.merge(graphdef, {"kernel": jnp.ones((2, 2)), "bias": None})
    assert nnx.merge(graphdef, nnx.to_pure_dict(nnx.state(layer))).kernel.shape == (2, 2)
    # A member of an ensemble, and what a map of JAX sees, have other shapes by right.
    stacked = jax.tree.map(lambda x: jnp.stack([x, x]), nnx.state(layer))
    graphdef, _ = nnx.split(nnx.merge(graphdef, stacked))
    assert nnx.merge(graphdef, jax.tree.map(lambda x: x[0], stacked)).kernel.shape == (2, 2)
    jax.vmap(lambda values: nnx.merge(graphdef, values)(jnp.ones((1, 2))))(nnx.to_pure_dict(stacked))


def test_the_model_may_be_given_by_name():
    model = nnx.Dict(w=nnx.Param(1), sown=nnx.Intermediate(2))
    _, state = nnx.split(node=model)
    assert set(nnx.state(node=model)) == set(nnx.variables(node=model)) == set(state) == {"w", "sown"}
    assert nnx.merge(nnx.unpack(node=model)).w == 1


def test_definitions_that_were_found_equal_are_so_again_and_others_are_not():
    a, b, other = (nnx.graphdef(nnx.Linear(2, size, rngs=nnx.Rngs(0))) for size in (3, 3, 4))
    for _ in range(2):
        assert a == b
        assert b == a
        assert a != other
        assert other != b
    assert pickle.loads(pickle.dumps(a)) == copy.deepcopy(b)
    del b
    assert a != other
    assert a == nnx.graphdef(nnx.Linear(2, 3, rngs=nnx.Rngs(1)))


def test_a_pop_that_would_leave_a_variable_in_a_tuple_takes_nothing():
    class Pair(nnx.Module):
        def __init__(self):
            self.first, self.second = nnx.Cache(jnp.ones(())), nnx.Cache(jnp.zeros(()))
            self.pair = nnx.data((self.first,))

    model = Pair()
    with pytest.raises(StateStructureError, match="taken out of a tuple"):
        nnx.pop(model, nnx.Cache)
    assert model.pair[0] is model.first
    assert model.second[...] == 0
