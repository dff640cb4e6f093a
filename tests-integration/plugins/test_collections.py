"""What a third party says about its collections holds in init, transforms, checkpoints, bundles and training."""

import types

import fx_bridge
import fx_ckpt
import fx_export
import fx_linen as nn
import fx_nnx as nnx
import fx_transforms
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from fx_core import collections
from fx_core.layers import Layer, ParamSpec, State, input_size
from fx_core.ops import initializers
from fx_core.plugins import CollectionEntry, hookimpl, registry
from fx_train import Checkpoints, Run, StepState, make_train_step

X = jnp.linspace(-1.0, 1.0, 6).reshape(2, 3)


class Seen(nnx.Variable):
    """Stands for acme.seen."""


class Shared(nnx.Variable):
    """Stands for acme.shared."""


class Counted(nnx.Variable):
    """Stands for acme.counted."""


class Hidden(nnx.Variable):
    """Stands for acme.hidden."""


class Fast(nnx.Variable):
    """Stands for acme.fast."""


class Frozen(nnx.Param):
    """Stands for acme.frozen."""


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
        entry("fast", Fast, differentiable=True),
        entry("frozen", Frozen),
    ]

    @hookimpl
    def fx_collections():
        return entries

    here.fx_collections = fx_collections
    for typ in (Seen, Shared, Counted, Hidden, Fast, Frozen):
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


def test_linen_scan_says_who_gave_a_collection_its_place():
    class Step(nn.Module):
        @nn.compact
        def __call__(self, carry, x):
            self.variable("acme.counted", "steps", jnp.zeros, ())
            return carry + self.variable("acme.shared", "last", lambda: x).value, None

    carried = r"steps of collection 'acme.counted' \(registered with scan_slot='carry' by acme-collections\): absent in"
    with pytest.raises(fx_transforms.errors.CarryChangedError, match=carried):
        nn.scan(Step, variable_axes={"acme.shared": 0})().init({}, jnp.zeros(3), X)
    shared = r"last of collection 'acme.shared' \(registered with scan_slot='broadcast' by acme-collections\)"
    with pytest.raises(fx_transforms.errors.BroadcastVariableError, match=shared):
        nn.scan(Step, variable_axes={"acme.counted": 0})().init({}, jnp.zeros(3), X)
    with pytest.raises(fx_transforms.errors.CarryChangedError, match=r"collection 'acme\.counted': absent in"):
        nn.scan(Step, variable_axes={"acme.shared": 0}, variable_carry="acme.counted")().init({}, jnp.zeros(3), X)


def test_nnx_has_the_variable_types_and_maps_them():
    module = nnx.from_layer(Watched)(3, rngs=nnx.Rngs(0))
    module(X)
    assert (type(module.total), type(module.offset), type(module.x)) == (Seen, Shared, Hidden)
    nnx.pop(module, Hidden)
    stack = nnx.vmap(lambda rngs: nnx.from_layer(Watched)(3, rngs=rngs))(nnx.Rngs(0).fork(split=2))
    assert stack.total.shape == (2, 3)


class Four(nnx.Module):
    def __init__(self, x=X):
        self.weight = nnx.Param(x)
        self.seen, self.shared, self.counted = Seen(x), Shared(x[0]), Counted(jnp.zeros(()))

    def __call__(self, x):
        self.counted[...] += 1
        return (x * self.weight + self.shared).sum()


