"""Models are made anew by code that is written for their attributes: whatever these are, the copy is the same."""

import copy

import fx_nnx as nnx
import jax
import jax.numpy as jnp
import pytest
from fx_nnx.errors import InvalidAttributeError, TraceLevelError
from hypothesis import given, settings
from hypothesis import strategies as st

ARRAY = jnp.ones(2)
NAMES = ["a", "b_1", "class", "None", "__x", "_y", "two words", "ﬁ", "ſ", "", "self", "new", "trace", "made", "leaves"]


class OwnSlots(nnx.Module):
    __slots__ = ("more",)


class WithDictionary:
    pass


class Odd(WithDictionary, nnx.BatchStat):
    pass


class Other(nnx.Param):
    pass


def value_of_kind(kind, shared):
    return {
        "param": lambda: nnx.Param(ARRAY),
        "tagged": lambda: nnx.Param(ARRAY, tag=kind),
        "stat": lambda: nnx.BatchStat({"x": ARRAY, "y": 1.0}),
        "other": lambda: Other(3.0),
        "odd": lambda: Odd(ARRAY),
        "ref": lambda: nnx.Param(ARRAY, ref=True),
        "hooked": lambda: nnx.Param(ARRAY, on_get_value=lambda v, x: x + 1),
        "shared": lambda: shared[0],
        "shared module": lambda: shared[1],
        "array": lambda: ARRAY,
        "none": lambda: nnx.data(None),
        "static": lambda: ("static", 1),
        "list": lambda: nnx.data([nnx.Param(ARRAY), {"k": (nnx.BatchStat(1.0), shared[0])}, ARRAY]),
        "dict": lambda: nnx.data({"b": nnx.Param(ARRAY), "a": shared[1]}),
        "tuple": lambda: nnx.data((nnx.Param(ARRAY), shared[0])),
        "state": lambda: nnx.state(nnx.Dict(a=nnx.Param(ARRAY))),
        "module": lambda: nnx.Dict(w=nnx.Param(ARRAY), n=1),
        "empty": lambda: nnx.List([]),
        "many": lambda: nnx.List([nnx.Param(ARRAY) for _ in range(103)]),
        "wide": lambda: nnx.Dict({f"p{i}": nnx.Param(ARRAY) for i in range(40)}),
    }[kind]()


KINDS = [
    "param",
    "tagged",
    "stat",
    "other",
    "odd",
    "ref",
    "hooked",
    "shared",
    "shared module",
    "array",
    "none",
    "static",
]
KINDS += ["list", "dict", "tuple", "state", "module", "empty", "many", "wide"]


def model_of(attributes, cyclic, slots):
    shared = nnx.Param(ARRAY), nnx.Dict(w=nnx.Param(ARRAY))
    model = OwnSlots() if slots else nnx.Module()
    for name, kind in attributes.items():
        model._nnx_set(name, value_of_kind(kind, shared))
    if cyclic:
        shared[1].back = model
    return model


def assert_same(model, made, *, own):
    """Compare structure, values and sharing; ``own`` if the second model has variables of its own."""
    assert type(made) is type(model)
    assert nnx.graphdef(made) == nnx.graphdef(model)
    ours, theirs = ([v for _, v in nnx.iter_graph(m) if isinstance(v, nnx.Variable)] for m in (model, made))
    for a, b in zip(ours, theirs, strict=True):
        assert (type(a), a._nnx_meta) == (type(b), b._nnx_meta)
        assert (a is not b) == own
        raw, copied = a.get_raw_value(), b.get_raw_value()
        assert (copied is not raw) if a.ref and own else (copied is raw)
    assert {k: type(v) for k, v in vars(made).items()} == {k: type(v) for k, v in vars(model).items()}
    # Sorted by name, and each with a kind of its own.
    assert list(made._nnx_kinds) == list(vars(made)) == sorted(vars(made))
    assert made._nnx_kinds == model._nnx_kinds


@settings(deadline=None, max_examples=80)
@given(st.dictionaries(st.sampled_from(NAMES), st.sampled_from(KINDS), max_size=8), st.booleans(), st.booleans())
def test_copies_of_any_attributes_are_the_same(attributes, cyclic, slots):
    model = model_of(attributes, cyclic, slots)
    for _ in range(2):
        assert_same(model, nnx.clone(model), own=True)
    graphdef, state = nnx.split(model)
    assert_same(model, nnx.merge(graphdef, state), own=False)
    assert_same(model, nnx.merge(graphdef, state, copy=True), own=True)
    made = nnx.clone(model)
    made.fresh = nnx.Param(ARRAY)
    for name in list(attributes):
        made._nnx_delete(name)
    assert list(vars(made)) == ["fresh"]
    assert_same(model, nnx.clone(model), own=True)


def test_a_copy_announces_its_changes_and_is_guarded_like_any_object():
    model = nnx.Dict(a=nnx.Param(ARRAY), child=nnx.Dict(b=nnx.BatchStat(ARRAY), n=1))
    made = nnx.clone(model)
    before = nnx.graphdef(made)
    made.a.set_metadata(tag="x")
    assert nnx.graphdef(made) != before
    made.a.del_metadata("tag")
    made.child.n = 2
    assert nnx.graphdef(made) != before
    with pytest.raises(InvalidAttributeError, match="zork"):
        made.a.zork = 1
    with pytest.raises(TraceLevelError, match="Dict/a"):
        jax.jit(lambda: made.a.set_value(ARRAY))()
    assert copy.copy(made.a).get_value() is made.a.get_value()


def test_types_with_the_same_places_do_not_mix():
    models = [nnx.Dict(x=cls(ARRAY), y=nnx.Param(ARRAY, tag=tag)) for cls in (nnx.Param, Other) for tag in (None, "t")]
    for model in (*models, *models):
        assert_same(model, nnx.clone(model), own=True)
