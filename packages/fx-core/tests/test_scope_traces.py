import threading

import fx_core
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from fx_core.compat.jax import current_trace, is_current
from fx_core.errors import InvalidScopeError, JaxTransformError
from fx_core.scope import apply, bind, init, lazy_init

KEY = jax.random.key(0)
TRANSFORMS = {
    "jit": jax.jit,
    "vmap": lambda f: lambda x: jax.vmap(f)(x[None])[0],
    "grad": jax.grad,
    "checkpoint": jax.checkpoint,
    "cond": lambda f: lambda x: jax.lax.cond(x > 0, f, lambda x: x, x),
    "scan": lambda f: lambda x: jax.lax.scan(lambda c, _: (f(c), None), x, None, length=2)[0],
    "eval_shape": lambda f: lambda x: jax.eval_shape(f, x),
}
CREATIONS = {
    "create the parameter 'new' from values": lambda s, x: s.param("new", lambda key: x),
    "create the parameter 'new' from values ": lambda s, x: s.param("new", lambda key: 2 * x),
    "create the variable 'new' of the collection 'state' from values": lambda s, x: s.variable(
        "state", "new", lambda: x
    ),
}


def make():
    return bind({"params": {"w": jnp.ones(())}, "state": {"c": jnp.ones(())}}, {"params": KEY}, mutable=True)


@pytest.mark.parametrize("around", [lambda f: f, jax.jit], ids=["eager", "jit"])
@pytest.mark.parametrize("transform", TRANSFORMS.values(), ids=TRANSFORMS)
def test_writing_values_of_another_trace_raises(transform, around):
    def run(x):
        scope = bind({"params": {"layer": {}}, "state": {"layer": {"c": 1.0}}}, {"params": KEY}, mutable=True)
        inner = scope.push("layer")

        def f(x):
            inner.put_variable("state", "c", {"value": 2 * x})
            return x

        return transform(f)(x)

    match = "A scope cannot write the variable 'c' of the collection 'state' from values in another JAX trace"
    with pytest.raises(JaxTransformError, match=match) as info:
        around(run)(jnp.ones(()))
    assert info.value.path == "/layer"
    assert "fx_transforms.lift" in info.value.fix


@pytest.mark.parametrize("around", [lambda f: f, jax.jit], ids=["eager", "jit"])
@pytest.mark.parametrize("transform", TRANSFORMS.values(), ids=TRANSFORMS)
def test_writing_other_values_and_drawing_keys_is_allowed_everywhere(transform, around):
    def run(x, inside):
        scope, drawn = make(), []

        def f(x):
            scope.put_variable("state", "c", y)
            scope.put_variable("state", "n", scope.get_variable("state", "n", 0) + 1)
            # Keys go on from those drawn outside, and those outside from these.
            drawn.append(jax.random.uniform(scope.make_rng("params")))
            return x + drawn[-1]

        y = 3 * x
        first = jax.random.uniform(scope.make_rng("params"))
        result = transform(f)(x) if inside else f(x)
        result = None if isinstance(result, jax.ShapeDtypeStruct) else result
        numbers = first, result, jax.random.uniform(scope.make_rng("params"))
        return numbers, scope.variables()["state"]

    got, want = (around(lambda x, inside=inside: run(x, inside))(jnp.ones(())) for inside in (True, False))
    (first, result, last), state = got
    assert (first, last) == (want[0][0], want[0][2])
    assert state == want[1]
    if transform not in (TRANSFORMS["grad"], TRANSFORMS["scan"], TRANSFORMS["eval_shape"]):
        np.testing.assert_allclose(result, want[0][1], rtol=1e-6)


def test_setting_the_value_of_a_variable_in_another_trace_raises():
    variable = make().variable("state", "c")

    def f(x):
        variable.value = x
        return x

    with pytest.raises(JaxTransformError, match="write the variable 'c'"):
        jax.vmap(f)(jnp.ones(2))
    assert variable.value == 1


@pytest.mark.parametrize("transform", TRANSFORMS.values(), ids=TRANSFORMS)
def test_reading_is_allowed_everywhere(transform):
    scope = make()
    variable = scope.variable("state", "c")

    def f(x):
        assert scope.has_variable("params", "w")
        return x * variable.value + scope.get_variable("params", "w") - 1

    out = transform(f)(jnp.ones(()))
    assert out.shape == ()


@pytest.mark.parametrize("transform", TRANSFORMS.values(), ids=TRANSFORMS)
def test_a_layer_whose_parameters_exist_goes_through_transforms(transform):
    def layer(scope, x):
        return x * scope.param("w", jax.nn.initializers.ones, ())

    def net(scope, x):
        inner = scope.child(layer, "layer")
        return transform(inner)(x)

    x = jnp.full((), 3.0)
    params = {"params": {"layer": {"w": jnp.full((), 2.0)}}}
    expected = transform(lambda x: x * 2.0)(x)
    assert apply(net)(params, x) == expected
    weight_gradient = jax.grad(lambda p: jnp.sum(apply(net)(p, x)))
    if transform is not TRANSFORMS["eval_shape"]:
        assert weight_gradient(params)["params"]["layer"]["w"] != 0
    jax.tree.map(np.testing.assert_array_equal, init(net)(KEY, x)[1], init(layer_inside)(KEY, x)[1])


def layer_inside(scope, x):
    return scope.child(lambda scope, x: x * scope.param("w", jax.nn.initializers.ones, ()), "layer")(x)


