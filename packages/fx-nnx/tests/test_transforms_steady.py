"""Plans of the steady state: nothing stale is ever used."""

import gc
import weakref

import fx_nnx as nnx
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from fx_nnx.errors import ArgumentTypeError, PrefixError, TraceLevelError
from fx_nnx.states.sealed import SealedState, seal, unseal
from fx_nnx.transforms import layout
from fx_nnx.transforms.carrier import ObjectCarrier
from hypothesis import given, settings
from hypothesis import strategies as st


class Leaf(nnx.Module):
    def __init__(self, value):
        self.w = nnx.Param(jnp.array(value))
        self.k = 1


def total(first, second, x):
    seen = {id(v): v[...] for node in (first, second) for _, v in nnx.iter_graph(node) if isinstance(v, nnx.Variable)}
    out = sum(seen.values()) * x * len(seen)
    for node in (first, second):
        node.w[...] += x
    return out


EDITS = {
    "value": lambda a, b: a.w.set_value(a.w + 1),
    "replace": lambda a, b: setattr(a, "w", nnx.Param(jnp.array(7.0))),
    "share": lambda a, b: setattr(b, "w", a.w),
    "unshare": lambda a, b: setattr(b, "w", nnx.Param(b.w + 0.0)),
    "static": lambda a, b: setattr(a, "k", a.k + 1),
    "metadata": lambda a, b: b.w.set_metadata(tag=len(str(b.w.get_metadata()))),
    "child": lambda a, b: setattr(a, "child", Leaf(2.0)),
    "cycle": lambda a, b: setattr(b, "other", a),
    "list": lambda a, b: a.items.append(nnx.Param(jnp.array(3.0))),
    "array": lambda a, b: setattr(b, "table", jnp.array(2.0)),
}


def by_name():
    compiled = nnx.jit(total)
    return lambda first, second, x: compiled(x=x, second=second, first=first)


def in_containers():
    compiled = nnx.jit(lambda models, *, batch: total(*models["pair"], batch["x"]))
    return lambda first, second, x: compiled({"pair": [first, second]}, batch={"x": x, "more": (x, None)})


def sharded():
    there = jax.sharding.SingleDeviceSharding(jax.devices()[0])
    each = nnx.StateSharding({nnx.Param: there, ...: None})
    return nnx.jit(total, in_shardings=(each, each, None))


def sharded_by_value():
    there = jax.sharding.SingleDeviceSharding(jax.devices()[0])
    by_rank = nnx.StateSharding({lambda path, v: v.ndim == 0: there, ...: None})
    return nnx.jit(total, in_shardings=(by_rank, by_rank, None))


FORMS = {
    "positions": lambda: nnx.jit(total),
    "names": by_name,
    "containers": in_containers,
    "donated": lambda: nnx.jit(total, donate_argnums=(0, 1)),
    "sharded": sharded,
    "sharded by value": sharded_by_value,
}


@settings(deadline=None, max_examples=30)
@given(
    st.sampled_from(sorted(FORMS)),
    st.lists(st.tuples(st.sampled_from(sorted(EDITS)), st.booleans()), min_size=1, max_size=6),
)
def test_calls_after_any_edits_equal_plain_python(form, edits):
    pairs = [(Leaf(1.0), Leaf(2.0)) for _ in range(2)]
    for a, _ in pairs:
        a.items = nnx.data([])
    compiled = FORMS[form]()
    for name, twice in edits:
        results = []
        for f, (a, b) in zip((compiled, total), pairs):
            EDITS[name](a, b)
            results.append([f(a, b, 1.0) for _ in range(1 + twice)])
        np.testing.assert_allclose(*results)
    for mine, plain in zip(*pairs):
        np.testing.assert_allclose(mine.w[...], plain.w[...])


def test_an_optimizer_takes_part_without_looking_at_its_state():
    model = Leaf(1.0)
    optimizer = nnx.Optimizer(model, optax.adam(0.1), wrt=nnx.Param)

    @nnx.jit
    def step(model, optimizer, x):
        grads = nnx.grad(lambda m: (m.w * x) ** 2)(model)
        optimizer.update(model, grads)

    for _ in range(2):
        step(model, optimizer, 1.0)
    assert int(optimizer.step[...]) == 2
    _, records, arrays, _ = layout.find_records(((model, optimizer, 1.0), {}))
    assert arrays == [1.0]
    assert all(record.lasting and not record.contents for record in records)


