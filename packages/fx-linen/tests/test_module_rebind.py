"""The seam to lifted transforms: scopes of modules, and modules on other scopes."""

from typing import Any

import fx_linen as nn
import jax
import jax.numpy as jnp
from fx_core.scope import Scope
from fx_linen.module import absorb_state, module_scopes, rebind

KEY = jax.random.key(0)
X = jnp.ones((1, 3))


class Affine(nn.Module):
    features: int = 3

    @nn.compact
    def __call__(self, x):
        return x @ self.param("w", jax.nn.initializers.normal(), (x.shape[-1], self.features))


class Holder(nn.Module):
    body: Any
    more: Any = ()

    def setup(self):
        self.own = Affine()
        self.scale = self.param("scale", jax.nn.initializers.ones, ())

    def __call__(self, x):
        for module in (self.body, *self.more):
            x = module(x)
        return self.own(x) * self.scale


def test_scopes_of_a_tree():
    class Net(nn.Module):
        @nn.compact
        def __call__(self, x):
            inner, other = Affine(), Affine()
            holder = Holder(inner, [Affine(parent=None), {"k": other}])
            scopes = module_scopes([holder, inner])
            assert [scope.path for scope in scopes] == [("Affine_0",), ("Affine_1",), ("Holder_0",)]
            assert module_scopes([self, holder]) == [self.scope]
            return holder.scale

    Net().init(KEY, X)
    assert module_scopes(Affine()) == []


def doubled(scope):
    """The same place with all parameters doubled, as a transform would hand them in."""
    variables = jax.tree.map(lambda x: 2 * x, dict(scope.variables()))
    return Scope(variables, path=scope.path, mutable=False)


def test_rebound_modules_run_on_the_other_scope():
    class Net(nn.Module):
        def setup(self):
            self.inner = Affine()
            self.holder = Holder(self.inner)

        def __call__(self, x):
            return self.holder(x)

    bound = Net().bind(Net().init(KEY, X))
    holder = bound.holder
    plain = holder(X)
    scopes = {id(scope): doubled(scope) for scope in module_scopes(holder)}
    assert len(scopes) == 2
    copy = rebind(holder, lambda scope: scopes[id(scope)])
    # body, own and scale are doubled: what setup assigned was made again, on the new scope.
    assert jnp.allclose(copy(X), 8 * plain)
    assert copy.scope is scopes[id(holder.scope)]
    assert jnp.array_equal(holder(X), plain)


def test_a_running_compact_method_goes_on():
    seen = []

    class Net(nn.Module):
        @nn.compact
        def __call__(self, x):
            x = Affine()(x)
            inner = Scope({}, {"params": KEY}, mutable=True, path=self.scope.path)
            copy = rebind(self, lambda scope: inner)
            copy.more()
            absorb_state(self, copy)
            seen.append(sorted(inner.variables()["params"]))
            return Affine()(x)

        @nn.compact
        def more(self):
            return Affine()(X)

    variables = Net().init(KEY, X)
    assert seen == [["Affine_1"]]
    assert sorted(variables["params"]) == ["Affine_0", "Affine_2"]


def test_shared_modules_stay_shared():
    class Net(nn.Module):
        @nn.compact
        def __call__(self, x):
            inner = Affine(name="inner")
            a, b = rebind((Holder(inner), [Holder(inner)]), lambda scope: scope)
            assert a.body is b[0].body
            assert a.body is not inner
            return a(x)

    assert sorted(Net().init(KEY, X)["params"]) == ["Holder_0", "inner"]
    unbound = Affine()
    assert rebind({"k": unbound}, lambda scope: scope)["k"] is unbound
