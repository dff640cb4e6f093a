"""Wrapped modules under the transforms of both packages do what native ones do."""

import fx_bridge as bridge
import fx_linen as nn
import fx_nnx as nnx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from fx_bridge.errors import BridgeError
from fx_core import meta

X = jnp.linspace(-1, 1, 6).reshape(3, 2)
KEY = jax.random.key(0)


class LinenNet(nn.Module):
    @nn.compact
    def __call__(self, x, train=True):
        x = nn.Dense(2)(x)
        x = nn.BatchNorm(use_running_average=not train)(x)
        return nn.Dropout(0.5, deterministic=not train)(x)


class Holder(nnx.Module):
    def __init__(self, rngs):
        self.native = nnx.Linear(2, 2, rngs=rngs)
        self.moved = bridge.ToNNX(LinenNet(), rngs=rngs)
        self.same = self.moved

    def __call__(self, x):
        return self.same(self.native(x), mutable=["batch_stats"])


def holder():
    return bridge.lazy_init(Holder(nnx.Rngs(0, dropout=1)), X)


def arrays(model):
    return nnx.to_pure_dict(nnx.state(model, nnx.Not(nnx.RngState)))


# --- Linen inside of NNX ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("transform", [nnx.jit, nnx.remat])
def test_state_comes_out(transform):
    plain, transformed = holder(), holder()
    call = transform(lambda model, x: model(x))
    for _ in range(2):
        np.testing.assert_allclose(call(transformed, X), plain(X), rtol=1e-6)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-6), arrays(transformed), arrays(plain))
    assert int(transformed.moved.rngs.dropout.count[...]) == int(plain.moved.rngs.dropout.count[...]) == 3
    assert transformed.same is transformed.moved


def test_grad():
    model = holder()
    kernel = model.moved.Dense_0.kernel[...]

    def by_hand(kernel):
        twin = nnx.clone(model)
        twin.moved.Dense_0.kernel[...] = kernel
        return (twin(X) ** 2).sum()

    expected = jax.grad(by_hand)(kernel)
    grads = nnx.grad(lambda model: (model(X) ** 2).sum())(model)
    np.testing.assert_allclose(grads.moved.Dense_0.kernel[...], expected, rtol=1e-6)
    assert model.moved.BatchNorm_0.mean[...].any()


def test_vmap_and_scan_over_modules():
    @nnx.split_rngs(splits=3)
    @nnx.vmap
    def make(rngs):
        return bridge.lazy_init(bridge.ToNNX(nn.Dense(2), rngs=rngs), X)

    model = make(nnx.Rngs(0))
    assert model.kernel.shape == (3, 2, 2)
    out = nnx.scan(lambda model, x: model(x), in_axes=(0, nnx.Carry), out_axes=nnx.Carry)(model, X)
    expected = X
    for i in range(3):
        expected = expected @ model.kernel[i] + model.bias[i][None]
    np.testing.assert_allclose(out, expected, rtol=1e-5)
    outs = nnx.vmap(lambda model, x: model(x), in_axes=(0, None))(model, X)
    np.testing.assert_allclose(outs[1], X @ model.kernel[1] + model.bias[1][None], rtol=1e-6)


def test_partition_names_follow_axes():
    init = nn.with_partitioning(nn.initializers.ones, ("in", "out"))

    @nnx.split_rngs(splits=3)
    @nnx.vmap(transform_metadata={nnx.PARTITION_NAME: "layers"})
    def make(rngs):
        return bridge.lazy_init(bridge.ToNNX(nn.Dense(2, kernel_init=init), rngs=rngs), X)

    model = make(nnx.Rngs(0))
    assert model.kernel.sharding_names == ("layers", "in", "out")


def test_init_inside_of_jit():
    model = nnx.jit(lambda: holder())()
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-6, atol=1e-7), arrays(model), arrays(holder()))


def test_what_jit_compiled_before_init_is_not_used_after_it():
    call = nnx.jit(lambda model, x: model(x))

    class Compiled(nnx.Module):
        def __init__(self, rngs):
            self.inner = bridge.ToNNX(nn.Dense(2), rngs=rngs)

        def __call__(self, x):
            return call(self.inner, x)

    model = bridge.lazy_init(Compiled(nnx.Rngs(0)), X)
    kernel = model.inner.kernel[...]
    model(X)
    np.testing.assert_array_equal(model.inner.kernel[...], kernel)


# --- NNX inside of Linen ----------------------------------------------------------------------------------------------


METADATA = {"out_sharding": ("in", "out"), "eager_sharding": False}  # there is no mesh


class Inner(nnx.Module):
    def __init__(self, *, rngs):
        self.linear = nnx.Linear(2, 2, kernel_metadata=METADATA, rngs=rngs)
        self.norm = nnx.BatchNorm(2, rngs=rngs)

    def __call__(self, x):
        return self.norm(self.linear(x))


class Moved(nn.Module):
    @nn.compact
    def __call__(self, x, _=None):
        return bridge.to_linen(Inner, name="inner")(x), None


class Native(nn.Module):
    @nn.compact
    def __call__(self, x, _=None):
        return Twin(name="inner")(x), None


class Twin(nn.Module):
    def setup(self):
        self.linear, self.norm = nn.Dense(2), nn.BatchNorm(momentum=0.99)

    def __call__(self, x):
        return self.norm(self.linear(x), use_running_average=False)


