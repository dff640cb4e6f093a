"""Variables of programs: properties, attributes, slots, and other base classes, in any order."""

import copy
import pickle
import weakref

import fx_nnx as nnx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from fx_nnx.errors import InvalidAttributeError, TraceLevelError
from fx_nnx.objects.pytree import PytreeState
from fx_nnx.trace_state import current_jax_trace

ONE = np.ones(2, np.float32)


class Named(nnx.Param):
    def __init__(self, value, **metadata):
        super().__init__(value, **metadata)
        self.level = 1

    @property
    def half(self):
        return self.get_value() / 2

    @half.setter
    def half(self, value):
        self.set_value(value * 2)


class Slotted(nnx.Param):
    __slots__ = ("extra",)


class Mixin:
    def __init__(self, *args, **kwargs):
        self.level = 7
        super().__init__(*args, **kwargs)

    def doubled(self):
        return self.level * 2


class Mixed(Mixin, nnx.Param):
    pass


class Maker:
    def __new__(cls, *args, **kwargs):
        self = super().__new__(cls)
        self.level = 3
        self.made = [1]
        return self


class Made(Maker, nnx.Param):
    pass


class MadeLast(nnx.Param, Maker):
    pass


class Foreign:
    """Like a variable of another library, which keeps its value under a name that we might have."""

    def __init__(self, value):
        self._value, self._meta, self._trace, self.level = value, "meta", "trace", 5


class Both(Foreign, nnx.Variable):
    def __init__(self, value):
        nnx.Variable.__init__(self, value)
        Foreign.__init__(self, value * 3)

    @property
    def _value(self):
        return self.get_raw_value()

    @_value.setter
    def _value(self, value):
        self.set_raw_value(value)


class ForeignFirst(Foreign, nnx.Variable):
    def __init__(self, value):
        Foreign.__init__(self, value)
        nnx.Variable.__init__(self, value)


LEVELS = {Named: 1, Mixed: 7, Made: 3, MadeLast: 3, Both: 5, ForeignFirst: 5}


@pytest.mark.parametrize("cls", LEVELS, ids=lambda cls: cls.__name__)
def test_attributes_stay_with_the_variable(cls):
    model = nnx.Dict(v=cls(jnp.asarray(ONE)))
    value = np.asarray(model.v.get_value())
    graphdef, state = nnx.split(model)
    copies = {
        "itself": model.v,
        "copy": model.v.copy(),
        "clone": nnx.clone(model).v,
        "merge": nnx.merge(graphdef, state, copy=True).v,
        "pure": nnx.merge(graphdef, nnx.to_pure_dict(state)).v,
        "map": jax.tree.map(lambda x: x, model.v),
        "deepcopy": copy.deepcopy(model.v),
        "pickle": pickle.loads(pickle.dumps(model.v)),
        "jit": nnx.jit(lambda m: m)(model).v,
    }
    for name, variable in copies.items():
        assert type(variable) is cls, name
        assert variable.level == LEVELS[cls], name
        np.testing.assert_array_equal(variable.get_value(), value)
    np.testing.assert_array_equal(nnx.jit(lambda m: m.v * m.v.level)(model), value * LEVELS[cls])
    grads = nnx.grad(lambda m: (m.v * m.v.level).sum(), argnums=nnx.DiffState(0, nnx.Variable))(model)
    np.testing.assert_array_equal(grads["v"].get_value(), np.full(2, LEVELS[cls]))


@pytest.mark.parametrize("cls", LEVELS, ids=lambda cls: cls.__name__)
def test_attributes_change_and_functions_are_compiled_anew(cls):
    model = nnx.Dict(v=cls(jnp.asarray(ONE)))
    f = nnx.jit(lambda m: m.v.level * 2)
    assert f(model) == LEVELS[cls] * 2
    model.v.level = 10
    assert f(model) == 20
    nnx.jit(lambda m: setattr(m.v, "level", 11))(model)
    assert model.v.level == 11
    model.v.level = [1]  # without a hash
    assert model.v.level == [1]
    del model.v.level
    with pytest.raises(AttributeError):
        model.v.level  # noqa: B018


def test_property_setters():
    v = Named(jnp.asarray(ONE))
    v.half = jnp.zeros(2)
    assert v.sum() == 0
    both = Both(jnp.asarray(ONE))
    assert both[0] == 3
    both._value = jnp.zeros(2)
    assert both.get_value().sum() == 0
    assert both._meta == "meta"


def test_unhashable_attributes_stay_with_copies():
    for v in (Made(jnp.asarray(ONE)), MadeLast(jnp.asarray(ONE))):
        for other in (v.copy(), copy.deepcopy(v), pickle.loads(pickle.dumps(v)), nnx.clone(nnx.Dict(v=v)).v):
            assert other.made == [1]


