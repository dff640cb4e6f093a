"""fx-core alone: a network is a function of a scope."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from fx_core import apply, freeze, init, unfreeze
from fx_core.errors import ScopeParamNotFoundError
from fx_core.serialization import from_state_dict, to_state_dict


def network(scope, x):
    def dense(scope, x, features):
        kernel = scope.param("kernel", jax.nn.initializers.lecun_normal(), (x.shape[-1], features))
        return x @ kernel

    x = jax.nn.relu(scope.child(dense, "hidden")(x, 8))
    return scope.child(dense, "out")(x, 1)


def test_gradient_descent_on_scopes_learns():
    x = jax.random.normal(jax.random.key(1), (32, 3))
    target = x.sum(axis=1, keepdims=True)
    _, variables = init(network)(jax.random.key(0), x)

    @jax.jit
    def step(params):
        def loss(params):
            return jnp.mean((apply(network)({"params": params}, x) - target) ** 2)

        value, grads = jax.value_and_grad(loss)(params)
        return jax.tree.map(lambda p, g: p - 0.05 * g, params, grads), value

    params, losses = variables["params"], []
    for _ in range(50):
        params, loss = step(params)
        losses.append(float(loss))
    assert losses[-1] < 0.2 * losses[0]


def test_frozen_variables_and_state_dictionaries_round_trip():
    _, variables = init(network)(jax.random.key(0), jnp.ones((1, 3)))
    frozen = freeze(unfreeze(variables))
    restored = from_state_dict(frozen, to_state_dict(frozen))
    assert jax.tree.structure(restored) == jax.tree.structure(frozen)
    for one, other in zip(jax.tree.leaves(restored), jax.tree.leaves(frozen)):
        np.testing.assert_array_equal(one, other)


def test_missing_parameter_says_where():
    with pytest.raises(ScopeParamNotFoundError, match="hidden"):
        apply(network)({"params": {"hidden": {}}}, jnp.ones((1, 3)))


def test_names_of_the_lifted_transforms_tell_where_they_live():
    import fx_core

    with pytest.raises(AttributeError, match="fx_transforms"):
        _ = fx_core.vmap
