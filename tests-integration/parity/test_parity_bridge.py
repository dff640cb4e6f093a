"""The bridge against that of Flax: the same seeds give the same variables, outputs and draws, to the bit."""

import types

import flax.linen
import flax.nnx
import fx_bridge
import fx_linen
import fx_nnx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

X = np.linspace(-1, 1, 6, dtype=np.float32).reshape(3, 2)
KEY = jax.random.key(0)

FLAX = types.SimpleNamespace(nn=flax.linen, nnx=flax.nnx, bridge=flax.nnx.bridge)
FX = types.SimpleNamespace(nn=fx_linen, nnx=fx_nnx, bridge=fx_bridge)


def linen_net(lib):
    nn = lib.nn

    class Net(nn.Module):
        @nn.compact
        def __call__(self, x, train=False):
            x = nn.Dense(4)(x)
            x = nn.BatchNorm(use_running_average=not train)(x)
            self.sow("intermediates", "seen", x)
            x = nn.Dropout(0.5, deterministic=not train)(x)
            return nn.Dense(2)(x)

        def total(self, x):
            return x.sum()

    return Net()


def nnx_net(lib):
    nnx = lib.nnx

    class Net(nnx.Module):
        def __init__(self, *, rngs):
            self.layers = nnx.List([nnx.Linear(2, 4, rngs=rngs), nnx.Linear(4, 2, rngs=rngs)])
            self.norm = nnx.BatchNorm(4, rngs=rngs)
            self.drop = nnx.Dropout(0.5, rngs=rngs)

        def __call__(self, x, train=False):
            x = self.norm(self.layers[0](x), use_running_average=not train)
            self.sow(nnx.Intermediate, "seen", x)
            return self.layers[1](self.drop(x, deterministic=not train))

        def total(self, x):
            return x.sum()

    return Net


def bridge_net(lib):
    nnx, bridge = lib.nnx, lib.bridge

    class Affine(bridge.Module):
        features: int

        @bridge.compact
        def __call__(self, x):
            w = self.param("w", nnx.initializers.lecun_normal(), (x.shape[-1], self.features))
            return x @ w + self.param("b", nnx.initializers.normal(), (self.features,))[None]

    class Net(bridge.Module):
        def setup(self):
            self.first = Affine(4)

        @bridge.compact
        def __call__(self, x):
            count = self.variable("counts", "calls", lambda: jnp.zeros(()))
            count[...] += 1
            x = Affine(4)(self.first(x))
            x = bridge.nnx_in_bridge_mdl(lambda rngs: lib.nnx.Linear(4, 4, rngs=rngs))(x)
            x = bridge.linen_in_bridge_mdl(lib.nn.Dense(3))(x)
            keys = self.make_rng(), self.make_rng("dropout")
            return Affine(2, name="head")(x), jax.tree.map(jax.random.key_data, keys)

        def encode(self, x):
            return self.first(x)

    return Net()


def plain(tree):
    """Nested dictionaries of arrays, with text for keys."""
    if hasattr(tree, "items"):
        return {str(key): plain(value) for key, value in tree.items()}
    return jax.tree.map(np.asarray, tree)


def same(make):
    """Run a function with both libraries, and compare what it gives to the bit."""
    ours, theirs = plain(make(FX)), plain(make(FLAX))
    assert jax.tree.structure(ours) == jax.tree.structure(theirs)
    jax.tree.map(np.testing.assert_array_equal, ours, theirs)


def state(lib, model):
    found = lib.nnx.to_pure_dict(lib.nnx.state(model))
    return jax.tree.map(lambda x: jax.random.key_data(x) if jnp.issubdtype(x.dtype, jax.dtypes.prng_key) else x, found)


