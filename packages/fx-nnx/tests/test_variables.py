import copy
import math
import pickle

import fx_nnx as nnx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from fx_nnx.errors import (
    InvalidAttributeError,
    NnxError,
    TraceLevelError,
    UnsupportedOperationError,
)


def test_reading_and_writing():
    v = nnx.Param(jnp.arange(3.0))
    v[0] = 5.0
    v[1:] = 7.0
    np.testing.assert_array_equal(v[...], [5, 7, 7])
    v.value = v + 1
    v.set_value(0.0, index=2)
    np.testing.assert_array_equal(v.get_value(), [6, 8, 0])
    v.set_value(nnx.Param(jnp.ones(1)))
    assert v[0] == 1
    assert v.shape == (1,)


def test_a_number_written_into_a_weakly_typed_variable_leaves_it_weak():
    for start in (jnp.array(1.0), jnp.full((2,), 1.0)):
        v = nnx.Variable(start)
        for value in (3, np.float32(2.0)):
            v[...] = value
            assert (v * jnp.ones(2, jnp.bfloat16)).dtype == jnp.bfloat16
    v[...] = jnp.ones(2, jnp.float32)  # an array that fits takes its place, type and all
    assert (v * jnp.ones(2, jnp.bfloat16)).dtype == jnp.float32


def test_values_need_not_be_arrays():
    v = nnx.Variable({"a": (1, 2)})
    assert v[...] == {"a": (1, 2)}
    assert v["a"] == (1, 2)
    assert nnx.Variable(lambda x: x + 1)(2) == 3
    assert jax.tree.leaves(v) == [1, 2]


@pytest.mark.parametrize(
    "f", [lambda v: v + 1, lambda v: 1 - v, lambda v: v @ v, lambda v: v**2, lambda v: -v, lambda v: v < 2, abs]
)
def test_operators_are_those_of_the_value(f):
    x = jnp.array([1.0, 2.0])
    np.testing.assert_array_equal(f(nnx.Param(x)), f(x))


def test_arrays_and_variables_mix():
    v, x = nnx.Param(jnp.ones(2)), jnp.ones(2)
    np.testing.assert_array_equal(x + v, [2, 2])
    np.testing.assert_array_equal(np.ones(2, np.float32) + v, [2, 2])
    np.testing.assert_array_equal(v == v, [True, True])
    np.testing.assert_allclose(jnp.sin(v), jnp.sin(x))
    assert v.T.shape == (2,)
    with pytest.raises(TypeError, match="unhashable"):
        hash(v)


def test_in_place_operators_say_what_to_write():
    v = nnx.Param(jnp.ones(2))
    with pytest.raises(UnsupportedOperationError, match=r"write variable\[\.\.\.\] \+= value"):
        v += 1


def test_metadata():
    v = nnx.Param(jnp.ones((2, 3)), tag="a", sharding=("x", "y"), eager_sharding=False)
    assert v.tag == "a"
    assert v.sharding_names == ("x", "y")
    assert v.get_metadata("out_sharding") == ("x", "y")
    assert v.get_metadata(exclude_required=True) == {"tag": "a", "out_sharding": ("x", "y")}
    v.set_metadata(tag="b")
    v.set_metadata("more", 1)
    assert (v.tag, v.more, v.has_metadata("more")) == ("b", 1, True)
    v.del_metadata("more")
    assert v.get_metadata("more", None) is None
    with pytest.raises(KeyError):
        v.get_metadata("more")
    v.set_metadata({"only": 1})
    assert v.get_metadata() == {"hijax": False, "ref": False, "eager_sharding": False, "only": 1}
    with pytest.raises(InvalidAttributeError, match="set_metadata\\(size2=value\\)"):
        v.size2 = 3


def test_equal_metadata_is_one_object_but_types_count():
    assert nnx.Param(1, tag="a")._nnx_meta is nnx.Param(2, tag="a")._nnx_meta
    assert nnx.Param(1, n=1).n is not True
    assert nnx.Param(1, n=True).n is True
    assert nnx.Param(1, n=1.0).get_metadata("n") == 1.0


