"""Values that are equal but not the same, static ones without a hash, and such that change in place."""

import collections
import dataclasses
import pickle
import types
from typing import Any

import fx_nnx as nnx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from fx_nnx.snapshots import Snapshot, snapshot_of


@dataclasses.dataclass(frozen=True)
class Frozen:
    value: Any


class Pair(collections.namedtuple("Pair", "value")):
    __slots__ = ()


PAIRS = [
    (1, 1.0),
    (1.0, 1),
    (True, 1),
    (1, True),
    (0.0, -0.0),
    (-0.0, 0.0),
    (1, np.float32(1)),
    (1.0, np.float64(1)),
    (np.int32(1), np.float32(1)),
    (1, 1 + 0j),
    ((1, 2), (1.0, 2)),
    ((0.0,), (-0.0,)),
    (Frozen(1), Frozen(1.0)),
    (Frozen((1,)), Frozen((True,))),
    (Pair(1), Pair(1.0)),
    ([1], [1.0]),
    ({"a": 0.0}, {"a": -0.0}),
    ({1: 2}, {True: 2}),
    (frozenset({1}), frozenset({1.0})),
]


def shown(value):
    """A text that tells everything of a value."""
    return repr(value) + str(jax.tree.map(type, value)) + (str(type(value.value)) if hasattr(value, "value") else "")


class Holder(nnx.Module):
    def __init__(self, value):
        self.value = nnx.static(value)
        self.w = nnx.Param(jnp.array(1.0))


def seen_of_attribute(make):
    seen = []
    call = make(lambda m, x: (seen.append(shown(m.value)), x + m.w)[1])
    return seen, lambda value: call(Holder(value), 1.0)


def by_assignment(make):
    seen, model = [], Holder(None)
    call = make(lambda m, x: (seen.append(shown(m.value)), x + m.w)[1])

    def see(value):
        model.value = value
        call(model, 1.0)

    return seen, see


def of_argument(make):
    seen = []
    call = nnx.jit(lambda x, value: (seen.append(shown(value)), x)[1], static_argnums=1)
    return seen, lambda value: call(1.0, value)


def of_named_argument(make):
    seen = []
    call = nnx.jit(lambda x, value: (seen.append(shown(value)), x)[1], static_argnames="value")
    return seen, lambda value: call(1.0, value=value)


def of_metadata(make):
    seen = []
    call = make(lambda m, x: (seen.append(shown(m.w.tag)), x + m.w)[1])

    def see(value):
        model = Holder(None)
        model.w.set_metadata(tag=value)
        call(model, 1.0)

    return seen, see


WAYS = {"new": seen_of_attribute, "set": by_assignment, "argument": of_argument, "name": of_named_argument}
MAKES = {
    "nnx.jit": nnx.jit,
    "jax.jit": jax.jit,
    "functional": lambda f: nnx.jit(f, graph=False),
    "split": lambda f: lambda m, x: jax.jit(lambda d, s, x: f(nnx.merge(d, s), x), static_argnums=0)(*nnx.split(m), x),
}


@pytest.mark.parametrize("pair", PAIRS, ids=repr)
@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("make", MAKES)
def test_equal_is_not_the_same(make, way, pair):
    if ("argument" in way or way == "name") and (make != "nnx.jit" or isinstance(pair[0], list | dict)):
        pytest.skip("static arguments are those of nnx.jit, and have a hash")
    seen, see = WAYS[way](MAKES[make])
    for value in pair:
        see(value)
        assert seen[-1] == shown(value)


@pytest.mark.parametrize("pair", [p for p in PAIRS if not isinstance(p[0], list | dict)], ids=repr)
def test_equal_metadata_is_not_the_same(pair):
    seen, see = of_metadata(nnx.jit)
    for value in pair:
        see(value)
        assert seen[-1] == shown(value)
    first, second = (nnx.Param(1, tag=value) for value in pair)
    assert nnx.graphdef(first) != nnx.graphdef(second)


