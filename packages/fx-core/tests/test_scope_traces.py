import fx_core
import jax
import jax.numpy as jnp
import pytest
from fx_core.errors import InvalidScopeError, JaxTransformError
from fx_core.scope import apply, bind, init

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
CHANGES = {
    "create the parameter 'new'": lambda s: s.param("new", jax.nn.initializers.ones, ()),
    "create the variable 'new' of the collection 'state'": lambda s: s.variable("state", "new", lambda: 0.0),
    "write the variable 'c' of the collection 'state'": lambda s: s.put_variable("state", "c", 1.0),
    "draw a key from the stream 'dropout'": lambda s: s.make_rng("dropout"),
}


def make():
    return bind({"params": {"w": jnp.ones(())}, "state": {"c": jnp.ones(())}}, {"params": KEY}, mutable=True)


@pytest.mark.parametrize("transform", TRANSFORMS.values(), ids=TRANSFORMS)
@pytest.mark.parametrize("action", CHANGES)
def test_changing_a_scope_in_another_trace_raises(transform, action):
    scope = bind({"params": {"layer": {}}, "state": {"layer": {"c": 1.0}}}, {"params": KEY}, mutable=True).push("layer")

    def f(x):
        CHANGES[action](scope)
        return x

    with pytest.raises(JaxTransformError, match=f"A scope cannot {action} in another JAX trace") as info:
        transform(f)(jnp.ones(()))
    assert info.value.path == "/layer"
    assert "fx_transforms.lift" in info.value.fix


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
    with pytest.raises(JaxTransformError, match="create the parameter 'w'"):
        init(net)(KEY, x)


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