def test_hooks():
    v = nnx.Param(
        1.0,
        on_create_value=lambda v, x: x + 100,
        on_get_value=lambda v, x: x + 1,
        on_set_value=(lambda v, x: x * 10, lambda v, x: x + 2),
    )
    assert v.raw_value == 101
    assert v.get_value() == 102
    v.set_value(2.0)
    assert v.raw_value == 22
    seen = []
    w = nnx.Param(jnp.ones(2), on_add_axis=lambda v, i, n: seen.append((i, n)))
    w.add_axis(0, "a")
    assert seen == [(0, "a")]


def test_with_metadata_initializers():
    init = nnx.with_metadata(jax.nn.initializers.ones, axes=("a",), on_get_value=lambda v, x: 2 * x)
    layer = nnx.Linear(2, 3, kernel_init=init, rngs=nnx.Rngs(0))
    assert layer.kernel.axes == ("a",)
    assert layer.kernel[0, 0] == 2


def test_copies():
    v = nnx.Param(jnp.ones(2), tag="a")
    w = v.replace(jnp.zeros(2), tag="b")
    assert (type(w), w.tag, v.tag) == (nnx.Param, "b", "a")
    assert v.copy()._nnx_meta is v._nnx_meta
    u = copy.deepcopy(v)
    u[...] = jnp.zeros(2)
    assert v[0] == 1
    again = pickle.loads(pickle.dumps(v))
    assert (again.tag, again._nnx_meta) == ("a", v._nnx_meta)
    v.copy_from(w)
    assert (v.tag, v[0]) == ("b", 0)
    assert nnx.BatchStat(v).tag == "b"
    assert nnx.Param.from_metadata(1, {"tag": "c"}).tag == "c"


def test_variables_are_pytrees():
    v = nnx.Param(jnp.ones(2), tag="a")
    w = jax.tree.map(lambda x: x + 1, v)
    assert (type(w), w.tag, w[0]) == (nnx.Param, "a", 2)
    out = jax.jit(lambda v: v.replace(v * 2))(v)
    assert out[0] == 2


def test_references():
    v = nnx.Param(jnp.ones(2), ref=True)
    v[...] = v + 1
    assert v.ref
    assert v[0] == 2
    w = v.copy()
    w[...] = jnp.zeros(2)
    assert v[0] == 2

    @jax.jit
    def double(ref):
        ref[...] = ref[...] * 2

    double(v.get_raw_value())
    assert v[0] == 4


def test_a_change_from_another_trace_names_variable_path_and_line():
    model = nnx.Dict(layers=nnx.List([nnx.Linear(1, 1, rngs=nnx.Rngs(0))]))

    def bad():
        model.layers[0].bias[...] = jnp.zeros(1)

    with pytest.raises(TraceLevelError, match=r"Param.*test_variables.py:\d+ in bad") as error:
        jax.jit(bad)()
    assert error.value.path == "Dict/layers/0/bias"
    with pytest.raises(TraceLevelError, match="Cannot change Linear"):
        jax.jit(lambda: setattr(model.layers[0], "use_bias", 3))()


def test_names_and_types():
    for name, kind in [
        ("params", nnx.Param),
        ("batch_stats", nnx.BatchStat),
        ("cache", nnx.Cache),
        ("intermediates", nnx.Intermediate),
        ("perturbations", nnx.Perturbation),
    ]:
        assert nnx.variable_type_from_name(name) is kind
        assert nnx.variable_name_from_type(kind) == name

    class Mine(nnx.Variable):
        pass

    with pytest.raises(NnxError, match="Mine is not registered"):
        nnx.variable_name_from_type(Mine)
    assert nnx.variable_name_from_type(Mine, allow_register=True) == "Mine"
    with pytest.raises(NnxError, match="'Mine' is taken"):
        nnx.register_variable_name("Mine", nnx.Param)
    with pytest.raises(NnxError, match="'zork'"):
        nnx.variable_type_from_name("zork")
    assert nnx.variable_type_from_name("zork2", allow_register=True).__name__ == "zork2"


def test_repr_shows_value_and_metadata():
    assert repr(nnx.Param(1, tag="a")) == "Param(\n  value=1,\n  tag='a'\n)"
    assert "Param( # 10 (40 B)" in repr(nnx.Param(jnp.ones(10)))


