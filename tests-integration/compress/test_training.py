"""Training for integers, and adapters on quantized bases, by one argument of a training step."""

import fx_ckpt
import fx_compress
import fx_linen as nn
import fx_nnx as nnx
import fx_train
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from fx_ckpt.errors import RestoreMismatchError
from fx_compress import Rule
from fx_core.ops.linear import dense
from fx_train.step import StepState, make_train_step

X = jax.random.normal(jax.random.key(0), (32, 8))
Y = jnp.sin(2 * X[:, :4])


class Net(nn.Module):
    @nn.compact
    def __call__(self, x):
        return nn.Dense(4)(jnp.tanh(nn.Dense(16)(x)))


def linen_loss(params, batch):
    return ((Net().apply({"params": params}, batch) - Y) ** 2).mean()


def trained(state, loss, steps=25, **options):
    step = make_train_step(loss, **options)
    losses = []
    for _ in range(steps):
        state, metrics = step(state, X)
        losses.append(float(metrics["loss"]))
    return state, losses


@pytest.mark.parametrize("scheme", [fx_compress.int4(group=4), fx_compress.int8(activations="dynamic")])
def test_linen_parameters_are_trained_for_integers(scheme):
    rules = {"*/kernel": scheme}
    params = Net().init(jax.random.key(1), X)["params"]
    state = StepState.create(params=params, tx=optax.adam(0.02))
    state, losses = trained(state, linen_loss, parameters=fx_compress.quantization_aware(rules), clip=10.0)
    assert losses[-1] < 0.5 * losses[0]
    # What was trained is what the converted model gives.
    seen = linen_loss(fx_compress.quantization_aware(rules)(state.params), X)
    converted = linen_loss(fx_compress.quantize(state.params, rules), X)
    np.testing.assert_allclose(converted, seen, rtol=1e-3)


def test_ranges_of_static_activations_are_learned_in_training():
    rules = {"*/kernel": fx_compress.int8(activations="static")}
    params = Net().init(jax.random.key(1), X)["params"]
    held = {"params": params, "_overwrite_with_gradient": fx_compress.observers(params, rules)}
    state = StepState.create(params=held, tx=optax.adam(0.02))
    aware = fx_compress.quantization_aware(rules)
    state, losses = trained(state, linen_loss, parameters=aware, clip=1.0)
    assert losses[-1] < 0.5 * losses[0]
    learned = state.params["_overwrite_with_gradient"]
    largest, uses = learned["Dense_1/kernel"]
    assert float(largest / uses) == pytest.approx(float(jnp.abs(X).max()), rel=1e-5)
    small = fx_compress.quantize(state.params["params"], rules, calibration=fx_compress.ranges(state.params))
    assert float(small["Dense_1"]["kernel"].input_scale) == pytest.approx(float(largest / uses) / 127)
    np.testing.assert_allclose(linen_loss(small, X), linen_loss(aware(state.params), X), rtol=1e-3)


def test_observers_of_stacked_layers_know_each_layer():
    rules = [Rule("kernel", fx_compress.int8(activations="static"), stacked=1)]
    params = {"kernel": jax.random.normal(jax.random.key(0), (3, 8, 8))}
    observers = fx_compress.observers(params, rules)

    def loss(observers):
        seen = fx_compress.fake_quantize(params, rules, observers=observers)
        return jax.lax.scan(lambda h, k: (dense(h, k), None), X, seen["kernel"])[0].sum()

    new = jax.grad(loss)(observers)["kernel"]
    assert new.shape == (3, 2)
    np.testing.assert_allclose(new[0], [jnp.abs(X).max(), 1], rtol=1e-6)
    assert sorted(fx_compress.ranges({"kernel": new})["kernel"]) == [(0,), (1,), (2,)]


def test_nnx_models_are_trained_for_integers():
    class Model(nnx.Module):
        def __init__(self, rngs):
            self.first, self.second = nnx.Linear(8, 16, rngs=rngs), nnx.Linear(16, 4, rngs=rngs)

        def __call__(self, x):
            return self.second(jnp.tanh(self.first(x)))

    graphdef, params = nnx.split(Model(nnx.Rngs(0)), nnx.Param)
    rules = {"*/kernel": fx_compress.int4(group=4)}

    def loss(params, batch):
        return ((nnx.merge(graphdef, params)(batch) - Y) ** 2).mean()

    state = StepState.create(params=params, tx=optax.adam(0.02))
    state, losses = trained(state, loss, parameters=fx_compress.quantization_aware(rules))
    assert losses[-1] < 0.5 * losses[0]
    seen = loss(fx_compress.fake_quantize(state.params, rules), X)
    np.testing.assert_allclose(loss(fx_compress.quantize(state.params, rules), X), seen, rtol=1e-3)


class Adapted(nn.Module):
    @nn.compact
    def __call__(self, x):
        x = jnp.tanh(nn.LoRA(2, nn.Dense(8, name="one"), name="first")(x))
        return nn.LoRA(2, nn.Dense(4, name="two"), name="second")(x)