@pytest.mark.parametrize("rngs", [{"default": 0}, {"params": 1, "dropout": 2}, {"default": 0, "dropout": 1}])
def test_to_nnx(rngs):
    def run(lib):
        model = lib.bridge.lazy_init(lib.bridge.ToNNX(linen_net(lib), rngs=lib.nnx.Rngs(**rngs)), X)
        first = state(lib, model)
        outs = [model(X), model(X, train=True, mutable=["batch_stats"]), model(X, train=True, mutable=True)]
        outs += [model.total(X), model(X, method="total"), model(X, train=True, rngs=lib.nnx.Rngs(3), mutable=True)]
        return {"first": first, "outs": dict(enumerate(outs)), "last": state(lib, model)}

    same(run)


def test_lazy_init_again_and_of_shared_modules():
    def run(lib):
        class Twice(lib.nnx.Module):
            def __init__(self, rngs):
                self.inner = lib.bridge.ToNNX(lib.nn.Dense(2), rngs=rngs)

            def __call__(self, x):
                return self.inner(self.inner(x))

        twice = lib.bridge.lazy_init(Twice(lib.nnx.Rngs(0)), X)
        again = lib.bridge.ToNNX(lib.nn.Dense(2), rngs=lib.nnx.Rngs(0))
        lib.bridge.lazy_init(lib.bridge.lazy_init(again, X), X)
        return {"twice": state(lib, twice), "again": state(lib, again), "out": twice(X)}

    same(run)


@pytest.mark.filterwarnings("ignore:Using 'Module.sow:DeprecationWarning")
def test_to_linen():
    def run(lib):
        model = lib.bridge.to_linen(nnx_net(lib))
        variables = model.init({"params": KEY, "dropout": jax.random.key(1)}, X)
        rngs = {"params": KEY, "dropout": jax.random.key(2)}
        return {
            "variables": variables,
            "eval": model.apply(variables, X),
            "train": model.apply(variables, X, True, rngs=rngs),
            "all": model.apply(variables, X, True, rngs=rngs, mutable=True),
            "stats": model.apply(variables, X, True, rngs=rngs, mutable=["batch_stats"]),
            "sown": model.apply(variables, X, mutable=["intermediates"]),
            "total": model.apply(variables, X, nnx_method="total"),
            "bound": model.bind(variables).total(X),
        }

    same(run)


def test_streams_forked_in_constructors():
    def run(lib):
        class Forks(lib.nnx.Module):
            def __init__(self, *, rngs):
                self.rngs = rngs
                self.a, self.b, self.p = rngs.dropout.fork(), rngs.dropout.fork(), rngs.params.fork()

            def __call__(self):
                streams = (self.a, self.b, self.p, self.a, self.rngs.dropout, self.rngs.params)
                return [jax.random.key_data(stream()) for stream in streams]

        class Twice(lib.nn.Module):
            def setup(self):
                self.forks = lib.bridge.to_linen(Forks)

            def __call__(self):
                return self.forks(), self.forks()

        rngs = {"params": KEY, "dropout": jax.random.key(1)}
        return {"init": Twice().init_with_output(rngs), "apply": Twice().apply({}, rngs=rngs)}

    same(run)


def test_nested_both_ways():
    def run(lib):
        nn, nnx, bridge = lib.nn, lib.nnx, lib.bridge

        class Outer(nn.Module):
            @nn.compact
            def __call__(self, x):
                shared = bridge.to_linen(nnx.Linear, 2, 2)
                return nn.Dense(2)(shared(shared(x)) + bridge.to_linen(nnx.Linear, 2, 2, name="named")(x))

        class Holder(nnx.Module):
            def __init__(self, rngs):
                self.linen, self.native = bridge.ToNNX(Outer(), rngs=rngs), nnx.Linear(2, 2, rngs=rngs)

            def __call__(self, x):
                return self.native(self.linen(x))

        holder = bridge.lazy_init(Holder(nnx.Rngs(0)), X)
        variables = Outer().init(KEY, X)
        return {"holder": state(lib, holder), "out": holder(X), "outer": variables, "y": Outer().apply(variables, X)}

    same(run)


