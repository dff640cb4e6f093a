import fx_nnx as nnx
import jax
import jax.numpy as jnp
import pytest
from fx_nnx.errors import ArgumentTypeError, NnxError, StateStructureError
from fx_nnx.filters import is_structural, to_predicate


def make():
    return nnx.State({"b": {"x": nnx.Param(1.0), 0: nnx.BatchStat(2.0)}, "a": nnx.Param(3.0, tag="t")})


def test_mapping_and_attributes():
    state = make()
    assert state["b"]["x"] is state.b.x
    state["b"]["x"] = nnx.Param(5.0)
    assert state.b.x.get_value() == 5
    state.new = {"k": 1}
    assert state["new"].k == 1
    del state.new
    assert list(state) == ["b", "a"]
    with pytest.raises(AttributeError, match="no key 'zz'"):
        state.zz  # noqa: B018


def test_flat_states():
    flat = make().flat_state()
    assert flat.paths == (("a",), ("b", 0), ("b", "x"))
    assert [v.get_value() for v in flat.leaves] == [3, 2, 1]
    assert flat.to_nested_state().to_pure_dict() == make().to_pure_dict()
    params, rest = flat.split(nnx.Param, ...)
    assert (params.paths, rest.paths) == ((("a",), ("b", "x")), (("b", 0),))
    assert nnx.FlatState.merge(params, rest).paths == flat.paths
    assert flat.filter("t").paths == (("a",),)
    assert len(flat[1:]) == 2
    assert nnx.from_flat_state(nnx.to_flat_state(make()), cls=dict)["b"].keys() == {0, "x"}


def test_split_filter_merge():
    state = make()
    params, rest = state.split(nnx.Param, ...)
    assert rest.to_pure_dict() == {"b": {0: 2.0}}
    assert state.filter(nnx.BatchStat).to_pure_dict() == {"b": {0: 2.0}}
    assert nnx.State.merge(params, rest).to_pure_dict() == state.to_pure_dict()
    assert (params | rest).to_pure_dict() == state.to_pure_dict()
    assert (state - params).to_pure_dict() == rest.to_pure_dict()
    assert nnx.map_state(lambda path, v: len(path), state).to_pure_dict() == {"a": 1, "b": {"x": 2, 0: 2}}
    with pytest.raises(NnxError, match=r"no filter for /b/0"):
        state.split(nnx.Param)
    with pytest.raises(NnxError, match="Ellipsis at index 0"):
        state.split(..., nnx.Param)


@pytest.mark.parametrize("keys", [("x", "y"), (0, 10), ("x", 0), (True, False), ((1, 2), "x"), (1.5, 0.5)], ids=repr)
def test_equal_states_have_equal_tree_definitions_however_they_were_made(keys):
    one, two = keys
    mapping = {"b": {one: {two: nnx.Param(1.0)}, two: nnx.Param(2.0)}, "a": nnx.Param(3.0)}
    flat = nnx.State(mapping).flat_state()
    states = [
        nnx.State(mapping),
        flat.to_nested_state(),
        nnx.from_flat_state(flat),
        nnx.state(nnx.merge(*nnx.split(nnx.Dict(a=nnx.Param(3.0))))) | nnx.State({"b": mapping["b"]}),
        jax.tree.map(lambda x: x, nnx.State(mapping)),
        jax.tree.map(lambda x: x, flat.to_nested_state()),
    ]
    paths = jax.tree_util.tree_leaves_with_path(states[0])
    for state in states:
        assert jax.tree.structure(state) == jax.tree.structure(states[0])
        assert jax.tree_util.tree_leaves_with_path(state) == paths
        assert state.to_pure_dict() == states[0].to_pure_dict()
        assert state.flat_state().paths == flat.paths


def test_the_state_of_a_model_is_that_of_its_mapping():
    model = nnx.Dict(b=nnx.List([nnx.Param(1.0), nnx.Param(2.0)]), a=nnx.Param(3.0))
    state = nnx.state(model)
    assert jax.tree.structure(state) == jax.tree.structure(nnx.State(nnx.state(model).raw_mapping))
    graphdef = nnx.graphdef(model)
    state["b"][1] = nnx.Param(5.0)
    assert nnx.merge(graphdef, state).b[1].get_value() == 5.0
    state = jax.tree.map(lambda x: x, state)
    inner = state["b"]
    inner[0] = nnx.Param(7.0)
    assert nnx.merge(graphdef, state).b[0].get_value() == 7.0
    for wrong in (nnx.Param(0.0), {"c": nnx.Param(0.0)}):
        inner[2] = wrong
        with pytest.raises(StateStructureError, match=r"no place for"):
            nnx.merge(graphdef, state)
    del inner[2]
    inner[0] = {"c": nnx.Param(0.0)}
    with pytest.raises(StateStructureError, match=r"no value for"):
        nnx.merge(graphdef, state)
    del inner[0]
    with pytest.raises(StateStructureError, match=r"no value for"):
        nnx.merge(graphdef, state)


