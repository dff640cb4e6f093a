import fx_nnx as nnx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from fx_nnx.errors import NnxError, StateStructureError


class Model(nnx.Module):
    def __init__(self):
        rngs = nnx.Rngs(0)
        self.blocks = nnx.List([nnx.Linear(2, 2, rngs=rngs) for _ in range(2)])
        self.tied = self.blocks[0].kernel
        self.table = jnp.arange(3.0)
        self.size = 3


def test_update():
    model = Model()
    nnx.update(model, {"blocks": {0: {"bias": jnp.ones(2) * 5}}})
    assert model.blocks[0].bias[0] == 5
    nnx.update(model, nnx.State({"tied": jnp.zeros((2, 2)), "table": jnp.ones(3)}))
    assert model.blocks[0].kernel[0, 0] == 0  # reachable on another path
    assert model.table[0] == 1
    nnx.update(model, nnx.State({"fresh": nnx.Param(1.0)}))
    assert model.fresh.get_value() == 1
    kernel = model.tied
    nnx.update(model, nnx.state(nnx.clone(model)))
    assert model.tied is kernel
    with pytest.raises(StateStructureError, match="where: /zork"):
        nnx.update(model, {"zork": {"x": {"y": 1}}})
    pair = nnx.Dict(x=nnx.data((jnp.ones(1),)))
    with pytest.raises(StateStructureError, match="immutable tuple cannot be replaced"):
        nnx.update(pair, {"x": {0: jnp.zeros(1)}})


WRONG = {
    "misspelt": (
        {"table": jnp.zeros(3), "sise": jnp.ones(2)},
        StateStructureError,
        "(?s)where: /sise.*got: ArrayImpl of shape",
    ),
    "static": ({"size": 3}, StateStructureError, "no place for.\n  where: /size"),
    "below a value": ({"tied": {"a": jnp.ones(2)}}, StateStructureError, "no place for.\n  where: /tied/a"),
    "one for several": (
        {"blocks": nnx.Param(jnp.ones(2))},
        StateStructureError,
        "one value where the model has several",
    ),
    "array for several": ({"blocks": {0: jnp.ones(2)}}, StateStructureError, "expected: values below Model/blocks/0"),
    "shape": ({"table": jnp.zeros(3), "tied": jnp.ones(4)}, NnxError, r"\(2, 2\)\n  got: .* shape \(4,\)"),
    "number": ({"tied": 1.0}, NnxError, "got: 1.0"),
    "none": ({"tied": None}, NnxError, "got: None"),
    "text": ({"tied": "abc"}, NnxError, "Model/tied\n.*\n  got: 'abc'"),
    "array": ({"table": jnp.ones(2)}, NnxError, r"expected: an array of shape \(3,\)"),
}


@pytest.mark.parametrize("name", WRONG)
def test_update_takes_what_fits_or_nothing(name):
    model = Model()
    before = nnx.graphdef(model), [leaf for _, leaf in nnx.to_flat_state(nnx.to_pure_dict(nnx.state(model)))]
    state, error, match = WRONG[name]
    with pytest.raises(error, match=match):
        nnx.update(model, state)
    after = [leaf for _, leaf in nnx.to_flat_state(nnx.to_pure_dict(nnx.state(model)))]
    assert before[0] == nnx.graphdef(model)
    assert all(a is b for a, b in zip(before[1], after, strict=True))


def test_update_warns_of_parameters_that_are_not_those_of_the_model():
    small, large = (nnx.Linear(2, n, rngs=nnx.Rngs(0)) for n in (2, 3))
    with pytest.warns(UserWarning, match=r"Linear/kernel had shape \(2, 2\) and now has \(2, 3\)"):
        nnx.update(small, nnx.state(large, nnx.PathContains("kernel")))
    with pytest.warns(UserWarning, match=r"Linear/bias had shape \(2,\)"):
        nnx.update(small, nnx.state(large))
    with pytest.warns(UserWarning, match="Linear/kernal is new to the model, which has /kernel"):
        nnx.update(small, nnx.State({"kernal": nnx.Param(jnp.ones((2, 2)))}))
    nnx.update(small, nnx.State({"cache": nnx.Cache(jnp.ones(2)), "biases": nnx.Intermediate(1)}))
    nnx.update(small, nnx.State({"cache": nnx.Cache(jnp.ones(3))}))
    assert small.cache.shape == (3,)


