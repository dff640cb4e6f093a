import fx_nnx as nnx
import jax
import jax.numpy as jnp
import pytest
from fx_nnx import compat
from fx_nnx.errors import NnxError, TraceLevelError
from fx_nnx.rngs.draws import _with_exact_method
from fx_nnx.transforms.references import RefMap


def outer_of(graphdef):
    return [number for _, number in graphdef.outer]


def test_models_that_share_go_through_one_table():
    shared = nnx.Param(2.0)
    x, y = nnx.Dict(a=shared, b=nnx.Param(1.0)), nnx.Dict(a=shared)
    numbers = RefMap()
    graph_x, flat_x = nnx.flatten(x, ref_index=numbers)
    graph_y, flat_y = nnx.flatten(y, ref_index=numbers)
    assert [numbers[thing] for thing in (x, shared, x.b, y)] == [0, 1, 2, 3]
    assert (len(flat_x), len(flat_y)) == (2, 0)
    index = {}
    new_x = nnx.unflatten(graph_x, flat_x, index_ref=index, copy_variables=True)
    new_y = nnx.unflatten(graph_y, flat_y, index_ref=index)
    assert new_y.a is new_x.a is index[1] is not shared
    for options in ({}, {"index_ref": {}}):
        with pytest.raises(NnxError, match=r"number 1, which is not in it(.|\n)*one dictionary"):
            nnx.unflatten(graph_y, flat_y, **options)


def test_outer_numbers_bring_objects_back():
    model = nnx.Dict(a=nnx.Param(2.0), n=1)
    graphdef, flat = nnx.flatten(model, ref_outer_index=RefMap([(model, 10), (model.a, 11)]))
    assert outer_of(graphdef) == [10, 11]
    assert outer_of(graphdef.with_no_outer_index()) == []
    assert outer_of(graphdef.with_same_outer_index()) == [0, 1]
    plain = nnx.graphdef(model)
    assert plain == graphdef.with_no_outer_index() != graphdef
    assert outer_of(plain.with_matching_outer_index(graphdef)) == [10, 11]
    other = nnx.Dict(a=nnx.Param(7.0), extra=3)
    nnx.split(other)
    variable = other.a
    back = nnx.unflatten(graphdef, flat, outer_index_outer_ref={10: other, 11: variable})
    assert back is other
    assert (other.a is variable, float(variable.get_value()), sorted(other)) == (True, 2.0, ["a", "n"])
    assert nnx.graphdef(other) == plain
    with pytest.raises(TraceLevelError):
        jax.jit(lambda: nnx.unflatten(graphdef, flat, outer_index_outer_ref={10: other}) and None)()


def test_compat_means_graphs():
    shared = nnx.Param(1.0)
    model = nnx.Dict(a=shared, b=shared)
    with nnx.set_graph_mode(False), nnx.set_graph_updates(False):
        assert compat.clone(model).a is not None
        assert len(compat.split(model)[1].flat_state()) == 1
        rngs = nnx.Rngs(0)
        compat.split_rngs(rngs, splits=2)
        assert rngs.default.key.shape == (2,)
    assert nnx.compat is compat  # without an import of its own
    names = {"split", "state", "clone", "graphdef", "flatten", "iter_graph", "recursive_map", "view", "view_info"}
    names |= {"iter_modules", "iter_children", "split_rngs", "fork_rngs", "reseed", "get_abstract_model"}
    names |= {"jit", "grad", "vmap", "scan"}
    assert names <= set(compat.__all__)


class WithDictionary:
    pass


class Mixed(WithDictionary, nnx.Param):
    pass


class Slotted(nnx.Module):
    __slots__ = ("cache",)

    def __init__(self):
        self.weight = Mixed(jnp.ones(2), tag="a")


def test_classes_with_attributes_of_their_own_are_copied_too():
    model = nnx.Dict(s=Slotted(), p=nnx.Param(jnp.zeros(1), ref=True))
    made = nnx.clone(model)
    assert (type(made.s), type(made.s.weight), made.s.weight.tag) == (Slotted, Mixed, "a")
    assert made.s.weight is not model.s.weight
    assert made.p.get_raw_value() is not model.p.get_raw_value()
    made = nnx.merge(*nnx.split(model), copy=True)
    assert type(made.s.weight) is Mixed
    graphdef, _ = nnx.split(nnx.Dict(p=nnx.Param(jnp.zeros(1), ref=True)))
    assert isinstance(nnx.merge(graphdef, {"p": jnp.ones(1)}).p.get_raw_value(), jax.Ref)


def test_updates_of_all_variables_are_checked_as_single_ones_are():
    model = nnx.Dict(a=nnx.Param(jnp.zeros(1)), b=nnx.BatchStat(jnp.zeros(1)))
    state = nnx.state(nnx.map(lambda path, v: v.replace(v + 1), model))
    nnx.update(model, state)
    assert (model.a[0], model.b[0]) == (1, 1)
    with pytest.raises(TraceLevelError, match="where: Dict/a"):
        jax.jit(lambda: nnx.update(model, state))()
    state.a.set_metadata(tag="x")
    nnx.update(model, state)
    assert (model.a.tag, model.b[0]) == ("x", 1)


def test_copies_do_not_share_what_is_static_or_data():
    model = nnx.Dict(a=nnx.Param(1.0), n=1)
    one, two = nnx.clone(model), nnx.clone(model)
    one.n = 5
    one.more = nnx.Param(3.0)
    del one.a
    assert (two.n, "more" in two, "a" in two) == (1, False, True)
    assert nnx.graphdef(two) == nnx.graphdef(model) != nnx.graphdef(one)


@pytest.mark.parametrize("name", ["beta", "chisquare", "gamma", "loggamma", "poisson"])
def test_the_method_of_a_draw(name):
    arguments = (1.0, 2.0) if name == "beta" else (3.0,)
    ours = getattr(nnx.Rngs(0), name)(*arguments, method="exact")
    assert ours == getattr(jax.random, name)(nnx.Rngs(0)(), *arguments)
    with pytest.raises(ValueError, match=r"method|has no method 'zork' for"):
        getattr(nnx.Rngs(0), name)(*arguments, method="zork")


def test_the_error_of_an_unknown_method():
    draw = _with_exact_method("normal", jax.random.normal)  # which has no parameter of this name in any JAX
    with pytest.raises(NnxError, match=r"has no method 'fast' for normal(.|\n)*expected: 'exact'"):
        draw(jax.random.key(0), method="fast")


def test_defaults_are_a_mapping():
    defaults = nnx.var_defaults()
    assert dict(defaults) == {"hijax": False, "ref": False}
    assert {**defaults, "ref": True} == {"hijax": False, "ref": True}
    assert len(defaults) == 2
