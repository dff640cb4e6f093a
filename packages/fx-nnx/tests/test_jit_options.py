"""Options of jit, as `jax.jit` has them, and ahead-of-time compilation."""

import fx_nnx as nnx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from fx_nnx.errors import ArgumentNumberError, NnxError, PrefixError, SharedReferenceError
from jax.sharding import Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

mesh = Mesh(np.array(jax.devices()[:1]), ("data",))
rows = NamedSharding(mesh, P("data"))


def f(x, scale, relu):
    y = x * scale
    return jnp.maximum(y, 0).sum() if relu else y.sum()


STATICS = [{"static_argnums": 2}, {"static_argnums": (2,)}, {"static_argnums": -1}, {"static_argnames": "relu"}]
SHARDINGS = [{}, {"in_shardings": (rows, None)}, {"in_shardings": None}, {"in_shardings": (rows, None), "out": True}]
REST = [
    {},
    {"donate_argnums": 0},
    {"donate_argnames": "x"},
    {"donate_argnums": (0, 1)},
    {"keep_unused": True},
    {"inline": True},
    {"compiler_options": {}},
]


@pytest.mark.filterwarnings("ignore:Some donated buffers")
@pytest.mark.parametrize("statics", STATICS)
@pytest.mark.parametrize("shardings", SHARDINGS)
@pytest.mark.parametrize("rest", REST)
def test_the_same_table_as_jax(statics, shardings, rest):
    options = {**statics, **rest, **shardings}
    if options.pop("out", False):
        options["out_shardings"] = NamedSharding(mesh, P())
    ours, theirs = nnx.jit(f, **options), jax.jit(f, **options)
    for relu in (True, False, True):
        x, scale = jnp.arange(-8.0, 8.0).reshape(4, 4), jnp.array(0.5)
        want = theirs(jnp.array(x), jnp.array(scale), relu)
        got = ours(jnp.array(x), jnp.array(scale), relu)
        assert float(got) == float(want)
        assert got.sharding.is_equivalent_to(want.sharding, 0)
    assert ours._cache_size() == theirs._cache_size() == 2
    if "in_shardings" not in options or options["in_shardings"] is None:
        assert float(ours(jnp.ones((4, 4)), 2.0, relu=True)) == 32.0


WRONG = [
    {"static_argnums": 5},
    {"static_argnums": -4},
    {"static_argnames": "other"},
    {"donate_argnums": 5},
    {"donate_argnames": "other"},
    {"static_argnums": 0, "donate_argnums": 0},
    {"static_argnums": "relu"},
]


@pytest.mark.parametrize("options", WRONG, ids=str)
def test_arguments_that_are_not_there(options):
    with pytest.raises((ValueError, TypeError)):
        jax.jit(f, **options)
    with pytest.raises(ArgumentNumberError, match=next(iter(options))):
        nnx.jit(f, **options)


def test_open_ended_functions_take_any_number():
    assert nnx.jit(lambda *args: args[3], static_argnums=3)(1, 2, 3, 4) == 4
    assert nnx.jit(lambda **names: names["a"], static_argnames="a")(a=4) == 4


def test_shardings_count_only_what_is_traced():
    model, x = nnx.Linear(4, 4, rngs=nnx.Rngs(0)), jnp.ones((4, 4))
    each = nnx.StateSharding({nnx.Param: NamedSharding(mesh, P()), ...: None})
    call = nnx.jit(
        lambda flag, m, x: m(x) if flag else x, in_shardings=(each, rows), out_shardings=rows, static_argnums=0
    )
    np.testing.assert_array_equal(call(True, model, x), model(x))
    np.testing.assert_array_equal(call(False, model, x), x)


class Counter(nnx.Module):
    def __init__(self):
        self.n = nnx.Variable(jnp.array(0))
        self.linear = nnx.Linear(2, 2, rngs=nnx.Rngs(0))

    def __call__(self, x, flag=True):
        self.n[...] += 1
        return self.linear(x) if flag else x


@pytest.mark.parametrize(
    ("options", "given"),
    [
        ({}, lambda m, x: ((m, x), {})),
        ({}, lambda m, x: ((m,), {"x": x})),
        ({"static_argnums": 2}, lambda m, x: ((m, x, False), {})),
        ({"static_argnames": "flag"}, lambda m, x: ((m, x), {"flag": False})),
        ({"donate_argnums": 0}, lambda m, x: ((m, x), {})),
    ],
)
def test_ahead_of_time_programs_are_called_without_static_arguments(options, given):
    model, x = Counter(), jnp.ones((1, 2))
    args, kwargs = given(model, x)
    jitted = nnx.jit(Counter.__call__, **options)
    lowered = jitted.lower(*args, **kwargs)
    assert "module @jit" in lowered.as_text()
    compiled = lowered.compile()
    assert int(model.n[...]) == 0
    flag = kwargs.pop("flag", args[2] if len(args) > 2 else True)
    for _ in range(2):
        got = compiled(*args[:2], **kwargs)
    np.testing.assert_allclose(got, model.linear(x) if flag else x, rtol=1e-6)
    assert int(model.n[...]) == 2
    assert "HloModule" in compiled.as_text()
    assert compiled.cost_analysis() is not None
    with pytest.raises(TypeError):
        compiled(model, x, x)


