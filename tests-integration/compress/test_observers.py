"""Ranges of activations as a collection: calibration and training for static integers, in Linen and NNX."""

import fx_bridge
import fx_ckpt
import fx_compress
import fx_linen as nn
import fx_nnx as nnx
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from fx_compress import CalibrationError, Rule
from fx_core.plugins.registry import registry
from fx_train.step import StepState, make_train_step

X = jax.random.normal(jax.random.key(0), (32, 8))
Y = jnp.sin(2 * X[:, :4])
STATIC = {"*/kernel": fx_compress.int8(activations="static")}


class Net(nn.Module):
    @nn.compact
    def __call__(self, x):
        return nn.Dense(4, name="second")(jnp.tanh(nn.Dense(16, name="first")(x)))


class Model(nnx.Module):
    def __init__(self, rngs):
        self.first, self.norm = nnx.Linear(8, 16, rngs=rngs), nnx.BatchNorm(16, rngs=rngs)
        self.dropout, self.second = nnx.Dropout(0.1, rngs=rngs), nnx.Linear(16, 4, rngs=rngs)

    def __call__(self, x):
        return self.second(self.dropout(jnp.tanh(self.norm(self.first(x)))))


def mean_squares(y):
    return ((y - Y) ** 2).mean()


def test_the_collection_comes_through_the_plugin_door():
    entry = registry().collections["observers"]
    assert entry.load() is nnx.Observer
    assert nnx.variable_name_from_type(nnx.Observer) == "observers"
    assert entry.origin.distribution == "fx-compress"


@pytest.mark.parametrize("calibration", ["minmax", "percentile", "mse"])
def test_linen_calibrates_by_applying_batches(calibration):
    rules = {"*/kernel": fx_compress.int8(activations="static", calibration=calibration)}
    variables = Net().init(jax.random.key(1), X)
    observed, batches = fx_compress.observe(variables, rules), [X[:16], X[16:]]
    for batch in batches:
        y, new = jax.jit(lambda v, x: Net().apply(v, x, mutable=["observers"]))(observed, batch)
        np.testing.assert_allclose(y, Net().apply(variables, batch), rtol=1e-6)
        observed = {**observed, **new}
    found = fx_compress.ranges({**variables, **new})
    asked = fx_compress.calibrate(lambda v, x: Net().apply(v, x), variables, batches, rules)
    assert sorted(found) == ["params/first/kernel", "params/second/kernel"] == sorted(asked)
    got = fx_compress.quantize(variables, rules, calibration=found)["params"]
    want = fx_compress.quantize(variables, rules, calibration=asked)["params"]
    rtol = 1e-6 if calibration == "minmax" else 0.3
    for name in ("first", "second"):
        np.testing.assert_allclose(got[name]["kernel"].input_scale, want[name]["kernel"].input_scale, rtol=rtol)
    # Where the collection may not change, nothing does.
    assert Net().apply(observed, 100 * X).shape == Y.shape


def test_linen_trains_for_static_activations_in_a_training_step(tmp_path):
    variables = fx_compress.with_observers(Net().init(jax.random.key(1), X), STATIC)
    assert variables["observers"]["first"]["kernel_range"] == 0

    def loss_fn(params, batch, variables):
        y, new = Net().apply({"params": params, **variables}, batch, mutable=["observers"])
        return mean_squares(y), {}, new

    params, rest = variables["params"], {"observers": variables["observers"]}
    state, losses = StepState.create(params=params, variables=rest, tx=optax.adam(0.02)), []
    step = make_train_step(loss_fn, parameters=fx_compress.quantization_aware(STATIC))
    for _ in range(25):
        state, metrics = step(state, X)
        losses.append(float(metrics["loss"]))
    assert losses[-1] < 0.5 * losses[0]
    assert float(state.variables["observers"]["first"]["kernel_range"]) == pytest.approx(float(jnp.abs(X).max()))
    fx_ckpt.save(tmp_path / "checkpoint", {"params": state.params, **state.variables}, backend="msgpack")
    held = fx_ckpt.restore(tmp_path / "checkpoint", {"params": state.params, **state.variables})
    small = fx_compress.quantize(
        held["params"], STATIC, calibration=fx_compress.ranges({"observers": held["observers"]})
    )
    aware = {"params": fx_compress.fake_quantize(held["params"], STATIC), "observers": held["observers"]}
    np.testing.assert_allclose(Net().apply({"params": small}, X), Net().apply(aware, X), atol=1e-5)
    # A range that is known is kept to, whatever comes.
    assert not np.allclose(Net().apply(aware, 10 * X), Net().apply({"params": held["params"]}, 10 * X), atol=0.1)