def test_metadata_is_changed_in_known_ways_only():
    v = nnx.Param(jnp.ones(1), tag="a")
    for args, kwargs, text in [
        ((), {}, "0 positional and 0 keyword"),
        ((1, 2, 3), {}, "3 positional"),
        (({"a": 1},), {"b": 2}, "1 positional and 1 keyword"),
        ((1, 2), {}, "2 positional"),
    ]:
        with pytest.raises(NnxError, match=rf"metadata of Param: got {text}(.|\n)*call it with"):
            v.set_metadata(*args, **kwargs)
    with pytest.raises(NnxError, match=r"cannot change 'ref'(.|\n)*with_vars"):
        v.set_metadata(ref=True)
    with pytest.raises(NnxError, match="cannot be without 'ref'"):
        v.del_metadata("ref")
    with pytest.raises(KeyError, match="zork"):
        v.del_metadata("zork")
    with pytest.raises(NnxError, match=r"cannot change 'hijax'(.|\n)*with_vars"):
        v.set_metadata(hijax=True)
    assert v.tag == "a"


def test_copying_between_types():
    v = nnx.Param(jnp.ones(2), tag="a")
    with pytest.raises(NnxError, match=r"Param cannot be copied from BatchStat(.|\n)*update_from_state"):
        v.copy_from(nnx.BatchStat(jnp.zeros(2)))
    v.update_from_state(nnx.BatchStat(jnp.zeros(2), other=1))
    assert (v[0], v.get_metadata(exclude_required=True)) == (0, {"other": 1})


def test_references_are_shared_or_written():
    v, w = nnx.Param(jnp.ones(2), ref=True), nnx.Param(jnp.zeros(2), tag="a")
    box = v.get_raw_value()
    v.update_from_state(w)
    assert v.get_raw_value() is box
    assert (v.ref, v.tag, v[0]) == (True, "a", 0)
    w.update_from_state(v)
    assert w.get_raw_value() is box
    v[...] = jnp.full(2, 3.0)
    assert (w.ref, w[0]) == (True, 3)
    assert v.copy(_copy_ref=False).get_raw_value() is box


def test_rounding():
    v = nnx.Param(1.55)
    assert (math.floor(v), math.ceil(v), math.trunc(v), round(v)) == (1, 2, 1, 2)
    assert round(v, 1) == round(1.55, 1)
    array = round(nnx.Param(jnp.array([1.6, -2.7])))
    assert array.dtype == jnp.float32
    assert array.tolist() == [2, -3]
    assert [int(x) for x in reversed(nnx.Param(jnp.arange(2)))] == [1, 0]


def test_metadata_of_values():
    empty = nnx.VariableMetadata(1.0)
    assert empty.metadata == {}
    v = nnx.Param(nnx.VariableMetadata(1.0, on_get_value=lambda v, x: x + 1, metadata={"tag": "a"}))
    assert (v.get_value(), v.tag) == (2, "a")


@pytest.mark.parametrize("ref", [False, True])
def test_hooks_see_the_part_that_is_written(ref):
    double = {"on_get_value": lambda v, x: x * 2, "on_set_value": lambda v, x: x + 1}
    variable = nnx.Param(jnp.array([1.0, 2.0]), ref=ref, **double)
    variable[0] = 5.0
    np.testing.assert_array_equal(variable[...], [12.0, 4.0])
    variable[...] = jnp.array([0.0, 1.0])
    np.testing.assert_array_equal(variable[...], [2.0, 4.0])


@pytest.mark.parametrize(("first", "second"), [(0.0, -0.0), ((1,), (True,)), ((1, (2.0,)), (1, (2,))), ("1", 1)])
def test_metadata_that_is_equal_but_reads_otherwise_stays_as_it_is(first, second):
    for given in (first, second, first):
        assert repr(nnx.Param(1.0, odd=given).odd) == repr(given)


@pytest.mark.parametrize("value", [0.5, 3, True, [1, 2], (1.0, 2.0), 1 + 2j, np.float32(1.5), jnp.ones(2)])
def test_numpy_takes_variables_of_any_value(value):
    variable = nnx.Variable(value)
    for made in (np.asarray(variable), np.array(variable), np.stack([variable, variable])[0]):
        assert made.dtype == np.asarray(value).dtype
        np.testing.assert_array_equal(made, np.asarray(value))
    assert np.asarray(variable, np.complex128).dtype == np.complex128