def test_nnx_state_axes_take_the_places_that_the_plugin_names():
    axes = nnx.StateAxes({nnx.Param: 0})
    model = Four()
    outs = nnx.vmap(lambda model, x: model.seen.sum() * x, in_axes=(nnx.StateAxes({nnx.Param: 0, Counted: None}), 0))
    np.testing.assert_allclose(outs(model, X), X.sum(-1, keepdims=True) * X, rtol=1e-6)
    with pytest.raises(nnx.errors.PrefixError, match="Other"):
        outs(nnx.Dict(other=type("Other", (nnx.Variable,), {"__slots__": ()})(X)), X)

    @nnx.scan(in_axes=(nnx.Carry, axes), out_axes=nnx.Carry)
    def loop(total, model):
        assert model.seen.shape == model.shared.shape == (3,)
        return total + model(jnp.ones(3))

    np.testing.assert_allclose(loop(jnp.zeros(()), model), X.sum() + 2 * X[0].sum(), rtol=1e-5)
    assert model.counted[...] == 2
    named = nnx.StateAxes({nnx.Param: 0, ...: None})
    assert nnx.vmap(lambda m: m.seen.sum(), in_axes=(named,))(Four()).shape == (2,)


def test_nnx_loops_know_collections_that_are_registered_later():
    Late = type("Late", (nnx.Variable,), {"__slots__": (), "__module__": "acme_late"})
    model, axes = nnx.Dict(weight=nnx.Param(X), late=Late(X)), nnx.StateAxes({nnx.Param: 0})

    def loop():
        scan = nnx.scan(in_axes=(nnx.Carry, axes), out_axes=nnx.Carry)
        return scan(lambda total, model: total + model.late.sum() * model.weight.sum())(jnp.zeros(()), model)

    with pytest.raises(nnx.errors.PrefixError, match="Late"):
        loop()
    here = types.ModuleType("acme_late")
    entry = CollectionEntry(name="late.seen", target="acme_late:Late", summary="Late", scan_slot="broadcast")
    here.fx_collections, here.Late = hookimpl(lambda: [entry], specname="fx_collections"), Late
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(__import__("sys").modules, "acme_late", here)
        registry().register(here)
        try:
            np.testing.assert_allclose(loop(), X.sum() ** 2, atol=1e-6)
        finally:
            registry().unregister("acme_late")


class Fine(nnx.Module):
    def __init__(self):
        self.weight, self.fast = nnx.Param(jnp.ones(3)), Fast(jnp.full(3, 2.0))
        self.frozen, self.derived = Frozen(jnp.ones(3)), type("Own", (Fast,), {"__slots__": ()})(jnp.ones(3))

    def __call__(self, x):
        return (x * self.weight * self.fast * self.frozen * self.derived).sum()


def test_nnx_gradients_are_for_what_is_differentiable():
    model = Fine()
    gradients = nnx.grad(lambda model: model(X[0]))(model)
    assert set(gradients) == {"weight", "fast", "derived"}
    np.testing.assert_array_equal(gradients["fast"][...], X[0])
    chosen = nnx.grad(lambda model: model(X[0]), argnums=nnx.DiffState(0, nnx.Param))(model)
    assert set(chosen) == {"weight", "frozen"}
    _, backward = nnx.vjp(lambda model: model(X[0]), model)
    assert set(backward(jnp.ones(()))[0]) == {"weight", "fast", "derived"}


def test_variables_are_split_by_what_is_differentiable():
    variables = {"params": {"w": 1.0}, "acme.fast": {"w": 2.0}, "acme.seen": {"w": 3.0}, "perturbations": {}}
    trained, rest = collections.differentiable(variables)
    assert (set(trained), set(rest)) == ({"params", "acme.fast"}, {"acme.seen", "perturbations"})


