import fx_linen as nn
import fx_nnx as nnx
import jax
import jax.numpy as jnp
import numpy as np
from fx_moe_plugin.ops import mix, route

fx_distribution = "fx-moe-plugin"

X = jnp.linspace(-1.0, 1.0, 12).reshape(4, 3)


def test_a_token_uses_the_experts_with_the_largest_logits():
    routes = route(jnp.array([[0.0, 1.0, 2.0], [3.0, 0.0, 0.0]]), top=2)
    assert (routes.weights > 0).tolist() == [[False, True, True], [True, True, False]]
    np.testing.assert_allclose(routes.weights.sum(-1), 1.0, rtol=1e-6)
    np.testing.assert_allclose(routes.load, [0.25, 0.5, 0.25])


def test_balance_is_least_where_all_experts_get_the_same():
    even, uneven = (
        route(8 * jnp.eye(4), 1).balance,
        route(8 * jnp.eye(4)[:, :1].repeat(4, 1).at[:, 0].add(1), 1).balance,
    )
    np.testing.assert_allclose(even, 1.0, rtol=1e-6)
    assert uneven > even


def test_one_expert_is_a_perceptron():
    up, down = jnp.ones((1, 3, 5)), jnp.ones((1, 5, 2))
    np.testing.assert_allclose(mix(X, jnp.ones((4, 1)), up, down), jax.nn.gelu(X @ up[0]) @ down[0], rtol=1e-6)


def test_what_it_sows_is_there_for_both_faces():
    layer = nn.layer("moe.MixtureOfExperts", features=2, hidden=5, top=2)
    variables = layer.init(jax.random.key(0), X)
    assert set(variables) == {"params", "losses"}
    _, sown = layer.apply({"params": variables["params"]}, X, mutable=["losses", "moe.router"])
    np.testing.assert_allclose(sown["moe.router"]["load"].sum(), 1.0, rtol=1e-6)
    module = nnx.layer("moe.MixtureOfExperts", in_features=3, features=2, hidden=5, rngs=nnx.Rngs(0))
    module(X)
    assert module.balance[...][0] >= 1.0
    assert type(module.load).__name__ == "RouterLoad"