def test_slots_of_subclasses():
    v = Slotted(jnp.asarray(ONE))
    v.extra = 4
    assert v.copy().extra == copy.deepcopy(v).extra == nnx.clone(nnx.Dict(v=v)).v.extra == 4
    with pytest.raises(InvalidAttributeError, match="Cannot set attribute 'other' of Slotted"):
        v.other = 1


def test_our_own_kinds_take_no_attributes():
    for cls in (nnx.Variable, nnx.Param, nnx.BatchStat, nnx.LoRAParam, nnx.RngKey):
        with pytest.raises(InvalidAttributeError, match=f"Cannot set attribute 'level' of {cls.__name__}"):
            cls(1).level = 1
    with pytest.raises(InvalidAttributeError, match="'shape'"):
        Named(1).shape = (2,)


def test_attributes_are_set_where_the_variable_was_made():
    v = Named(jnp.asarray(ONE))

    @jax.jit
    def change(x):
        v.level = 2
        return x

    with pytest.raises(TraceLevelError, match="Named"):
        change(1.0)


def test_initializing_again_forgets_metadata():
    v = Named(jnp.asarray(ONE), tag="a")
    v.level = 2
    v.__init__(jnp.asarray(ONE))
    assert not v.has_metadata("tag")
    assert v.level == 1


def test_the_state_of_a_variable_is_a_dictionary():
    state = nnx.Param(jnp.asarray(ONE), tag="a").__getstate__()
    assert sorted(state) == ["_raw_value", "_trace_state", "_var_metadata"]
    assert state["_var_metadata"]["tag"] == "a"
    fresh = nnx.Param.__new__(nnx.Param)
    fresh.__setstate__({"_raw_value": 1, "_var_metadata": {"tag": "b"}})
    assert (fresh.get_value(), fresh.tag, fresh.ref) == (1, "b", False)
    assert sorted(Mixed(1).__getstate__()) == ["_raw_value", "_trace_state", "_var_metadata"]


def test_what_others_look_at():
    v = nnx.Param(jnp.asarray(ONE), tag="a")
    model = nnx.Dict(v=v)
    before = nnx.graphdef(model)
    v._var_metadata["level"] = 2
    assert v.level == 2
    assert nnx.graphdef(model) != before
    del v._var_metadata["level"]
    assert dict(v._var_metadata) == v.get_metadata()
    object.__setattr__(v, "_raw_value", jnp.zeros(2))
    assert v.get_value().sum() == 0
    assert v._trace_state.is_valid()
    assert model._trace_state.is_valid()
    assert weakref.ref(v)() is v


def test_an_object_made_in_a_trace_can_be_given_to_the_trace_around():
    outside = current_jax_trace()
    made = []

    def make():
        layer = nnx.Linear(1, 1, rngs=nnx.Rngs(0))
        layer.kernel = nnx.Param(np.ones((1, 1)))
        for owner in (layer, layer.kernel):
            assert owner._trace_state.is_valid()
            object.__setattr__(owner._trace_state, "_jax_trace", outside)
        made.append(layer)

    jax.eval_shape(make)
    made[0].kernel[...] = 2.0
    made[0].kernel = nnx.Param(np.zeros((1, 1)))
    with pytest.raises(TraceLevelError):
        made[0].bias[...] = 1.0


class Operation:
    """Makes objects itself, and gives them attributes at once."""

    def __new__(cls, *args, **kwargs):
        self = object.__new__(cls)
        self.config = (1, 2)
        vars(self)["_pytree__state"] = PytreeState()
        return self


def test_modules_with_a_base_class_that_makes_them():
    class Before(Operation, nnx.Module):
        def __init__(self):
            self.w = nnx.Param(jnp.asarray(ONE))

    class After(nnx.Module, Operation):
        def __init__(self):
            self.w = nnx.Param(jnp.asarray(ONE))

    class Bare(Operation, nnx.Module):
        pass

    for cls in (Before, After):
        model = cls()
        assert model.config == (1, 2)
        assert nnx.clone(model).config == (1, 2)
        assert nnx.graphdef(cls()) == nnx.graphdef(model)
        np.testing.assert_array_equal(nnx.jit(lambda m: m.w * m.config[1])(model), [2, 2])
    assert nnx.graphdef(Bare()) == nnx.graphdef(Bare())
    assert sorted(vars(After())) == ["config", "w"]


def test_who_knows_better_may_allow_a_change_in_another_trace():
    class Free(nnx.Module, pytree=False):
        def _check_valid_context(self, error_msg):
            assert "Cannot change Free" in error_msg()

    free = Free()
    jax.jit(lambda x: setattr(free, "size", 3) or x)(1.0)
    assert free.size == 3