def test_the_dtype_of_the_result_follows():
    model = Holder(1)
    f = nnx.jit(lambda m: jnp.asarray(m.value) * 1)
    assert f(model).dtype == jnp.int32
    model.value = 1.0
    assert f(model).dtype == jnp.float32
    model.value = np.float32(1)
    assert not f(model).weak_type


def test_keys_of_dicts():
    seen = []
    f = nnx.jit(lambda m, d: seen.append([type(k) for k in d]))
    g = nnx.jit(lambda d: seen.append([type(k) for k in d]))
    model = Holder(0)
    for key in (1, True, 1.0):
        f(model, {key: jnp.ones(1)})
        assert seen[-1] == [type(key)]
        g({key: model})
        assert seen[-1] == [type(key)]
    h = nnx.jit(lambda m: seen.append([type(k) for k in m.table]))
    for key in (1, True):
        model.table = nnx.data({key: jnp.ones(1)})
        h(model)
        assert seen[-1] == [type(key)]


def test_equal_values_of_the_same_type_share_a_program():
    count = []
    f = nnx.jit(lambda m, x: count.append(1))
    for value in (1.5, 1.5, Frozen(2.5), Frozen(2.5), (1, "a"), (1, "a")):
        f(Holder(value), 1.0)
    assert len(count) == 3


# --- static values without a hash -------------------------------------------------------------------------------------


@dataclasses.dataclass
class Config:
    width: int = 3
    names: list = dataclasses.field(default_factory=list)
    table: Any = None


@dataclasses.dataclass(eq=False)
class ByIdentity:
    width: int = 3


@dataclasses.dataclass(slots=True)
class Slotted:
    width: int = 3


class Comparable:
    def __init__(self, width=3):
        self.width = width

    def __eq__(self, other):
        return self.width == other.width

    __hash__ = None


class ConfigDict(dict):
    __getattr__ = dict.__getitem__
    __setattr__ = dict.__setitem__


CONFIGS = {
    "dataclass": Config,
    "with array": lambda: Config(table=np.arange(3.0)),
    "with dict of arrays": lambda: Config(table={"mean": np.arange(3.0)}),
    "with jax array": lambda: Config(table=jnp.arange(3.0)),
    "nested": lambda: Config(table=Config()),
    "frozen with list": lambda: types.SimpleNamespace(width=3, inner=Frozen([1])),
    "hashable by identity": ByIdentity,
    "slots": Slotted,
    "comparable": Comparable,
    "namespace": lambda: types.SimpleNamespace(width=3),
    "dict subclass": lambda: ConfigDict(width=3),
}


class Net(nnx.Module):
    def __init__(self, config):
        self.config = config
        self.layer = nnx.Linear(2, 3, rngs=nnx.Rngs(0))

    def __call__(self, x):
        return self.layer(x) * self.config.width


TRANSFORMS = {
    "jit": nnx.jit,
    "jax.jit": jax.jit,
    "grad": lambda f: lambda m, x: nnx.value_and_grad(lambda m, x: f(m, x).sum())(m, x)[0],
    "vmap": lambda f: nnx.vmap(f, in_axes=(None, 0)),
    "remat": nnx.remat,
    "scan": lambda f: (
        lambda m, x: nnx.scan(lambda m, c, x: (c, f(m, x)), in_axes=(None, nnx.Carry, 0), out_axes=(nnx.Carry, 0))(
            m, 0, x
        )[1]
    ),
    "cond": lambda f: lambda m, x: nnx.cond(True, f, f, m, x),
    "cached_partial": lambda f: lambda m, x: nnx.cached_partial(nnx.jit(f), m)(x),
    "bound": lambda f: lambda m, x: nnx.jit(m.__call__)(x),
}