def test_update_of_values_that_are_trees_and_numbers_in_paths():
    model = nnx.Dict(a=nnx.Param({"x": jnp.ones(2)}), layers=nnx.List([nnx.Param(jnp.ones(()))]))
    nnx.update(model, {"a": {"x": jnp.zeros(2)}, "layers": {"0": 2.0}})
    assert model.a.get_value()["x"][0] == 0
    assert isinstance(model.layers[0].get_value(), jax.Array)
    assert model.layers[0] == 2
    nnx.update(model, nnx.to_pure_dict(nnx.state(model)))
    assert model.a.get_value()["x"].shape == (2,)


@pytest.mark.parametrize("tag", [None, "new"])
def test_update_takes_values_and_metadata_of_variables_of_any_type(tag):
    model = nnx.Dict(a=nnx.Param(jnp.zeros(2)), b=nnx.BatchStat(jnp.zeros(2)))
    entries = {} if tag is None else {"tag": tag}
    for value in 1.0, 2.0:
        state = nnx.State({name: nnx.Cache(jnp.full(2, value), **entries) for name in "ab"})
        nnx.update(model, state)
        assert [type(model.a), type(model.b)] == [nnx.Param, nnx.BatchStat]
        assert {float(model[name][0]) for name in "ab"} == {value}
        assert [model[name].get_metadata().get("tag") for name in "ab"] == [tag, tag]
    nnx.update(model, nnx.State({"a": nnx.Cache(jnp.ones(2)), "b": jnp.ones(2)}))
    assert float(model.b[0]) == 1


def _tag(state, source):
    source.a.set_metadata(tag="new")


def _tag_in_place(state, source):
    source.a.get_metadata("tags").append("new")


def _other_variable(state, source):
    state["a"] = nnx.Param(jnp.ones(2), tag="new")


def _other_structure(state, source):
    source.c = nnx.Param(jnp.zeros(()))
    source.a.set_metadata(tag="new")


@pytest.mark.parametrize("change", [_tag, _tag_in_place, _other_variable, _other_structure])
@pytest.mark.parametrize("again", [False, True])
def test_update_brings_metadata_that_has_changed_since_the_state_was_made(change, again):
    def build(value):
        return nnx.Dict(a=nnx.Param(jnp.full(2, value), tags=["old"]), b=nnx.BatchStat(jnp.full(3, value)))

    model, source = build(0.0), build(1.0)
    state = nnx.state(source)
    if again:
        nnx.update(model, state)
        nnx.update(model, state)
    change(state, source)
    nnx.update(model, state)
    expected = {"tags": ["old"], "tag": "new"}
    if change is _tag_in_place:
        expected = {"tags": ["old", "new"]}
    elif change is _other_variable:
        expected = {"tag": "new"}
    assert model.a.get_metadata(exclude_required=True) == expected
    np.testing.assert_array_equal(model.a[...], jnp.ones(2))
    np.testing.assert_array_equal(model.b[...], jnp.ones(3))
    assert model.a is not source.a


def test_update_of_a_variable():
    v = nnx.Param(jnp.ones(2))
    nnx.update(v, nnx.state(nnx.Dict(), nnx.Param))
    nnx.update(v, v)
    np.testing.assert_array_equal(v.get_value(), [1, 1])
    nnx.update(v, nnx.Param(jnp.zeros(3)))
    assert v.shape == (3,)
    with pytest.raises(StateStructureError, match="cannot take the values of several"):
        nnx.update(v, nnx.State({"a": nnx.Param(1.0)}))


def test_update_of_numbers_in_plain_dictionaries():
    tree = {"a": {"b": 1, "c": nnx.Param(jnp.array(2))}}
    nnx.update(tree, {"a": {"b": 4, "c": jnp.array(10)}})
    assert tree["a"]["b"] == 4
    assert tree["a"]["c"] == 10