@pytest.mark.parametrize("transform", ["vmap", "scan", "remat", "jit"])
def test_lifted(transform):
    def run(lib):
        class Layer(lib.nn.Module):
            @lib.nn.compact
            def __call__(self, x, _=None):
                return lib.bridge.to_linen(lib.nnx.Linear, 2, 2)(x), None

        lift = getattr(lib.nn, transform)
        options = {"variable_axes": {"params": 0}, "split_rngs": {"params": True}}
        options = {"vmap": options, "scan": {**options, "length": 3}}.get(transform, {})
        model = lift(Layer, **options)()
        variables = model.init(KEY, X, None) if transform == "scan" else model.init(KEY, X)
        return {"variables": variables, "out": model.apply(variables, X, *([None] if transform == "scan" else []))[0]}

    same(run)


def test_metadata_across_the_border():
    def run(lib):
        init = lib.nnx.with_metadata(lib.nnx.initializers.ones, tag="t")
        model = lib.bridge.to_linen(lib.nnx.Linear, 2, 3, kernel_init=init)
        kernel = model.init(KEY, X)["params"]["kernel"]
        wrapped = lib.bridge.ToNNX(lib.nn.Dense(3), rngs=lib.nnx.Rngs(0))
        assert type(kernel) is lib.bridge.NNXMeta
        assert (kernel.metadata["tag"], kernel.var_type.__name__) == ("t", "Param")
        assert type(lib.bridge.lazy_init(wrapped, X).kernel) is lib.nnx.Param
        return {"value": kernel.unbox()}

    same(run)


def test_bridge_modules():
    def run(lib):
        model = bridge_net(lib)
        variables = model.init(KEY, X)
        return {
            "variables": variables,
            "out": model.apply(variables, X, rngs=KEY),
            "all": model.apply(variables, X, rngs=KEY, mutable=True),
            "counts": model.apply(variables, X, rngs=KEY, mutable=["counts"]),
            "encode": model.apply(variables, X, method="encode"),
            "jit": jax.jit(model.apply)(variables, X, rngs=KEY),
        }

    same(run)


@pytest.mark.parametrize("transform", ["jit", "vmap", "remat"])
def test_transforms_of_nnx_inside_of_bridge_modules(transform):
    def run(lib):
        nnx, bridge = lib.nnx, lib.bridge

        class Scale(bridge.Module):
            @bridge.compact
            def __call__(self, x):
                return x * self.param("scale", nnx.initializers.normal(), (2,))

        class Net(bridge.Module):
            @bridge.compact
            def __call__(self, x):
                call = lambda module, x: module(x)  # noqa: E731
                call = nnx.vmap(call, in_axes=(None, 0)) if transform == "vmap" else getattr(nnx, transform)(call)
                return call(Scale(), x if transform == "vmap" else x[0])

        variables = Net().init(KEY, X)
        return {"variables": variables, "out": Net().apply(variables, X)}

    same(run)


def test_a_shared_bridge_module():
    def run(lib):
        nnx, bridge = lib.nnx, lib.bridge

        class Scale(bridge.Module):
            @bridge.compact
            def __call__(self, x):
                return x * self.param("scale", nnx.initializers.normal(), (2,))[None]

        class Inner(bridge.Module):
            @bridge.compact
            def __call__(self, x):
                return Scale()(x) * self.param("scale", nnx.initializers.normal(), (2,))[None]

        class Net(bridge.Module):
            @bridge.compact
            def __call__(self, x):
                inner = Inner()
                self.set_attr_priority("owner", bridge.AttrPriority.HIGH)
                self.owner = inner
                return inner(inner(x))

        return {"variables": Net().init(KEY, X)}

    same(run)


def test_functional():
    def run(lib):
        model = lib.bridge.functional(lib.nnx.BatchNorm)(2)
        first = model.init(rngs=lib.nnx.Rngs(0))
        out, (_, last) = model.apply(first)(X)
        return {"out": out, "first": lib.nnx.to_pure_dict(first), "last": lib.nnx.to_pure_dict(last)}

    same(run)


def test_priorities():
    ours, theirs = ({p.name: p.value for p in lib.bridge.AttrPriority} for lib in (FX, FLAX))
    assert ours == theirs
