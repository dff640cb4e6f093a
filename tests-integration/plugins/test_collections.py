"""What a third party says about its collections holds in init, transforms, checkpoints, bundles and training."""

import types

import fx_bridge
import fx_ckpt
import fx_export
import fx_linen as nn
import fx_nnx as nnx
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from fx_core import collections
from fx_core.layers import Layer, ParamSpec, State, input_size
from fx_core.ops import initializers
from fx_core.plugins import CollectionEntry, hookimpl, registry
from fx_train import StepState, make_train_step

X = jnp.linspace(-1.0, 1.0, 6).reshape(2, 3)


class Seen(nnx.Variable):
    """Stands for acme.seen."""


class Shared(nnx.Variable):
    """Stands for acme.shared."""


class Counted(nnx.Variable):
    """Stands for acme.counted."""


class Hidden(nnx.Variable):
    """Stands for acme.hidden."""


@pytest.fixture(autouse=True)
def plugin():
    here = types.ModuleType("acme_collections")
    entry = lambda name, typ, **more: CollectionEntry(  # noqa: E731
        name=f"acme.{name}", target=f"acme_collections:{typ.__name__}", summary=typ.__doc__, **more
    )
    entries = [
        entry("seen", Seen),
        entry("shared", Shared, vmap_slot="broadcast", scan_slot="broadcast"),
        entry("counted", Counted, scan_slot="carry"),
        entry("hidden", Hidden, saved=False, mutable_in_init=False),
    ]

    @hookimpl
    def fx_collections():
        return entries

    here.fx_collections = fx_collections
    for typ in (Seen, Shared, Counted, Hidden):
        setattr(here, typ.__name__, typ)
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(__import__("sys").modules, "acme_collections", here)
        registry().register(here, name="acme-collections")
        yield
        registry().unregister("acme-collections")


class Watched(Layer):
    features: int = input_size()

    def specs(self):
        return {
            "scale": ParamSpec((self.features,), initializers.ones, ("out",)),
            "total": State("acme.seen", (self.features,)),
            "offset": State("acme.shared", (self.features,)),
        }

    def apply(self, v, x):
        if v.is_mutable("acme.seen"):
            v.total = v.total + x.reshape(-1, self.features).sum(0)
        v.sow("acme.hidden", "x", x)
        return x * jnp.broadcast_to(v.scale, x.shape) + jnp.broadcast_to(v.offset, x.shape)


def test_linen_init_leaves_out_what_is_not_made_there():
    for make in (Module().init, Module().lazy_init, nn.init(lambda m, x: m(x), Module())):
        assert set(make(jax.random.key(0), X)) == {"params", "acme.seen", "acme.shared"}
    assert "acme.hidden" in Module().init(jax.random.key(0), X, mutable=True)
    variables = Module().init(jax.random.key(0), X)
    assert set(Module().apply(variables, X, mutable=["acme.hidden"])[1]) == {"acme.hidden"}


def test_linen_transforms_take_the_places_that_the_plugin_names():
    mapped = nn.vmap(Module, variable_axes={"params": 0}, split_rngs={"params": True})()
    variables = mapped.init(jax.random.key(0), X)
    assert variables["acme.seen"]["total"].shape == (2, 3)
    assert variables["acme.shared"]["offset"].shape == (3,)
    _, updated = mapped.apply(variables, X, mutable=["acme.seen"])
    np.testing.assert_array_equal(updated["acme.seen"]["total"], X)
    chosen = nn.vmap(Module, variable_axes={"params": 0, "acme.shared": 0}, split_rngs={"params": True})()
    assert chosen.init(jax.random.key(0), X)["acme.shared"]["offset"].shape == (2, 3)


def test_linen_scan_takes_the_places_that_the_plugin_names():
    class Step(nn.Module):
        @nn.compact
        def __call__(self, carry, x):
            counted = self.variable("acme.counted", "steps", jnp.zeros, ())
            if not self.is_initializing():
                counted.value = counted.value + 1
            return Module(name="watched")(carry + x), None

    loop = nn.scan(Step, variable_axes={"params": 0}, split_rngs={"params": True})()
    first = {"acme.counted": {"steps": jnp.zeros(())}}
    given = {"params": {"watched": {"scale": jnp.ones((2, 3))}}, **first}
    given |= {"acme.seen": {"watched": {"total": jnp.zeros((2, 3))}}}
    given |= {"acme.shared": {"watched": {"offset": jnp.ones(3)}}}
    (carry, _), updated = loop.apply(given, jnp.zeros(3), X, mutable=["acme.counted", "acme.seen"])
    assert updated["acme.counted"]["steps"] == 2
    assert updated["acme.seen"]["watched"]["total"].shape == (2, 3)
    np.testing.assert_allclose(carry, X.sum(0) + 2, rtol=1e-6)


def test_nnx_has_the_variable_types_and_maps_them():
    module = nnx.from_layer(Watched)(3, rngs=nnx.Rngs(0))
    module(X)
    assert (type(module.total), type(module.offset), type(module.x)) == (Seen, Shared, Hidden)
    nnx.pop(module, Hidden)
    stack = nnx.vmap(lambda rngs: nnx.from_layer(Watched)(3, rngs=rngs))(nnx.Rngs(0).fork(split=2))
    assert stack.total.shape == (2, 3)


def test_checkpoints_hold_what_is_saved(tmp_path):
    variables = Module().init(jax.random.key(0), X, mutable=True)
    kept = collections.saved(variables)
    assert set(variables) - set(kept) == {"acme.hidden"}
    fx_ckpt.save(tmp_path / "checkpoint", kept)
    jax.tree.map(np.testing.assert_array_equal, fx_ckpt.restore(tmp_path / "checkpoint"), kept)


def test_the_bridge_keeps_collections_and_types():
    wrapped = fx_bridge.lazy_init(fx_bridge.ToNNX(Module(), rngs=nnx.Rngs(0)), X)
    assert type(wrapped.total) is Seen
    moved = fx_bridge.to_linen(nnx.from_layer(Watched), 3)
    assert {"params", "acme.seen", "acme.shared"} <= set(moved.init(jax.random.key(0), X))


def test_the_train_step_threads_them_and_bundles_hold_them(tmp_path):
    variables = Module().init(jax.random.key(0), X)
    params = variables.pop("params")

    def loss_fn(params, batch, variables):
        out, updated = Module().apply({"params": params, **variables}, batch, mutable=["acme.seen"])
        return (out**2).mean(), {}, updated

    state = StepState.create(params=params, tx=optax.sgd(0.1), variables=variables)
    state, _ = make_train_step(loss_fn)(state, X)
    np.testing.assert_allclose(state.variables["acme.seen"]["total"], X.sum(0), rtol=1e-6)
    assert set(state.variables) == {"acme.seen", "acme.shared"}
    trained = {"params": state.params, **state.variables}
    fx_export.export(tmp_path / "bundle", Module(), trained, [X])
    expected = Module().apply(trained, X)
    np.testing.assert_allclose(fx_export.load(tmp_path / "bundle")(X), expected, rtol=1e-6)


def test_summaries_show_them():
    assert "acme.seen" in nn.tabulate(Module(), jax.random.key(0), console_kwargs={"width": 200})(X)
    assert "Seen" in nnx.tabulate(nnx.from_layer(Watched)(3, rngs=nnx.Rngs(0)), X, console_kwargs={"width": 200})


Module = nn.from_layer(Watched)