def test_nnx_trains_for_static_activations_and_keeps_its_other_state():
    model = fx_compress.with_observers(Model(nnx.Rngs(0)), STATIC)
    assert len(jax.tree.leaves(nnx.state(model, nnx.Observer))) == 2
    optimizer = nnx.Optimizer(model, optax.adam(0.02), wrt=nnx.Param)

    @nnx.jit
    def step(model, optimizer):
        loss, grads = nnx.value_and_grad(lambda m: mean_squares(fx_compress.fake_quantize(m, STATIC)(X)))(model)
        optimizer.update(model, grads)
        return loss

    losses = [float(step(model, optimizer)) for _ in range(25)]
    assert losses[-1] < losses[0]
    # Running statistics and RNG streams are those of the model, not of the copy that computes.
    assert int(model.dropout.rngs.count[...]) == 25
    assert float(jnp.abs(model.norm.mean[...]).max()) > 0
    assert float(model.first.kernel_range[...]) == pytest.approx(float(jnp.abs(X).max()))
    model.eval()
    small = fx_compress.quantize(model, STATIC, calibration=fx_compress.ranges(model))
    np.testing.assert_allclose(small(X), fx_compress.fake_quantize(model, STATIC)(X), atol=1e-5)
    assert fx_compress.ranges(nnx.state(model)).keys() == {"first/kernel", "second/kernel"}
    view, _ = fx_compress.for_inference(model, X)
    assert not jax.tree.leaves(nnx.state(view, nnx.Observer))


def test_nnx_calibrates_by_calls_and_hands_its_observers_to_linen():
    model = fx_compress.with_observers(Model(nnx.Rngs(0)), STATIC)
    model.eval()
    observed = fx_compress.observe(model, STATIC)
    np.testing.assert_array_equal(observed(X), model(X))
    observed(3 * X)
    observed(X)
    assert float(model.first.kernel_range[...]) == pytest.approx(3 * float(jnp.abs(X).max()))
    again = fx_compress.with_observers(model, STATIC)
    np.testing.assert_array_equal(again.first.kernel_range[...], model.first.kernel_range[...])
    linear = fx_compress.with_observers(nnx.Linear(8, 4, rngs=nnx.Rngs(0)), {"kernel": STATIC["*/kernel"]})
    variables = fx_bridge.ToLinen(lambda rngs: linear).init(jax.random.key(0), X)
    assert float(variables["observers"]["kernel_range"]) == 0


class Stacked(nn.Module):
    @nn.compact
    def __call__(self, x):
        layer = nn.scan(
            lambda dense, x, _: (jnp.tanh(dense(x)), None),
            variable_axes={"params": 0, "observers": 0},
            split_rngs={"params": True},
            length=3,
        )
        return layer(nn.Dense(8, name="dense"), x, None)[0]


def test_layers_of_a_linen_scan_have_a_range_each():
    rules = [Rule("*/kernel", fx_compress.int8(activations="static"), stacked=1)]
    variables = Stacked().init(jax.random.key(0), X)
    _, new = Stacked().apply(fx_compress.observe(variables, rules), X, mutable=["observers"])
    known = new["observers"]["dense"]["kernel_range"]
    assert known.shape == (3,)
    assert float(known[0]) == pytest.approx(float(jnp.abs(X).max()))
    assert len(set(known.tolist())) == 3
    small = fx_compress.quantize(variables, rules, calibration=fx_compress.ranges({**variables, **new}))
    np.testing.assert_allclose(Stacked().apply(small, X), Stacked().apply(variables, X), atol=0.1)