def test_ahead_of_time_programs_of_methods_partials_and_shapes():
    model, x = Counter(), jnp.ones((1, 2))
    want = model.linear(x)
    abstract = nnx.eval_shape(Counter)
    shape = jax.ShapeDtypeStruct((1, 2), jnp.float32)
    programs = [
        nnx.jit(model).lower(x).compile(),
        nnx.jit(model.__call__, static_argnames="flag").lower(shape, flag=True).compile(),
        nnx.jit_partial(Counter.__call__, model).lower(x).compile(),
        nnx.jit_partial(Counter.__call__, model).trace(x).lower().compile(),
        nnx.cached_partial(nnx.jit(Counter.__call__), model).lower(x).compile(),
    ]
    for program in programs:
        np.testing.assert_allclose(program(x), want, rtol=1e-6)
    of_shapes = nnx.jit(Counter.__call__).lower(abstract, shape).compile()
    np.testing.assert_allclose(of_shapes(model, x), want, rtol=1e-6)
    assert int(model.n[...]) == 6


@pytest.mark.parametrize("options", [{}, {"graph_updates": False}, {"graph": False, "graph_updates": False}])
def test_ahead_of_time_programs_of_partials_with_static_arguments(options):
    def f(m, times, x, scale=1, *, flag):
        m.n[...] += times
        return x * times * scale if flag else x

    model, x = Counter(), jnp.ones(2)
    step = nnx.jit_partial(f, model, 3, static_argnums=(1, 3), static_argnames="flag", **options)
    program = step.lower(x, 2, flag=True).compile()
    for _ in range(2):
        np.testing.assert_allclose(program(x), [6, 6])
    assert int(model.n[...]) == 6


def test_it_has_what_the_result_of_jax_jit_has():
    model, x = Counter(), jnp.ones((1, 2))
    jitted, theirs = nnx.jit(Counter.__call__, static_argnums=2), jax.jit(lambda x: x)
    for name in ("lower", "trace", "eval_shape", "clear_cache", "_cache_size"):
        assert callable(getattr(theirs, name))
        assert callable(getattr(jitted, name))
    jitted(model, x, True)
    jitted(model, x, False)
    assert jitted._cache_size() == jitted.jitted_fn._cache_size() == 2
    assert jitted.eval_shape(model, x, True) == jax.ShapeDtypeStruct((1, 2), jnp.float32)
    assert jitted.trace(model, x, True).jaxpr.eqns
    assert int(model.n[...]) == 2
    jitted.clear_cache()
    assert jitted._cache_size() == 0
    partial = nnx.jit_partial(Counter.__call__, model)
    partial(x)
    assert partial._cache_size() == partial.jitted_fn._cache_size() == 1
    assert partial.eval_shape(x).shape == (1, 2)
    partial.clear_cache()
    assert partial._cache_size() == 0


class Agent(nnx.Module):
    def __init__(self, **options):
        self.online = nnx.Linear(4, 2, rngs=nnx.Rngs(0))
        self.target = nnx.clone(self.online, **options)


def step(agent, *_):
    agent.online.kernel[...] += 1
    agent.target.kernel[...] += 2


def test_donated_values_that_share_a_buffer_are_named():
    with pytest.raises(NnxError, match=r"(?s)argument 0/online/bias and argument 0/target/bias.*arrays=True"):
        nnx.jit(step, donate_argnums=0)(Agent())
    agent = Agent(arrays=True)
    with pytest.raises(NnxError, match=r"argument 0/online/kernel and argument 1"):
        nnx.jit(lambda agent, x: (step(agent), x + 1), donate_argnums=0)(agent, agent.online.kernel[...])
    agent = Agent(arrays=True)
    donating = nnx.jit(step, donate_argnums=0)
    donating(agent)
    donating(agent)
    np.testing.assert_allclose(agent.target.kernel - agent.online.kernel, 2.0, atol=1e-5)


def test_arguments_given_in_advance_are_looked_at_in_advance():
    shared = nnx.Param(jnp.ones(()))
    parts = nnx.Dict(w=shared), {"again": nnx.Dict(w=shared)}
    f = lambda a, b, x: (a.w + b["again"].w) * x  # noqa: E731
    with pytest.raises(SharedReferenceError, match=r"argument 0/w and argument 1\['again'\]/w"):
        nnx.jit_partial(f, *parts, graph=False)
    assert nnx.jit_partial(f, *parts, graph_updates=False)(3.0) == 6.0
    assert nnx.jit_partial(f, *nnx.clone(parts), graph_updates=False)(3.0) == 6.0


@pytest.mark.parametrize("name", ["in_shardings", "out_shardings"])
@pytest.mark.parametrize("wrong", [1, (None, "x"), nnx.Dict(a=nnx.Param(1)), nnx.StateSharding({nnx.Param: 0})])
def test_what_is_no_sharding_is_refused_before_the_call(name, wrong):
    with pytest.raises(PrefixError, match=f"{name} has an entry that it cannot have"):
        nnx.jit(lambda *args: args, **{name: wrong})