def test_pytree():
    state = make()
    doubled = jax.tree.map(lambda x: 2 * x, state)
    assert isinstance(doubled, nnx.State)
    assert doubled.to_pure_dict() == {"a": 6, "b": {"x": 2, 0: 4}}
    assert jax.tree.leaves(state, is_leaf=lambda x: isinstance(x, nnx.Variable))[0] is state.a
    assert jax.tree.structure(state) == jax.tree.structure(make())
    path, _ = jax.tree_util.tree_leaves_with_path(state)[2]
    assert jax.tree_util.keystr(path) == "['b']['x'].value"
    flat = jax.tree.map(lambda x: x + 1, state.flat_state())
    assert flat.paths == state.flat_state().paths


def test_a_lazy_state_notices_changes_through_views():
    _, state = nnx.split(nnx.Sequential(nnx.Linear(1, 1, rngs=nnx.Rngs(0))))
    inner = state["layers"][0]
    inner["bias"] = nnx.Param(jnp.ones(1) * 9)
    assert nnx.to_pure_dict(state)["layers"][0]["bias"][0] == 9


@pytest.mark.parametrize(
    "put",
    [
        lambda values: nnx.replace_by_pure_dict(nnx.state(nnx.List([nnx.Param(1.0)])), values),
        lambda values: nnx.update(nnx.List([nnx.Param(1.0)]), values),
        nnx.restore_int_paths,
    ],
    ids=["replace", "update", "restore"],
)
def test_a_number_and_its_text_are_one_key(put):
    with pytest.raises(StateStructureError, match=r"Two values[\s\S]*where: /0"):
        put({"0": 2.0, 0: 3.0})


def test_update_finds_numbers_only_in_their_own_text():
    for key in ("01", "²", "٣"):
        with pytest.raises(StateStructureError, match="no place for"):
            nnx.update(nnx.List([nnx.Param(1.0) for _ in range(4)]), {key: 2.0})


def test_pure_dicts():
    state = make()
    old = state.a
    nnx.replace_by_pure_dict(state, {"a": 7.0, "b": {0: 8.0}})
    assert nnx.to_pure_dict(state) == {"a": 7.0, "b": {"x": 1.0, 0: 8.0}}
    assert (state.a.tag, old.get_value()) == ("t", 3.0)
    assert nnx.as_pure([state.a]) == [7.0]
    assert nnx.restore_int_paths({"b": {"0": 1, "x": 2}}) == {"b": {0: 1, "x": 2}}
    assert nnx.restore_int_paths({"-1": {"²": 1, "1": {}, "01": 2}}) == {-1: {"²": 1, 1: {}, "01": 2}}
    with pytest.raises(StateStructureError, match=r"path that the state has not\.\n  where: /b/zz"):
        nnx.replace_by_pure_dict(state, {"b": {"zz": 1}})
    with pytest.raises(StateStructureError, match=r"at one place|a group of values"):
        nnx.from_flat_state([(("a",), 1), (("a", "b"), 2)]).a.b  # noqa: B018


def test_keys_that_are_numbers_may_come_as_text():
    state = nnx.State({"layers": {i: nnx.Param(float(i)) for i in (0, 2, 10)}, "0": nnx.Param(5.0)})
    nnx.replace_by_pure_dict(state, {"layers": {"0": 1.0, "10": 11.0}, "0": 6.0})
    assert nnx.to_pure_dict(state) == {"layers": {0: 1.0, 2: 2.0, 10: 11.0}, "0": 6.0}
    for wrong in ({"layers": {"00": 1.0}}, {"layers": {"1": 1.0}}, {0: 1.0}):
        with pytest.raises(StateStructureError, match="path that the state has not"):
            nnx.replace_by_pure_dict(state, wrong)


def test_filters():
    path, v = ("layers", 0, "kernel"), nnx.Param(1.0, tag="t")
    for f, expected in [
        (..., True),
        (True, True),
        (None, False),
        (False, False),
        ("t", True),
        ("u", False),
        (nnx.Param, True),
        (nnx.BatchStat, False),
        (nnx.Variable, True),
        ([nnx.BatchStat, "t"], True),
        (nnx.All(nnx.Param, "u"), False),
        (nnx.Any("u", nnx.Param), True),
        (nnx.Not(nnx.Param), False),
        (nnx.PathContains("kernel"), True),
        (nnx.PathContains("kern"), False),
        (nnx.PathContains("kern", exact=False), True),
        (nnx.PathIn(path), True),
        (lambda path, value: value.get_value() == 1, True),
        (nnx.Everything(), True),
        (nnx.Nothing(), False),
    ]:
        assert to_predicate(f)(path, v) is expected, f
    assert nnx.All("a", nnx.Param) == nnx.All("a", nnx.Param)
    assert hash(nnx.Not("a")) == hash(nnx.Not("a"))
    assert repr(nnx.All("a", None)) == "All(WithTag('a'), Nothing())"
    assert is_structural(nnx.All("a", nnx.Not(nnx.PathContains("x"))))
    assert not is_structural(nnx.Any("a", lambda p, v: True))
    with pytest.raises(ArgumentTypeError, match="got: 3"):
        to_predicate(3)