def test_layers_of_an_nnx_scan_have_a_range_each():
    rules = [Rule("kernel", fx_compress.int8(activations="static"), stacked=1)]
    make = nnx.vmap(lambda rngs: nnx.Linear(8, 8, rngs=rngs), in_axes=0)
    stack = fx_compress.with_observers(make(nnx.Rngs(0).fork(split=3)), rules)
    run = nnx.scan(lambda x, layer: jnp.tanh(layer(x)), in_axes=(nnx.Carry, 0), out_axes=nnx.Carry)
    want = run(X, stack)
    np.testing.assert_allclose(run(X, fx_compress.observe(stack, rules)), want, rtol=1e-6)
    known = stack.kernel_range[...]
    assert known.shape == (3,)
    assert float(known[0]) == pytest.approx(float(jnp.abs(X).max()))
    small = fx_compress.quantize(
        stack, rules, calibration=fx_compress.ranges({"kernel": jnp.stack([known, known**0], -1)})
    )
    np.testing.assert_allclose(run(X, small), want, atol=0.1)


def test_a_scan_that_leaves_observers_out_is_noticed():
    class Left(nn.Module):
        @nn.compact
        def __call__(self, x):
            body = lambda dense, x, _: (dense(x), None)  # noqa: E731
            layer = nn.scan(body, variable_axes={"params": 0}, split_rngs={"params": True}, length=2)
            return layer(nn.Dense(8, name="dense"), x, None)[0]

    rules = [Rule("*/kernel", fx_compress.int8(activations="static"), stacked=1)]
    variables = Left().init(jax.random.key(0), X)
    _, new = Left().apply(fx_compress.observe(variables, rules), X, mutable=["observers"])
    with pytest.raises(CalibrationError, match="There are no observers"):
        fx_compress.ranges({**variables, **new})
    held = fx_compress.with_observers(variables, rules)
    _, new = Left().apply(fx_compress.observe(held, rules), X, mutable=["observers"])
    with pytest.raises(CalibrationError, match="saw no inputs"):
        fx_compress.ranges({**variables, **new})


def test_convolutions_attention_and_recurrent_cells_are_observed():
    class Several(nn.Module):
        @nn.compact
        def __call__(self, x):
            x = nn.Conv(8, (3,), name="conv")(x)
            x = x + nn.MultiHeadDotProductAttention(num_heads=2, name="attention")(x)
            return nn.GRUCell(8, name="cell")(x[:, 1], x[:, 0])[1]

    x = jax.random.normal(jax.random.key(2), (2, 5, 8))
    variables = Several().init(jax.random.key(0), x)
    observed, aware = fx_compress.observe(variables, STATIC), fx_compress.fake_quantize(variables, STATIC)
    y, new = Several().apply(observed, x, mutable=["observers"])
    np.testing.assert_allclose(y, Several().apply(variables, x), rtol=1e-6)
    kernels = [p for p, _ in jax.tree_util.tree_leaves_with_path(variables["params"]) if "kernel" in str(p[-1])]
    assert len(jax.tree.leaves(new["observers"])) == len(kernels)
    small = fx_compress.quantize(variables, STATIC, calibration=fx_compress.ranges({**variables, **new}))
    np.testing.assert_allclose(Several().apply(small, x), Several().apply({**aware, **new}, x), atol=1e-5)


@pytest.mark.parametrize(
    "model", [{"dense": {"kernel": jnp.ones((2, 2))}}, nnx.List([nnx.Param(jnp.ones((2, 2)))])], ids=["tree", "list"]
)
def test_observers_without_a_place_are_refused(model):
    with pytest.raises(CalibrationError, match="no place for an observer"):
        fx_compress.with_observers(model, fx_compress.int8(activations="static"))


def test_a_quantized_module_is_the_body_of_a_linen_module():
    quantized = fx_compress.quantize(nnx.Linear(8, 4, rngs=nnx.Rngs(0)), {"kernel": fx_compress.int8()})
    module = fx_bridge.ToLinen(lambda rngs: quantized)
    variables = module.init(jax.random.key(0), X)
    assert isinstance(variables["params"]["kernel"], fx_compress.QuantizedArray)
    np.testing.assert_array_equal(module.apply(variables, X), quantized(X))


def test_weights_that_a_traced_function_closes_over_are_quantized():
    kernel = jnp.linspace(-1, 1, 32).reshape(8, 4)
    small = jax.jit(lambda: fx_compress.quantize({"kernel": kernel}, fx_compress.int8()))()
    np.testing.assert_array_equal(small["kernel"].values, fx_compress.int8().quantize(kernel).values)