@pytest.mark.parametrize("backend", ["msgpack", "safetensors", "orbax"])
def test_checkpoints_leave_out_what_is_not_saved(tmp_path, backend):
    variables = Module().init(jax.random.key(0), X, mutable=True)
    assert "acme.hidden" in variables
    path = fx_ckpt.save(tmp_path / "checkpoint", {"model": variables, "step": 1}, backend=backend)
    assert fx_ckpt.inspect(path).left_out == ("model/acme.hidden",)
    again = fx_ckpt.restore(path)
    jax.tree.map(np.testing.assert_array_equal, again["model"], collections.saved(variables))
    # A target keeps its own: nothing of it is lost, and nothing is missing.
    target = jax.tree.map(jnp.zeros_like, {"model": variables, "step": 0})
    target["model"]["acme.hidden"] = {"x": (X + 1,)}
    filled = fx_ckpt.restore(path, target)
    np.testing.assert_array_equal(filled["model"]["acme.hidden"]["x"][0], X + 1)
    jax.tree.map(np.testing.assert_array_equal, collections.saved(filled["model"]), collections.saved(variables))
    assert filled["step"] == 1
    part = fx_ckpt.restore(path, target, only="model/*")
    assert (part["step"], part["model"]["acme.hidden"]["x"][0].sum()) == (0, (X + 1).sum())
    with pytest.raises(fx_ckpt.errors.RestoreMismatchError, match=r"acme\.hidden"):
        fx_ckpt.restore(path, target, only="model/acme.hidden")
    with pytest.raises(fx_ckpt.errors.RestoreMismatchError, match="other"):
        fx_ckpt.restore(path, {"model": {**target["model"], "other": X}, "step": 0})


def test_checkpoints_leave_out_nnx_variables_wherever_they_are(tmp_path):
    class Holder(nnx.Module):
        def __init__(self, fill):
            self.weight, self.hidden = nnx.Param(jnp.full(2, fill)), Hidden(jnp.full(3, fill))
            self.several = nnx.List([nnx.Param(jnp.full(1, fill)), Hidden(jnp.full(1, fill)), nnx.Param(jnp.ones(1))])

    for name, tree, other in (
        ("state", nnx.state(Holder(1.0)), nnx.state(Holder(2.0))),
        (
            "module",
            {"model": Holder(1.0), "list": [Hidden(1.0), 1.0]},
            {"model": Holder(2.0), "list": [Hidden(2.0), 0.0]},
        ),
    ):
        path = fx_ckpt.save(tmp_path / name, tree)
        assert sum("hidden" in where or "several" in where for where in fx_ckpt.inspect(path).left_out) == 2
        assert not any("hidden" in where for where in fx_ckpt.inspect(path).leaves())
        fx_ckpt.restore(path)
        found = fx_ckpt.restore(path, other)
        model = found["model"] if name == "module" else nnx.merge(nnx.graphdef(Holder(0.0)), found)
        assert (model.weight[0], model.hidden[0], model.several[0][0], model.several[1][0]) == (1.0, 2.0, 1.0, 2.0)
    assert (found["list"][0][...], found["list"][1]) == (2.0, 1.0)


def test_what_was_stored_all_the_same_comes_back(tmp_path):
    stored = {"acme.hidden": X, "kept": {"acme.hidden": 3}}  # no mapping: no collection
    path = fx_ckpt.save(tmp_path / "checkpoint", stored)
    jax.tree.map(np.testing.assert_array_equal, fx_ckpt.restore(path, stored), stored)
    with pytest.raises(fx_ckpt.errors.FxError, match="Nothing would be stored"):
        fx_ckpt.save(tmp_path / "none", {"acme.hidden": {"x": X}})
    assert not (tmp_path / "none").exists()
    registry().unregister("acme-collections")
    old = {"params": {"w": X}, "acme.hidden": {"x": X}}
    path = fx_ckpt.save(tmp_path / "old", old)  # before the plugin said that it is not saved
    registry().register(__import__("sys").modules["acme_collections"], name="acme-collections")
    target = jax.tree.map(jnp.zeros_like, old)
    jax.tree.map(np.testing.assert_array_equal, fx_ckpt.restore(path, target), old)
    only_hidden = {"model": {"acme.hidden": {"x": X}}, "step": 3}
    path = fx_ckpt.save(tmp_path / "alone", only_hidden)
    again = fx_ckpt.restore(path, {"model": {"acme.hidden": {"x": X + 1}}, "step": 0})
    assert again["step"] == 3
    np.testing.assert_array_equal(again["model"]["acme.hidden"]["x"], X + 1)