@pytest.mark.parametrize(
    "around", [lambda f: f, jax.jit, lambda f: lambda *a: jax.vmap(f, in_axes=None, axis_size=1)(*a)]
)
@pytest.mark.parametrize("start", [init, lambda fn: lambda *args: (None, lazy_init(fn)(*args))])
@pytest.mark.parametrize("transform", [*TRANSFORMS.values(), lambda f: TRANSFORMS["vmap"](TRANSFORMS["grad"](f))])
def test_variables_may_be_created_inside_of_transforms(transform, start, around):
    def layer(scope, x):
        scope.variable("state", "s", lambda: jnp.full((), 3.0))
        return x * scope.param("w", jax.random.normal, ())

    def net(transform):
        def fn(scope, x):
            out = transform(scope.child(layer, "a"))(x)
            out = jnp.sum(jax.tree.leaves(out)[0]) if isinstance(out, jax.Array) else x
            return out + scope.child(layer, "b")(x)

        return lambda key, x: start(fn)(key, x)[1]

    x = jnp.full((), 3.0)
    want = around(net(lambda f: f))(KEY, x)
    assert want["params"]["a"]["w"] != want["params"]["b"]["w"]
    jax.tree.map(np.testing.assert_array_equal, around(net(transform))(KEY, x), want)


@pytest.mark.parametrize("transform", TRANSFORMS.values(), ids=TRANSFORMS)
@pytest.mark.parametrize("action", CREATIONS)
def test_creating_from_values_of_another_trace_raises(transform, action):
    scope = bind({}, {"params": KEY}, mutable=True).push("layer")

    def f(x):
        CREATIONS[action](scope, x)
        return x

    with pytest.raises(JaxTransformError, match=f"A scope cannot {action.strip()} in another JAX trace") as info:
        transform(f)(jnp.ones(()))
    assert info.value.path == "/layer"


@pytest.mark.parametrize("around", [jax.jit, lambda f: lambda x: jax.eval_shape(f, x)], ids=["jit", "eval_shape"])
@pytest.mark.parametrize("transform", TRANSFORMS.values(), ids=TRANSFORMS)
@pytest.mark.parametrize("action", CREATIONS)
def test_creating_from_values_of_an_inner_trace_raises(transform, action, around):
    def f(x):
        scope = bind({}, {"params": KEY}, mutable=True).push("layer")

        def inner(x):
            CREATIONS[action](scope, x)
            return x

        return transform(inner)(x)

    with pytest.raises(JaxTransformError, match=f"A scope cannot {action.strip()} in another JAX trace") as info:
        around(f)(jnp.ones(()))
    assert info.value.path == "/layer"


def test_creating_in_the_scope_of_a_finished_trace_raises():
    kept = []
    jax.jit(lambda x: kept.append(make()) or x)(1.0)
    with pytest.raises(JaxTransformError, match="create the parameter 'new' in another JAX trace"):
        kept[0].param("new", jax.nn.initializers.ones, ())


def test_a_scope_made_in_a_trace_works_there():
    def layer(scope, x):
        scope.variable("state", "calls", lambda: 0).value += 1
        return scope.child(lambda scope, x: x * scope.param("w", jax.random.normal, ()), "in")(x)

    y, variables = jax.jit(init(layer))(KEY, 2.0)
    eager_y, eager = init(layer)(KEY, 2.0)
    assert variables == eager
    assert y == eager_y
    assert jax.grad(apply(layer, mutable=["state"]), argnums=1, has_aux=True)(variables, 2.0)[0] == y / 2


def test_a_scope_that_leaves_its_trace_raises():
    kept = []
    jax.jit(lambda x: kept.append(make()) or x)(1.0)
    with pytest.raises(JaxTransformError, match="draw a key"):
        kept[0].make_rng()


def test_a_scope_that_leaves_its_function_raises():
    scope = apply(lambda scope: scope.push("a"), mutable=["state"])({})[0]
    with pytest.raises(InvalidScopeError, match="The scope 'a' is no longer valid") as info:
        scope.put_variable("state", "c", 1)
    assert info.value.path == "/a"


@pytest.mark.parametrize("name", ["vmap", "scan", "jit", "broadcast"])
def test_the_core_tells_where_lifted_transforms_are(name):
    with pytest.raises(AttributeError, match=f"from fx_transforms.lift import {name}"):
        getattr(fx_core, name)
    assert not hasattr(fx_core, "nothing_of_this_name")


def test_tokens_of_traces_are_current_where_they_are_equal_to_the_current_one():
    tokens = [current_trace()]

    def check():
        assert [is_current(token) for token in tokens] == [token == current_trace() for token in tokens]
        assert sum(map(is_current, tokens)) == 1

    def inner(x):
        tokens.append(current_trace())
        check()
        return x * 2

    def outer(x):
        tokens.append(current_trace())
        check()
        y = jax.vmap(inner)(x)
        check()
        return jax.grad(lambda x: inner(x).sum())(y)

    jax.jit(outer)(jnp.ones(2))
    check()
    jax.jit(lambda x: outer(x))(jnp.ones(2))  # the traces of before are gone
    check()
    elsewhere: list[bool] = []
    thread = threading.Thread(target=lambda: elsewhere.extend(map(is_current, tokens)))
    thread.start()
    thread.join()
    assert elsewhere == [token == current_trace() for token in tokens]