def test_linen_adapters_train_on_a_quantized_base():
    params = Adapted().init(jax.random.key(0), X)["params"]
    rules = {"one/*": fx_compress.nf4(group=4), "two/*": fx_compress.int8()}
    small = fx_compress.quantize(params, rules)
    np.testing.assert_array_equal(small["first"]["lora_a"], params["first"]["lora_a"])
    # At first the change is zero.
    base = jnp.tanh(dense(X, small["one"]["kernel"]))
    want = dense(base, small["two"]["kernel"])
    np.testing.assert_allclose(Adapted().apply({"params": small}, X), want, rtol=1e-5, atol=1e-6)

    def loss(params, batch):
        return ((Adapted().apply({"params": params}, batch) - Y) ** 2).mean()

    chosen = lambda path, _: path[-1].startswith("lora")  # noqa: E731
    tx = fx_train.step.trainable_only(optax.adam(0.05), chosen)
    before = jax.tree.map(np.array, small)
    state, losses = trained(StepState.create(params=small, tx=tx), loss, trainable=chosen)
    assert losses[-1] < 0.9 * losses[0]
    for name, adapter in (("one", "first"), ("two", "second")):
        jax.tree.map(np.testing.assert_array_equal, state.params[name], before[name])
        assert float(jnp.abs(state.params[adapter]["lora_b"]).max()) > 0


def test_nnx_adapters_train_on_a_quantized_base():
    base = fx_compress.quantize(nnx.Linear(8, 4, rngs=nnx.Rngs(0)), fx_compress.int4(group=4))
    model = nnx.LoRA(8, 2, 4, base_module=base, rngs=nnx.Rngs(1))
    graphdef, params = nnx.split(model, nnx.Param)
    codes = np.array(base.kernel.get_value().values)

    def loss(params, batch):
        return ((nnx.merge(graphdef, params)(batch) - Y) ** 2).mean()

    tx = fx_train.step.trainable_only(optax.adam(0.05), nnx.LoRAParam)
    state, losses = trained(StepState.create(params=params, tx=tx), loss, trainable=nnx.LoRAParam)
    assert losses[-1] < 0.9 * losses[0]
    values = state.params["base_module"]["kernel"].get_value()
    np.testing.assert_array_equal(values.values, codes)


def test_training_frozen_integers_is_refused():
    params = fx_compress.quantize(Net().init(jax.random.key(0), X)["params"], {"*/kernel": fx_compress.int8()})
    state = StepState.create(params=params, tx=optax.sgd(0.1))
    with pytest.raises(fx_train.errors.StateMismatchError, match=r"(?s)Dense_0.*kernel.*int8.*trainable="):
        make_train_step(linen_loss)(state, X)


def test_codes_of_eight_bit_floats_are_no_parameters():
    params = fx_compress.quantize({"kernel": jnp.eye(8)}, fx_compress.fp8())
    state = StepState.create(params=params, tx=optax.sgd(0.1))
    with pytest.raises(fx_train.errors.StateMismatchError, match=r"(?s)kernel.*16 bits or more.*float8_e4m3fn"):
        make_train_step(lambda params, x: dense(x, params["kernel"]).sum())(state, X)


def test_policies_cast_what_a_quantized_weight_stands_for():
    small = fx_compress.quantize({"a": jnp.eye(8), "b": jnp.eye(8)}, {"a": fx_compress.fp8(), "b": fx_compress.int8()})
    cast = fx_train.step.Policy(compute="bfloat16").to_compute(small)
    assert [leaf.dtype for leaf in jax.tree.leaves(cast)] == [leaf.dtype for leaf in jax.tree.leaves(small)]
    assert cast["a"].dtype == cast["b"].dtype == dense(X.astype(jnp.bfloat16), cast["b"]).dtype == jnp.bfloat16
    fx_train.step.Policy().check(small)


def test_a_quantized_checkpoint_is_not_loaded_into_floats(tmp_path):
    variables = Net().init(jax.random.key(0), X)
    fx_ckpt.save(tmp_path / "small", fx_compress.quantize(variables, {"*/kernel": fx_compress.int8()}))
    with pytest.raises(RestoreMismatchError, match=r"(?s)kernel.*dequantize"):
        fx_ckpt.restore(tmp_path / "small", variables)
    fx_ckpt.save(tmp_path / "large", variables)
    with pytest.raises(RestoreMismatchError, match=r"(?s)kernel.*fx_compress.quantize"):
        fx_ckpt.restore(tmp_path / "large", fx_compress.quantize(variables, {"*/kernel": fx_compress.int8()}))


@pytest.mark.parametrize("backend", ["msgpack", "safetensors", "orbax"])
def test_codes_of_one_format_are_not_loaded_as_another(backend, tmp_path):
    # Both are bytes with two codes each, of the same shapes.
    variables = Net().init(jax.random.key(0), X)
    fx_ckpt.save(tmp_path / "nf4", fx_compress.quantize(variables, fx_compress.nf4(group=4)), backend=backend)
    with pytest.raises(RestoreMismatchError, match=r"(?s)kernel/values_int4.*kernel/values_nf4"):
        fx_ckpt.restore(tmp_path / "nf4", fx_compress.quantize(variables, fx_compress.int4(group=4)))


def test_observers_without_anything_to_observe_are_refused():
    params = Net().init(jax.random.key(0), X)["params"]
    with pytest.raises(fx_compress.CalibrationError, match=r"(?s)Nothing is to be observed.*static"):
        fx_compress.observers(params, {"*/kernel": fx_compress.int8()})
    with pytest.raises(fx_compress.CalibrationError, match=r"(?s)saw no inputs.*where: kernel"):
        fx_compress.ranges({"kernel": jnp.zeros(2)})
    with pytest.raises(fx_compress.CalibrationError, match=r"(?s)no observer.*where: kernel.*shape \(\)"):
        fx_compress.ranges({"kernel": jnp.zeros(())})