def test_a_run_resumes_without_what_is_not_saved(tmp_path):
    def begin(fill):
        variables = {"acme.seen": {"total": jnp.full(3, fill)}, "acme.hidden": {"x": jnp.full(3, fill)}}
        return StepState.create(params={"w": jnp.full(3, fill)}, tx=optax.sgd(0.1), variables=variables)

    with Run(tmp_path, total_steps=2, callbacks=[Checkpoints(fx_ckpt.CheckpointManager(tmp_path), every=1)]) as run:
        state = run.resume(begin(1.0))
        for step, _ in run.steps([None] * 2):
            run.record(state, {"loss": jnp.float32(step)})
    with Run(tmp_path, total_steps=3, callbacks=[Checkpoints(fx_ckpt.CheckpointManager(tmp_path), every=1)]) as run:
        state = run.resume(begin(2.0))
    assert state.params["w"][0] == state.variables["acme.seen"]["total"][0] == 1.0
    assert state.variables["acme.hidden"]["x"][0] == 2.0


def test_the_bridge_keeps_collections_and_types():
    wrapped = fx_bridge.lazy_init(fx_bridge.ToNNX(Module(), rngs=nnx.Rngs(0)), X)
    assert type(wrapped.total) is Seen
    moved = fx_bridge.to_linen(nnx.from_layer(Watched), 3)
    assert {"params", "acme.seen", "acme.shared"} <= set(moved.init(jax.random.key(0), X))


def test_losses_keep_their_collection_over_the_bridge():
    class Sparse(nn.Module):
        @nn.compact
        def __call__(self, x):
            self.sow("losses", "sparsity", jnp.abs(x).sum())
            self.sow("intermediates", "x", x)
            return nn.Dense(2)(x)

    class Dense(nnx.Module):
        def __init__(self, rngs):
            self.inner = nnx.Linear(3, 2, rngs=rngs)

        def __call__(self, x):
            self.sow(nnx.Loss, "sparsity", jnp.abs(x).sum())
            self.sow(nnx.Intermediate, "x", x)
            return self.inner(x)

    wrapped = fx_bridge.lazy_init(fx_bridge.ToNNX(Sparse(), rngs=nnx.Rngs(0)), X)
    nnx.pop(wrapped, nnx.Loss)
    wrapped(X, mutable=["losses", "intermediates"])
    assert (type(wrapped.sparsity), type(wrapped.x)) == (nnx.Loss, nnx.Intermediate)
    np.testing.assert_allclose(nnx.pop(wrapped, nnx.Loss).sparsity[...], (jnp.abs(X).sum(),))
    moved = fx_bridge.to_linen(Dense)
    _, sown = moved.apply(moved.init(jax.random.key(0), X), X, mutable=["losses", "intermediates"])
    assert (set(sown["losses"]), set(sown["intermediates"])) == ({"sparsity"}, {"x"})


def test_bundles_do_not_need_what_is_not_saved(tmp_path):
    variables = Module().init(jax.random.key(0), X, mutable=True)
    restored = fx_ckpt.restore(fx_ckpt.save(tmp_path / "checkpoint", variables))
    fx_export.export(tmp_path / "bundle", Module(), restored, [X])
    np.testing.assert_allclose(fx_export.load(tmp_path / "bundle")(X), Module().apply(variables, X), rtol=1e-6)


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
    shown = nn.tabulate(Module(), jax.random.key(0), mutable=True, console_kwargs={"width": 200})(X)
    assert "acme.hidden" in shown
    assert "acme.seen" in nn.tabulate(Module(), jax.random.key(0), console_kwargs={"width": 200})(X)
    assert "Seen" in nnx.tabulate(nnx.from_layer(Watched)(3, rngs=nnx.Rngs(0)), X, console_kwargs={"width": 200})


Module = nn.from_layer(Watched)