@pytest.mark.parametrize("config", CONFIGS)
@pytest.mark.parametrize("transform", TRANSFORMS)
def test_static_values_without_a_hash(transform, config):
    net, x = Net(CONFIGS[config]()), jnp.ones((4, 2))
    kept = net.config
    f = TRANSFORMS[transform](lambda m, x: m(x))
    np.testing.assert_allclose(np.sum(f(net, x)), np.sum(net(x)), rtol=1e-6)
    net.config.width = 5
    np.testing.assert_allclose(np.sum(f(net, x)), np.sum(net(x)), rtol=1e-6)
    assert net.config is kept


@pytest.mark.parametrize("config", CONFIGS)
def test_models_with_them_are_compiled_once_and_copied(config):
    net, count = Net(CONFIGS[config]()), []
    f = nnx.jit(lambda m, x: (count.append(1), m(x))[1])
    for _ in range(3):
        f(net, jnp.ones((1, 2)))
    f(nnx.clone(net), jnp.ones((1, 2)))
    assert len(count) == 1
    assert nnx.clone(net).config is net.config
    graphdef, state = nnx.split(net)
    net.config.width = 7
    assert nnx.merge(graphdef, state).config.width == 3
    assert nnx.graphdef(net) != graphdef
    assert nnx.merge(*nnx.split(net)).config.width == 7


def test_arrays_in_configurations_count_by_content():
    net = Net(Config(table=np.arange(3.0)))
    f = nnx.jit(lambda m: m.config.table.sum())
    assert float(f(net)) == 3.0
    net.config.table[0] = 10.0
    assert float(f(net)) == 13.0
    net.config.names.append("a")
    assert nnx.graphdef(net) == nnx.graphdef(Net(Config(table=np.array([10.0, 1, 2]), names=["a"])))
    assert nnx.graphdef(net) != nnx.graphdef(Net(Config(table=np.array([10, 1, 2]), names=["a"])))


def test_list_of_dicts_and_one_configuration_in_many_modules():
    config = Config()

    class Stack(nnx.Module):
        def __init__(self):
            self.rules = [{"a": 1}, {"b": [2.0]}]
            self.layers = nnx.List([Net(config) for _ in range(3)])

    stack = Stack()
    f = nnx.jit(lambda m, x: sum(layer(x) for layer in m.layers).sum() * m.rules[1]["b"][0])
    x = jnp.ones((1, 2))
    first = f(stack, x)
    assert len(stack._nnx_record.contents) == 2, "the rules, and the configuration once"
    stack.rules[1]["b"][0] = 4.0
    np.testing.assert_allclose(f(stack, x), 2 * first, rtol=1e-6)
    config.width = 6
    np.testing.assert_allclose(f(stack, x), 4 * first, rtol=1e-6)


def test_snapshots_pickle_and_values_that_cannot_be_looked_into_stay():
    made = snapshot_of(Config())
    assert type(made) is Snapshot
    assert pickle.loads(pickle.dumps(made)) == made
    loop = []
    loop.append(loop)
    assert snapshot_of(loop) == snapshot_of(loop)

    class Odd:
        __slots__ = ()
        __hash__ = None  # type: ignore[assignment]

    odd = [Odd()]
    assert snapshot_of(odd) is odd


@pytest.mark.parametrize("transform", [nnx.jit, nnx.grad, nnx.remat])
@pytest.mark.parametrize(
    "pair", [(slice(0, 2), slice(1, 3)), (slice(2), slice(2.0)), (range(0), range(1, 1))], ids=repr
)
def test_slices_and_ranges_are_static_values(pair, transform):
    seen = []
    f = transform(lambda m, x: (seen.append(m.value), x.sum())[1], **({"argnums": 1} if transform is nnx.grad else {}))
    for value in pair:
        module = nnx.Dict(x=nnx.Param(jnp.ones(())))
        module.value = value
        f(module, jnp.ones(3))
        assert repr(seen[-1]) == repr(value)
    assert nnx.graphdef(nnx.Dict(value=pair[0])) != nnx.graphdef(nnx.Dict(value=pair[1]))