@pytest.mark.parametrize("form", sorted(FORMS))
def test_what_is_known_is_not_walked_again(form, monkeypatch):
    a, b = Leaf(1.0), Leaf(2.0)
    compiled, walks = FORMS[form](), []
    walk = ObjectCarrier._walk
    monkeypatch.setattr(ObjectCarrier, "_walk", lambda self, *args: walks.append(1) or walk(self, *args))
    results = [float(compiled(a, b, 1.0)) for _ in range(3)]
    assert results == [6.0, 10.0, 14.0]
    # What depends on values has to be looked at each time.
    assert len(walks) == (3 if form == "sharded by value" else 1)


@pytest.mark.parametrize(
    "options", [{}, {"donate_argnums": 0}, {"in_shardings": (None, None)}, {"static_argnames": "y"}], ids=str
)
def test_what_was_traced_once_is_not_traced_again(options):
    traces = []

    @nnx.jit(**options)
    def f(model, x, y=1):
        traces.append(model)
        model.w[...] += x
        return model.w * y

    a, b = Leaf(1.0), Leaf(2.0)
    for model in (a, a, b, a, b):
        f(model, 1.0)
    assert len(traces) == 1
    np.testing.assert_allclose((a.w[...], b.w[...]), (4.0, 4.0))


def test_containers_of_another_structure_are_not_mistaken():
    a, b = Leaf(1.0), Leaf(2.0)
    f = nnx.jit(lambda tree: [m.w * 1 for m in jax.tree.leaves(tree, is_leaf=lambda x: isinstance(x, Leaf))])
    for _ in range(2):
        assert [*map(float, f([a, b]))] == [1, 2]
        assert [*map(float, f((b, a)))] == [2, 1]
        assert [*map(float, f({"x": b, "y": {"z": a}}))] == [2, 1]
        assert [*map(float, f({"z": b, "y": {"z": a}}))] == [1, 2]
        assert [*map(float, f([a, a]))] == [1, 1]


def test_sealed_states_read_like_states_and_refuse_changes():
    state = seal({"mu": nnx.State({"a": {"b": 1, "c": 2}})})["mu"]
    assert type(state) is SealedState
    assert state["a"]["b"] == state.a.c - 1 == 1
    assert list(state) == ["a"]
    assert len(state) == 1
    state.raw_mapping["a"]["b"] = 5
    assert type(unseal(state)) is nnx.State
    assert unseal(state).to_pure_dict() == {"a": {"b": 1, "c": 2}}
    for change in (
        lambda: state.a.__setitem__("b", 2),
        lambda: state.__delitem__("a"),
        lambda: state.replace_by_pure_dict({"a": {"b": 3}}),
    ):
        with pytest.raises(ArgumentTypeError, match="cannot be changed"):
            change()


@pytest.mark.parametrize("first", [True, False])
@pytest.mark.parametrize("replaced", [True, False])
def test_plans_do_not_keep_variables_alive(first, replaced):
    compiled = nnx.jit(total)
    long_lived, short_lived = Leaf(1.0), Leaf(2.0)
    models = (short_lived, long_lived) if first else (long_lived, short_lived)
    compiled(*models, 1.0)
    compiled(*models, 1.0)
    gone = weakref.ref(short_lived.w)
    del models
    if replaced:
        short_lived.w = nnx.Param(jnp.ones(()))
    else:
        del short_lived
    gc.collect()
    assert gone() is None


def test_partial_functions():
    model = Leaf(1.0)
    add = nnx.jit(lambda m, x: m.w.set_value(m.w + x))
    nnx.cached_partial(add, model)(2.0)
    nnx.jit_partial(lambda m, x: m.w.set_value(m.w * x), model)(3.0)
    assert float(model.w[...]) == 9


def test_methods_and_options():
    class Counter(nnx.Module):
        def __init__(self):
            self.n = nnx.Variable(jnp.array(0))

        @nnx.jit(static_argnames="by", donate_argnums=0)
        def add(self, by):
            self.n[...] += by
            return self.n[...]

    counter = Counter()
    assert int(counter.add(2)) == 2
    assert int(counter.add(by=2)) == 4
    traced = nnx.jit(lambda m, x: m.n * x)
    assert traced.trace(counter, 2).jaxpr.eqns
    traced.clear_cache()
    assert traced.__name__ == "<lambda>"


def test_donated_variables_stay_usable():
    model = Leaf(1.0)
    model.fixed = nnx.BatchStat(jnp.ones(3))

    @nnx.jit(donate_argnames=("m",))
    def f(m, x):
        m.w[...] += x.sum()
        return m.w[...]

    for _ in range(2):
        f(model, jnp.ones(2))
    assert float(model.w[...]) == 5
    np.testing.assert_allclose(model.fixed[...], 1)


