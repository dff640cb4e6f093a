"""Functions of scopes that share the trace of remat."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from fx_core.scope import apply, init
from fx_transforms.scope_carrier import ScopeCarrier
from fx_transforms.shared_remat import SharedRemat

KEYS = {"params": jax.random.key(0), "noise": jax.random.key(1)}
X = jnp.linspace(-1.0, 1.0, 6).reshape(2, 3)
ONES = jax.nn.initializers.ones
SHARED = SharedRemat(ScopeCarrier([True], [True], [True], "remat"), (), True, None)


def network(traces, look=None, argument=None):
    """Three layers; calls without a trace to share run as they are."""

    def layer(scope, x):
        traces.append(scope)
        x = x * scope.param("scale", ONES, (1, 3)) + jax.random.normal(scope.make_rng("noise"), x.shape)
        inner = scope.rewound().push("inner")
        calls = scope.variable("state", "calls", lambda: 0)
        calls.value += 1
        if look is not None:
            look(inner)
        return x + jax.random.normal(inner.make_rng("noise"), x.shape)

    def net(scope, x, shared=True):
        for number in range(3):
            inner = scope.push(f"layer_{number}")
            rest = (x,) if argument is None else (x, argument)
            run = (
                SHARED.find(lambda _: lambda scope, *args: layer(scope, args[0]), "layer", inner, rest, {})
                if shared
                else None
            )
            x = layer(inner, x) if run is None else run()
        return x

    return net


def both(net):
    _, variables = init(net)(KEYS, X, shared=False)
    run = apply(net, mutable=["state"])
    ours = run(variables, X, rngs=KEYS)
    expected = run(variables, X, rngs=KEYS, shared=False)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-6), ours, expected)


def test_equal_functions_are_traced_once_and_draw_keys_of_their_own():
    traces = []
    both(network(traces))
    assert len(traces) == 3 + 1 + 3


@pytest.mark.parametrize("look", [lambda s: s.path, lambda s: s.root.name, lambda s: s.rngs, lambda s: s.path_text])
def test_who_asks_for_the_place_has_a_trace_of_its_own(look):
    traces = []
    both(network(traces, look))
    assert len(traces) == 3 + 3 + 3


@pytest.mark.parametrize("look", [lambda s: s.name, lambda s: s.parent.variables(), lambda s: s.has_rng("noise")])
def test_what_is_the_same_everywhere_may_be_asked(look):
    traces = []
    both(network(traces, look))
    assert len(traces) == 3 + 1 + 3


def test_arguments_that_are_no_arrays_are_not_shared():
    traces = []
    both(network(traces, argument="text"))
    assert len(traces) == 3 + 3 + 3
