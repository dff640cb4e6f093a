"""lazy_init makes variables at once and only records everything else."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from fx_core.errors.scope import JaxTransformError, LazyInitError
from fx_core.scope import init, lazy_init

KEY = jax.random.key(0)


def equal(a, b):
    assert jax.tree.structure(a) == jax.tree.structure(b)
    for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b)):
        assert type(x) is type(y)
        np.testing.assert_array_equal(x, y)


def test_nothing_but_the_variables_is_computed():
    made = []

    def fn(scope, x):
        w = scope.param("w", jax.nn.initializers.normal(), (3, 2))
        made.append((type(w), isinstance(x @ w, jax.core.Tracer)))
        return x @ w

    variables = lazy_init(fn)(KEY, jnp.ones((4, 3)))
    assert made == [(type(jnp.ones(1)), True)]
    equal(variables, init(fn)(KEY, jnp.ones((4, 3)))[1])


def test_arguments_stay_what_they_are():
    def fn(scope, by_name, x, scale, flag):
        assert list(by_name) == ["b", "a"]
        assert (type(x), type(scale), flag) == (np.ndarray, float, True)
        return scope.variable("state", "sum", lambda: float(x.sum()) * scale)

    assert lazy_init(fn)(KEY, {"b": 1, "a": 2}, np.ones(2), 0.5, True) == {"state": {"sum": 1.0}}


def test_variables_that_need_more_are_computed_afterwards():
    def fn(scope, x):
        mean = scope.variable("state", "mean", lambda: 0.0)
        scope.param("w", jax.nn.initializers.normal(), (2,))
        mean.value = mean.value + jnp.mean(x)
        scope.variable("state", "calls", lambda: 0).value += 1

    x = jnp.arange(3.0)
    variables = lazy_init(fn)(KEY, x)
    equal(variables, init(fn)(KEY, x)[1])
    assert list(variables["state"]) == ["mean", "calls"]
    assert variables["state"] == {"mean": 1.0, "calls": 1}


def test_functions_that_need_numbers_are_called():
    def fn(scope, x):
        wide = bool(jnp.sum(x) > 1)
        return scope.param("w", jax.nn.initializers.normal(), (4 if wide else 2,))

    equal(lazy_init(fn)(KEY, jnp.ones(3)), init(fn)(KEY, jnp.ones(3))[1])
    assert lazy_init(fn)(KEY, jnp.zeros(3))["params"]["w"].shape == (2,)


def test_an_initializer_of_a_computed_value():
    def fn(scope, x):
        y = x * 2
        scope.variable("state", "like", lambda: y + 1)
        scope.variable("state", "zeros", jnp.zeros_like, y)
        return scope.variable("state", "itself", lambda: y)

    equal(lazy_init(fn)(KEY, jnp.ones(3)), init(fn)(KEY, jnp.ones(3))[1])


def test_keys_are_those_of_init():
    def fn(scope, x):
        scope.param("a", jax.nn.initializers.normal(), (2,))
        x = x + jax.random.normal(scope.make_rng("noise"), x.shape)
        scope.variable("state", "noise", lambda: jax.random.normal(scope.make_rng("noise"), (2,)))
        return scope.child(lambda scope: scope.param("b", jax.nn.initializers.normal(), (2,)), "inner")()

    keys = {"params": KEY, "noise": jax.random.key(1)}
    equal(lazy_init(fn)(keys, jnp.ones(2)), init(fn)(keys, jnp.ones(2))[1])


def test_mistakes_are_reported_as_by_init():
    def fn(scope, x):
        return jax.jit(lambda x: x * scope.param("w", lambda key: x + 1))(x)

    with pytest.raises(JaxTransformError, match="create the parameter 'w' from values"):
        lazy_init(fn)(KEY, 1.0)


def test_under_a_transform_everything_belongs_to_it():
    def fn(scope, x):
        return x * scope.param("w", jax.nn.initializers.normal(), (2,))

    keys = jax.random.split(KEY, 3)
    made = jax.vmap(lambda key: lazy_init(fn)(key, jnp.ones(2)))(keys)
    np.testing.assert_array_equal(made["params"]["w"][1], lazy_init(fn)(keys[1], jnp.ones(2))["params"]["w"])
    assert jax.eval_shape(lazy_init(fn), KEY, jnp.ones(2))["params"]["w"].shape == (2,)


def test_variables_computed_from_abstract_inputs_are_told_by_name():
    def scaled(make):
        def fn(scope, x):
            known = jnp.ones(4)
            w = scope.param("w", lambda key: jax.random.normal(key, (4,)) + known)
            return x * scope.child(lambda inner: inner.param("scale", lambda key: make(x)), "inner")() * w

        return fn

    for make in (jnp.mean, lambda x: 2 * x, lambda x: x, lambda x: jnp.zeros_like(x) + x.sum()):
        with pytest.raises(LazyInitError, match=r"/inner/scale"):
            lazy_init(scaled(make))(jax.random.key(0), jax.ShapeDtypeStruct((4,), jnp.float32))
    with pytest.raises(LazyInitError, match=r"calls"):
        lazy_init(lambda scope, x: scope.variable("state", "calls", lambda: x.sum()))(
            jax.random.key(0), jax.ShapeDtypeStruct((4,), jnp.float32)
        )


def test_variables_computed_from_what_is_known_are_those_of_init():
    def fn(scope, x):
        known = jnp.arange(4.0)
        w = scope.param("w", lambda key: jax.random.normal(key, (4,)) * known)
        return x * w * scope.param("v", lambda key: jax.random.normal(key, (4,)))

    abstract = lazy_init(fn)(jax.random.key(0), jax.ShapeDtypeStruct((4,), jnp.float32))
    _, variables = init(fn)(jax.random.key(0), jnp.ones(4))
    assert jax.tree.all(jax.tree.map(jnp.array_equal, abstract, variables))
