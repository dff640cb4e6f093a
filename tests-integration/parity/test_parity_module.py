"""Modules against Flax Linen: the same class body on either base gives the same paths, bits, outputs and draws."""

from typing import Any

import flax.linen
import fx_linen
import jax
import jax.numpy as jnp
import pytest

KEY = jax.random.key(7)
X = jnp.linspace(-1.0, 1.0, 6).reshape(2, 3)


def affine(nn):
    class Affine(nn.Module):
        features: int = 3

        @nn.compact
        def __call__(self, x):
            w = self.param("w", jax.nn.initializers.normal(), (x.shape[-1], self.features))
            b = self.param("b", jax.nn.initializers.uniform(), (1, self.features))
            return x @ w + b

    return Affine


def nested_compact(nn):
    Affine = affine(nn)

    class Block(nn.Module):
        @nn.compact
        def __call__(self, x):
            return Affine(name="named")(jnp.tanh(Affine()(x)))

    class Net(nn.Module):
        @nn.compact
        def __call__(self, x):
            block = Block()
            return Affine()(block(block(Block()(x))))

    return Net()


def setup_containers(nn):
    Affine = affine(nn)

    class Net(nn.Module):
        def setup(self):
            self.first = Affine()
            self.many = [Affine(), {"a": Affine(), "b": (Affine(),)}]
            self.other = Affine(name="explicit")
            self.alias = self.first

        def __call__(self, x):
            for layer in (self.first, self.many[0], self.many[1]["a"], self.many[1]["b"][0], self.other, self.alias):
                x = layer(x)
            return x

    return Net()


def fields_and_sharing(nn):
    Affine = affine(nn)
    shared = Affine()

    class Holder(nn.Module):
        body: Any
        more: Any = ()

        def __call__(self, x):
            x = self.body(x)
            for module in self.more:
                x = module(x)
            return x

    class Net(nn.Module):
        a: Any
        b: Any

        @nn.compact
        def __call__(self, x):
            inner = Affine()
            return Holder(inner)(Holder(Affine(name="u"), [inner, Affine()])(self.b(self.a(x))))

    return Net(Holder(shared), Holder(shared, [Affine(), shared]))


def setup_sharing(nn):
    Affine = affine(nn)

    class Holder(nn.Module):
        body: Any

        def __call__(self, x):
            return self.body(x)

    class Net(nn.Module):
        def setup(self):
            inner = Affine()
            self.c = Holder(inner)
            self.inner = inner
            self.d = Holder(Affine(name="u"))
            self.list = [Holder(self.c)]

        def __call__(self, x):
            return self.list[0](self.d(self.inner(self.c(x))))

    return Net()


def name_scopes(nn):
    Affine = affine(nn)

    class Net(nn.Module):
        @nn.compact_name_scope
        def up(self, x):
            return Affine(4)(x)

        @nn.compact_name_scope
        def down(self, x):
            return Affine(3)(x)

        @nn.compact
        def __call__(self, x):
            return Affine()(self.down(self.up(self.down(self.up(x)))))

    return Net()


def scope_sharing(nn):
    Affine = affine(nn)

    class Lora(nn.Module):
        base: Any

        def setup(self):
            nn.share_scope(self, self.base)

        @nn.compact
        def __call__(self, x):
            return self.base(x) * self.param("a", jax.nn.initializers.normal(), (1, 1))

    class Net(nn.Module):
        @nn.compact
        def __call__(self, x):
            return Lora(Affine(name="outside"))(Lora(Affine(parent=None))(x))

    return Net()


def scope_sharing_of_submodules(nn):
    Affine = affine(nn)

    class Wrapped(nn.Module):
        inner: Any

        @nn.compact
        def __call__(self, x):
            return Affine()(self.inner(x))

    class Net(nn.Module):
        def setup(self):
            self.wrapped = Wrapped(nn.Sequential([Wrapped(Affine()), Affine()]))
            nn.share_scope(self, self.wrapped)

        def __call__(self, x):
            return self.wrapped(x)

    return Net()


def inherited(nn):
    Affine = affine(nn)

    class Base(nn.Module):
        width: int = 3

        @nn.compact
        def __call__(self, x):
            return Affine(self.width)(x)

    class Net(Base):
        depth: int = 2

        def setup(self):
            self.head = Affine()

        @nn.compact
        def __call__(self, x):
            for _ in range(self.depth):
                x = super().__call__(x)
            return self.head(x)

    return Net()


def collections(nn):
    Affine = affine(nn)

    class Net(nn.Module):
        @nn.compact
        def __call__(self, x):
            mean = self.variable("stats", "mean", lambda: jnp.zeros((1, 3)))
            if not self.is_initializing():
                mean.value = 0.5 * mean.value + x.mean(0, keepdims=True)
            noise = self.variable("noise", "n", lambda: jax.random.normal(self.make_rng("noise"), (1, 3)))
            self.sow("intermediates", "x", x)
            self.sow("intermediates", "x", 2 * x)
            keep = jax.random.bernoulli(self.make_rng("dropout"), 0.5, x.shape)
            return self.perturb("p", Affine()(x * keep)) + mean.value + noise.value

    class Twice(nn.Module):
        @nn.compact
        def __call__(self, x):
            net = Net()
            return net(net(x))

    return Twice()


MODELS = [
    nested_compact, setup_containers, fields_and_sharing, setup_sharing, name_scopes, scope_sharing,
    scope_sharing_of_submodules, inherited, collections,
]  # fmt: skip
STREAMS = {"params": KEY, "dropout": jax.random.key(1), "noise": jax.random.key(2)}


def same(a, b):
    assert jax.tree.structure(a) == jax.tree.structure(b)
    for (path, x), (_, y) in zip(jax.tree_util.tree_leaves_with_path(a), jax.tree_util.tree_leaves_with_path(b)):
        assert jnp.array_equal(x, y), path


@pytest.mark.parametrize("model", MODELS, ids=lambda model: model.__name__)
def test_same_variables_and_outputs(model):
    ours, theirs = model(fx_linen), model(flax.linen)
    variables = ours.init(STREAMS, X)
    same(variables, theirs.init(STREAMS, X))
    rngs = {"dropout": jax.random.key(5)}
    same(ours.apply(variables, X, rngs=rngs, mutable=True), theirs.apply(variables, X, rngs=rngs, mutable=True))
    same(
        ours.apply(variables, X, rngs=rngs, capture_intermediates=True, mutable=["stats"]),
        theirs.apply(variables, X, rngs=rngs, capture_intermediates=True, mutable=["stats"]),
    )


@pytest.mark.parametrize("model", [nested_compact, setup_containers, inherited], ids=lambda model: model.__name__)
def test_same_module_paths_and_representation(model):
    ours, theirs = model(fx_linen), model(flax.linen)
    assert list(ours.module_paths(KEY, X)) == list(theirs.module_paths(KEY, X))
    assert repr(ours) == repr(theirs)
    variables = ours.init(KEY, X)
    bound = [module.bind(variables) for module in (ours, theirs)]
    for module in bound:
        module(X)
    assert repr(bound[0]) == repr(bound[1])


@pytest.mark.parametrize("names", [("a", "b", "c"), ("b", "a"), ("c", None, "zz"), None])
def test_same_mesh_axes(names):
    rules = (("a", "x"), ("b", ("x", "y")), ("b", "y"), ("c", None))
    assert fx_linen.logical_to_mesh_axes(names, rules) == flax.linen.logical_to_mesh_axes(names, rules)
