"""Arrays without elements, inputs near the smallest numbers, and updates of fewer bits than their parameters."""

import fx_compress
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from fx_compress import Rule
from fx_core.ops.linear import dense

SCHEMES = [
    fx_compress.int8(),
    fx_compress.int8(symmetric=False),
    fx_compress.int8(activations="dynamic"),
    fx_compress.int4(group=2),
    fx_compress.int4(symmetric=False, clip="mse"),
    fx_compress.nf4(),
    fx_compress.fp8(),
]


def random(*shape, seed=0):
    return jnp.asarray(np.random.default_rng(seed).normal(size=shape), jnp.float32)


@pytest.mark.parametrize("scheme", SCHEMES, ids=str)
@pytest.mark.parametrize("shape", [(0, 4), (4, 0), (0, 0)])
def test_a_weight_without_elements_is_quantized(scheme, shape):
    params = {"kernel": jnp.ones(shape), "full": {"kernel": jnp.ones((64, 4))}}
    small = fx_compress.quantize(params, scheme)
    assert small["kernel"].materialize().shape == small["kernel"].shape == shape
    out = dense(jnp.ones((3, shape[0])), small["kernel"])
    np.testing.assert_array_equal(out, np.zeros((3, shape[1])))


@pytest.mark.parametrize("size", [1e-35, 1e-36, 1e-37, 2e-38])
@pytest.mark.parametrize("jit", [False, True])
def test_tiny_inputs_are_rounded_and_not_lost(size, jit):
    kernel = random(8, 4)
    x = jnp.linspace(-1, 1, 16).reshape(2, 8).at[0, 0].set(0) * np.float32(size)
    rule = fx_compress.int8(activations="dynamic")
    exact = np.asarray(x, np.float64) @ np.asarray(kernel, np.float64)
    # An input is off by half a step, and a step is no smaller than the smallest normal number.
    step = max(float(jnp.abs(x).max()) / 127, float(jnp.finfo(jnp.float32).tiny))
    bound = 0.5 * step * np.abs(kernel).sum(0) + 0.02 * np.abs(exact).max() + float(jnp.finfo(jnp.float32).tiny)
    run = jax.jit(dense) if jit else dense
    for weight in (rule.quantize(kernel), fx_compress.fake_quantize({"kernel": kernel}, rule)["kernel"]):
        assert (np.abs(np.asarray(run(x, weight), np.float64) - exact) <= bound).all()


def test_tiny_inputs_have_a_range_when_they_are_calibrated_and_learned():
    rule = fx_compress.int8(activations="static")
    model, x = {"kernel": random(8, 4)}, jnp.linspace(-1, 1, 16).reshape(2, 8) * np.float32(1e-36)
    statistics = fx_compress.calibrate(lambda m, x: dense(x, m["kernel"]), model, [x], rule)
    small = fx_compress.quantize(model, rule, calibration=statistics)
    assert float(small["kernel"].input_scale) >= float(jnp.finfo(jnp.float32).tiny)
    exact = np.asarray(x, np.float64) @ np.asarray(model["kernel"], np.float64)
    np.testing.assert_allclose(dense(x, small["kernel"]), exact, rtol=0, atol=0.05 * np.abs(exact).max())
    seen = fx_compress.observers(model, rule)
    learned = fx_compress.fake_quantize(model, rule, observers=seen)["kernel"]
    np.testing.assert_allclose(dense(x, learned), exact, rtol=0, atol=0.05 * np.abs(exact).max())


def test_a_range_that_is_no_number_stays_one():
    x = jnp.ones((2, 8)).at[0, 3].set(jnp.nan)
    weight = fx_compress.int8(activations="dynamic").quantize(random(8, 4))
    assert jnp.isnan(dense(x, weight)).any(1).tolist() == [True, False]


@pytest.mark.parametrize("of_updates", [jnp.bfloat16, jnp.float16, jnp.float32])
@pytest.mark.parametrize("of_params", [jnp.bfloat16, jnp.float32])
def test_pruned_elements_are_zero_whatever_the_dtype_of_the_updates(of_params, of_updates):
    params = {"kernel": random(8, 4).astype(of_params)}
    tx = fx_compress.prune_during_training([Rule("*", fx_compress.Magnitude(0.5))])
    state = tx.init(params)
    for _ in range(3):
        updates, state = tx.update({"kernel": jnp.full((8, 4), 0.1, of_updates)}, state, params)
        params = optax.apply_updates(params, updates)
        assert int((params["kernel"] == 0).sum()) == 16
        assert params["kernel"].dtype == of_params