AXES = {"variable_axes": {"params": 0, "batch_stats": 0}, "split_rngs": {"params": True}}
LIFTS = {
    "jit": lambda layer: nn.jit(layer),
    "remat": lambda layer: nn.remat(layer),
    "vmap": lambda layer: nn.vmap(layer, in_axes=(None,), axis_size=3, **AXES),
    "scan": lambda layer: nn.scan(layer, length=3, metadata_params={meta.PARTITION_NAME: "layers"}, **AXES),
}


@pytest.mark.parametrize("lift", LIFTS)
def test_as_a_native_module_under_lifted_transforms(lift):
    moved, native = LIFTS[lift](Moved)(), LIFTS[lift](Native)()
    args = (X, None) if lift == "scan" else (X,)
    variables = moved.init(KEY, *args)
    box = variables["params"]["inner"]["linear"]["kernel"]
    names = {"scan": ("layers", "in", "out"), "vmap": (None, "in", "out")}
    assert box.metadata["out_sharding"] == names.get(lift, ("in", "out"))
    (out, _), updates = moved.apply(variables, *args, mutable=["batch_stats"])
    (expected, _), wanted = native.apply(meta.unbox(variables), *args, mutable=["batch_stats"])
    np.testing.assert_allclose(out, expected, rtol=1e-5, atol=1e-6)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6), updates, wanted)


def test_jax_maps_a_layer_that_has_its_variables():
    class Mapped(nn.Module):
        @nn.compact
        def __call__(self, x):
            layer = bridge.to_linen(nnx.Linear, 2, 2)
            layer(x[0])
            return jax.vmap(layer)(x)

    variables = Mapped().init(KEY, X)
    layer = bridge.to_linen(nnx.Linear, 2, 2)
    expected = layer.apply({"params": variables["params"]["ToLinen_0"]}, X)
    np.testing.assert_allclose(Mapped().apply(variables, X), expected, rtol=1e-6)


def test_grad_inside_and_outside():
    class Differentiated(nn.Module):
        layer: nn.Module

        @nn.compact
        def __call__(self, x):
            return nn.value_and_grad(lambda layer, x: (layer(x)[0] ** 2).sum(), self.layer, x)

    variables = Moved().init(KEY, X)
    nested = {col: {"layer": tree} for col, tree in variables.items()}
    results = [
        Differentiated(layer).apply(variables, X, mutable=["batch_stats"])
        for layer, variables in ((Moved(), nested), (Native(), meta.unbox(nested)))
    ]
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5), *map(meta.unbox, results))
    grads = jax.grad(lambda params: (Moved().apply({**variables, "params": params}, X, mutable=True)[0][0] ** 2).sum())(
        variables["params"]
    )
    assert jax.tree.structure(grads) == jax.tree.structure(variables["params"])


def test_transforms_of_nnx_inside_of_linen():
    class Stack(nnx.Module):
        def __init__(self, *, rngs):
            make = nnx.vmap(lambda rngs: nnx.Linear(2, 2, rngs=rngs))
            self.layers = nnx.split_rngs(splits=3)(make)(rngs)
            self.drop = nnx.Dropout(0.5, rngs=rngs)

        def __call__(self, x, deterministic):
            @nnx.split_rngs(splits=3)
            @nnx.scan(in_axes=(0, nnx.Carry, 0), out_axes=nnx.Carry)
            def run(layer, x, drop):
                return drop(layer(x), deterministic=deterministic)

            return nnx.jit(run)(self.layers, x, self.drop)

    model = bridge.to_linen(Stack)
    variables = model.init(KEY, X, True)
    assert jax.tree.map(jnp.shape, variables) == {"params": {"layers": {"bias": (3, 2), "kernel": (3, 2, 2)}}}
    out = jax.jit(model.apply, static_argnums=2)(variables, X, True)
    expected = X
    for i in range(3):
        layer = jax.tree.map(lambda x: x[i], variables["params"]["layers"])  # noqa: B023
        expected = expected @ layer["kernel"] + layer["bias"][None]
    np.testing.assert_allclose(out, expected, rtol=1e-5)
    assert model.apply(variables, X, False, rngs={"dropout": KEY}).shape == X.shape
    with pytest.raises(BridgeError, match="RNG stream that was not given"):
        model.apply(variables, X, False)


def test_to_any_depth():
    class Linen1(nn.Module):
        @nn.compact
        def __call__(self, x):
            return bridge.to_linen(nnx.Linear, 2, 2, name="linear")(x)

    class Nnx2(nnx.Module):
        def __init__(self, rngs):
            self.inner = bridge.ToNNX(Linen1(), rngs=rngs)

        def __call__(self, x):
            return self.inner(x)

    class Linen3(nn.Module):
        @nn.compact
        def __call__(self, x):
            return bridge.to_linen(Nnx2, name="inner")(x)

    class Nnx4(nnx.Module):
        def __init__(self, rngs):
            self.inner = bridge.ToNNX(Linen3(), rngs=rngs)

        def __call__(self, x):
            return self.inner(x)

    model = bridge.lazy_init(Nnx4(nnx.Rngs(0)), X)
    layer = model.inner.inner.inner.linear
    assert type(layer.kernel) is nnx.Param
    out = nnx.jit(lambda model, x: model(x))(model, X)
    np.testing.assert_allclose(out, X @ layer.kernel[...] + layer.bias[...][None], rtol=1e-6)
    grads = nnx.grad(lambda model: model(X).sum())(model)
    np.testing.assert_allclose(grads.inner.inner.inner.linear.bias[...], [3, 3])
