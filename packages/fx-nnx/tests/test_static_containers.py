"""Static lists, dicts and sets: part of the structure by what is in them at the moment."""

import copy
import dataclasses
import pickle
from typing import Any

import fx_nnx as nnx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from fx_nnx.errors import ArgumentTypeError
from fx_nnx.snapshots import Snapshot, snapshot_of


class Model(nnx.Module):
    def __init__(self):
        self.sizes = [2, 3]
        self.config = {"scale": 2.0, "deep": [{"shift": 1}, {"a", "b"}]}
        self.both = (1, [2])
        self.w = nnx.Param(jnp.ones(()))

    def __call__(self, x):
        return x * self.w[...] * self.sizes[0] * self.config["scale"] + self.config["deep"][0]["shift"]


CALLS = {
    "nnx.jit": lambda f: nnx.jit(f),
    "jax.jit": lambda f: jax.jit(f),
    "grad": lambda f: lambda m, x: nnx.value_and_grad(lambda m, x: f(m, x).sum())(m, x)[0],
    "vmap": lambda f: nnx.vmap(f, in_axes=(None, 0)),
    "remat": lambda f: nnx.remat(f),
    "split and jit": lambda f: (
        lambda m, x: jax.jit(lambda s, x, d: f(nnx.merge(d, s), x), static_argnums=2)(
            *nnx.split(m)[::-1][:1], x, nnx.graphdef(m)
        )
    ),
}


@pytest.mark.parametrize("way", CALLS)
def test_a_change_inside_is_seen_by_the_next_call(way):
    model, x = Model(), jnp.ones((4, 2))
    call = CALLS[way](lambda m, x: m(x))
    np.testing.assert_array_equal(np.sum(call(model, x)), np.sum(model(x)))
    model.sizes[0] = 7
    np.testing.assert_array_equal(np.sum(call(model, x)), np.sum(model(x)))
    model.config["deep"][0]["shift"] = -2
    np.testing.assert_array_equal(np.sum(call(model, x)), np.sum(model(x)))


def test_an_unchanged_model_is_traced_once_and_keeps_its_record():
    traces = 0

    @nnx.jit
    def call(model, x):
        nonlocal traces
        traces += 1
        return model(x)

    model = Model()
    for _ in range(3):
        call(model, jnp.ones(2))
    assert traces == 1
    record = model._nnx_record
    assert record is not None
    nnx.split(model)
    assert model._nnx_record is record
    model.both[1].append(3)
    call(model, jnp.ones(2))
    assert traces == 2
    assert model._nnx_record is not record
    model.both[1].pop()
    call(model, jnp.ones(2))
    assert traces == 2, "as it was at first"


def test_changes_inside_of_a_function_come_out_and_what_stays_is_the_same_object():
    model = Model()
    config = model.config

    @nnx.jit
    def change(model):
        model.sizes.append(4)
        assert model.config == config

    change(model)
    assert model.sizes == [2, 3, 4]
    assert model.config is config
    change(model)
    assert model.sizes == [2, 3, 4, 4]


@pytest.mark.parametrize(
    "copied",
    [nnx.clone, copy.deepcopy, lambda m: pickle.loads(pickle.dumps(m)), lambda m: nnx.merge(*nnx.split(m))],
    ids=["clone", "deepcopy", "pickle", "merge"],
)
def test_copies_have_their_own(copied):
    model = Model()
    other = copied(model)
    assert (other.sizes, other.config, other.both) == (model.sizes, model.config, model.both)
    assert nnx.graphdef(other) == nnx.graphdef(model)
    other.sizes.append(1)
    other.config["deep"][1].add("c")
    other.both[1].clear()
    assert (model.sizes, model.config, model.both) == (Model().sizes, Model().config, Model().both)
    assert nnx.graphdef(other) != nnx.graphdef(model)


def test_models_of_one_definition_do_not_share_them():
    graphdef, state = nnx.split(Model())
    first, second = nnx.merge(graphdef, state), nnx.merge(graphdef, state)
    first.sizes.append(1)
    assert second.sizes == nnx.merge(graphdef, state).sizes == [2, 3]


def test_definitions_have_a_hash_and_pickle():
    model = Model()
    graphdef = nnx.graphdef(model)
    assert hash(graphdef) == hash(nnx.graphdef(Model()))
    assert pickle.loads(pickle.dumps(graphdef)) == graphdef
    model.sizes[1] = 4
    assert graphdef == nnx.graphdef(Model()) != nnx.graphdef(model)


@pytest.mark.parametrize(
    ("one", "other"),
    [([1], [True]), ([1], [1.0]), ([0.0], [-0.0]), ([1], (1,)), ({"a": 1, "b": 2}, {"b": 2, "a": 1}), ([[]], [()])],
)
def test_what_a_trace_could_tell_apart_is_not_equal(one, other):
    assert Snapshot(one) == Snapshot(copy.deepcopy(one))
    assert Snapshot(one) != Snapshot(other)


@dataclasses.dataclass(eq=False)
class Linked:
    scale: float = 1.0
    link: Any = None


@dataclasses.dataclass
class LinkedWithoutHash(Linked):
    pass


LINKS = {
    "itself": lambda made: made,
    "a list of itself": lambda made: [made, made],
    "a dict of itself": lambda made: {"a": (made,)},
    "one that holds it": lambda made: Linked(2.0, made),
}


@pytest.mark.parametrize("link", LINKS)
@pytest.mark.parametrize("kind", [Linked, LinkedWithoutHash])
def test_records_that_hold_themselves_are_looked_into(kind, link):
    record = kind()
    record.link = LINKS[link](record)
    model = nnx.Module()
    model.record = nnx.static(record)
    model.w = nnx.Param(jnp.ones(()))
    traces = []

    def scaled(model):
        traces.append(1)
        other = model.record.link
        return model.w * model.record.scale + (other.scale if isinstance(other, Linked) else 0)

    f, g = nnx.jit(scaled), nnx.jit(lambda x: scaled(model) + x)
    first = float(f(model))
    assert f(model) == g(0.0) == first
    assert len(traces) == 2
    record.scale = 5.0
    assert f(model) == g(0.0) == scaled(model) > first
    assert model.record is record
    inner = snapshot_of(record).thaw()
    assert inner is record


def test_lists_that_hold_themselves():
    model = nnx.Module()
    model.w, model.odd = nnx.Param(jnp.ones(())), nnx.static([])
    model.odd.append(model.odd)
    f = nnx.jit(lambda m: m.w * len(m.odd) * len(m.odd[0]))
    assert f(model) == 1
    model.odd.append(2)
    assert f(model) == 4


def test_copies_of_records_that_hold_themselves():
    record = LinkedWithoutHash()
    record.link = [record]
    before = snapshot_of(record)
    record.scale = 3.0
    copied = before.thaw()
    assert copied is not record
    assert copied.scale == 1.0
    assert copied.link[0] is copied
    assert before != snapshot_of(record)
    record.scale = 1.0
    assert before == snapshot_of(record)
    assert hash(before) == hash(snapshot_of(record))


def test_other_values_without_a_hash_are_refused_by_name():
    class Odd:
        __slots__ = ()
        __hash__ = None  # type: ignore[assignment]

    model = Model()
    model.odd = nnx.static([Odd()])
    assert snapshot_of(model.odd) is model.odd
    with pytest.raises(ArgumentTypeError, match=r"where: .*odd"):
        nnx.jit(lambda m: m.w[...])(model)