@pytest.mark.parametrize("second", [False, True])
def test_values_of_several_groups_reach_their_own_variables(second):
    def step(given, other, x):
        for number, model in enumerate((given, other)):
            for name in "cab":
                variable = getattr(model, name)
                variable[...] = variable + x * (number + 1) * ord(name)
        return given.a[...] - other.c[...]

    def models():
        kinds = {"c": nnx.Param, "a": nnx.BatchStat, "b": nnx.Param}
        return [nnx.Dict({name: kind(jnp.array(float(n))) for name, kind in kinds.items()}) for n in range(2)]

    compiled, (given, other), (plain, apart) = nnx.jit(step, donate_argnums=int(second)), models(), models()
    for x in 1.0, 2.0, 3.0:
        assert float(compiled(given, other, x)) == float(step(plain, apart, x))
        assert nnx.to_pure_dict(nnx.state((given, other))) == nnx.to_pure_dict(nnx.state((plain, apart)))


def test_a_known_model_is_not_changed_from_another_trace():
    model, step = Leaf(1.0), nnx.jit(lambda m, x: m.w.set_value(m.w + x))
    for _ in range(2):
        step(model, 1.0)
        with pytest.raises(TraceLevelError, match="w"):
            jax.jit(lambda x: step(model, x))(1.0)
    assert float(model.w[...]) == 3


@pytest.mark.parametrize("options", [{"donate_argnums": 0}, {"donate_argnames": "model"}])
def test_references_in_donated_arguments_are_changed_in_place(options):
    def step(model, x):
        model.count[...] += x
        model.bare[...] += x
        model.w[...] = model.w * model.count[...]
        return model.w[...] + 0

    def make():
        return nnx.Dict(
            w=nnx.Param(jnp.ones(())), count=nnx.Cache(jnp.ones(()), ref=True), bare=jax.new_ref(jnp.ones(()))
        )

    compiled, model, plain = nnx.jit(step, **options), make(), make()
    count, old = model.count.get_raw_value(), model.w[...]
    for x in 1.0, 2.0, 3.0:
        call = {"model": model} if "donate_argnames" in options else None
        out = compiled(**call, x=x) if call else compiled(model, x)
        assert float(out) == float(step(plain, x)) == float(model.w[...])
        assert float(model.count[...]) == float(plain.count[...]) == float(model.bare[...])
    assert model.count.get_raw_value() is count
    assert old.is_deleted()  # what is no reference is donated


def test_changes_of_structure_inside_a_loop_are_noticed():
    class Counter(nnx.Module):
        def __init__(self):
            self.total, self.note = nnx.BatchStat(jnp.zeros(())), "new"

    def loop(change):
        def step(model, x):
            model.total[...] += x
            change(model)

        model = Counter()
        nnx.scan(step, in_axes=(nnx.StateAxes({...: nnx.Carry}), 0), out_axes=0)(model, jnp.arange(3.0))
        return model

    def back_and_forth(model):
        model.extra = nnx.Param(jnp.ones(()))
        del model.extra

    def noted(model):
        model.note = "seen"

    def tagged(model):
        model.total.set_metadata(tag="seen")

    unchanged = loop(back_and_forth)
    assert unchanged.total[...] == 3
    assert not hasattr(unchanged, "extra")
    assert loop(noted).note == "seen"
    assert loop(tagged).total.tag == "seen"


def test_axes_of_a_loop_are_told_apart_by_type():
    def loop(axis):
        return nnx.scan(lambda carry, x: (carry + x, x), in_axes=(nnx.Carry, axis), out_axes=(nnx.Carry, 0))

    assert loop(0)(jnp.zeros(()), jnp.arange(3.0))[0] == 3
    with pytest.raises(PrefixError, match="in_axes of scan"):
        loop(False)


@pytest.mark.parametrize("call", [lambda f, m, x: f(m, x), lambda f, m, x: f(m, x=x), lambda f, m, x: f((m, x))])
def test_a_function_is_traced_once_however_its_arguments_are_found(call):
    traced = []

    @nnx.jit
    def scaled(model, x=None):
        traced.append(1)
        model, x = model if isinstance(model, tuple) else (model, x)
        model.w[...] *= x
        return model.w[...]

    model = Leaf(1.0)
    assert [float(call(scaled, model, jnp.array(2.0))) for _ in range(3)] == [2.0, 4.0, 8.0]
    assert traced == [1]


def test_a_call_in_the_steady_state_names_a_value_that_jax_refuses():
    double = nnx.jit(lambda model: model.w[...] * 2)
    model = Leaf(1.0)
    double(model)
    double(model)
    model.w.set_value("text")
    with pytest.raises(TypeError, match="argument 0/w"):
        double(model)
