"""What calibration sees of the inputs of weights, and rounding that compensates errors by it."""

import dataclasses

import fx_compress
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from fx_compress import Rule
from fx_core.ops.conv import conv, plan_conv
from fx_core.ops.linear import dense


def random(*shape, seed=0):
    return jnp.asarray(np.random.default_rng(seed).normal(size=shape), jnp.float32)


def model():
    return {
        "params": {
            "first": {"kernel": random(8, 16), "bias": jnp.zeros(16)},
            "second": {"kernel": random(16, 4, seed=1), "bias": jnp.zeros(4)},
            "table": {"embedding": random(10, 8, seed=2)},
        },
        "batch_stats": {"mean": random(4, 4)},
    }


def network(variables, x):
    first, second = variables["params"]["first"], variables["params"]["second"]
    return dense(jax.nn.relu(dense(x, first["kernel"], first["bias"])), second["kernel"], second["bias"])


def test_static_activations_use_the_range_that_calibration_saw():
    variables, rules = model(), {"*/kernel": fx_compress.int8(activations="static")}
    batches = [random(16, 8, seed=s) for s in range(3)]
    found = fx_compress.calibrate(jax.jit(network), variables, batches, rules)
    largest = max(float(jnp.abs(batch).max()) for batch in batches)
    assert found["params/first/kernel"][()].largest == pytest.approx(largest)
    assert found["params/first/kernel"][()].rows == 48
    small = fx_compress.quantize(variables, rules, calibration=found)
    assert float(small["params"]["first"]["kernel"].input_scale) == pytest.approx(largest / 127)
    error = network(small, batches[0]) - network(variables, batches[0])
    assert float(jnp.abs(error).max()) < 0.3


@pytest.mark.parametrize("calibration", ["percentile", "mse"])
def test_outliers_do_not_take_the_range_of_the_rest(calibration):
    x = jnp.concatenate([random(1000, 8).clip(-1, 1), jnp.full((1, 8), 30.0)])
    rules = fx_compress.int8(activations="static", calibration=calibration, percentile=99.0)
    kernel = {"kernel": random(8, 4)}
    found = fx_compress.calibrate(lambda m, x: dense(x, m["kernel"]), kernel, [x], rules)
    scale = float(fx_compress.quantize(kernel, rules, calibration=found)["kernel"].input_scale)
    assert scale <= (1.01 if calibration == "percentile" else 30.01) / 127


def test_calibration_sees_each_of_stacked_layers():
    kernels = {"kernel": random(3, 8, 8)}
    rules = [Rule("*", fx_compress.int8(activations="static", rounding="gptq"), stacked=1)]

    def stack(m, x):
        return jax.lax.scan(lambda h, k: (dense(h, k), None), x, m["kernel"])[0]

    x = random(20, 8, seed=7)
    found = fx_compress.calibrate(jax.jit(stack), kernels, [x], rules)
    assert sorted(found["kernel"]) == [(0,), (1,), (2,)]
    second = x @ kernels["kernel"][0]
    np.testing.assert_allclose(found["kernel"][(1,)].largest, float(jnp.abs(second).max()), rtol=1e-5)
    small = fx_compress.quantize(kernels, rules, calibration=found)
    assert small["kernel"].input_scale.shape == (3,)
    want = stack(kernels, x)
    assert float(jnp.linalg.norm(stack(small, x) - want) / jnp.linalg.norm(want)) < 0.05


def test_calibration_of_a_convolution_sees_its_image():
    kernel, image = {"kernel": random(3, 4, 8)}, random(2, 9, 4)
    rules = fx_compress.int8(activations="static")

    def run(m, x):
        return conv(plan_conv((3,)), x, m["kernel"])

    found = fx_compress.calibrate(run, kernel, [(image,)], rules)
    small = fx_compress.quantize(kernel, rules, calibration=found)
    want = run(kernel, image)
    assert float(jnp.abs(run(small, image) - want).max()) < 0.1 * float(jnp.abs(want).max())
    with pytest.raises(fx_compress.CalibrationError, match="for linear maps"):
        fx_compress.calibrate(run, kernel, [image], fx_compress.int8(rounding="gptq"))


@pytest.mark.parametrize("scheme", [fx_compress.int4(), fx_compress.int4(group=8), fx_compress.int4(symmetric=False)])
def test_error_compensation_changes_outputs_less_than_rounding(scheme):
    mixing = random(32, 32, seed=4) * (jnp.arange(32) < 6)[None, :]
    x, kernel = random(200, 32, seed=5) @ mixing.T, {"kernel": random(32, 16)}

    def error(rounding):
        rules = dataclasses.replace(scheme, rounding=rounding)
        found = fx_compress.calibrate(lambda m, x: dense(x, m["kernel"]), kernel, [x], rules)
        small = fx_compress.quantize(kernel, rules, calibration=found)
        want = dense(x, kernel["kernel"])
        return float(jnp.linalg.norm(dense(x, small["kernel"]) - want) / jnp.linalg.norm(want))

    assert error("gptq") < 0.6 * error("nearest")


def test_error_compensation_agrees_with_a_plain_python_one():
    kernel, x = np.asarray(random(6, 3), np.float64), np.asarray(random(50, 6, seed=1), np.float64)
    rules = fx_compress.int4(rounding="gptq")
    tree = {"kernel": jnp.asarray(kernel, jnp.float32)}
    found = fx_compress.calibrate(lambda m, x: dense(x, m["kernel"]), tree, [jnp.asarray(x, jnp.float32)], rules)
    got = fx_compress.quantize(tree, rules, calibration=found)["kernel"]

    # Optimal brain surgeon, one input after the other, with the inverse recomputed each time.
    gram = x.T @ x / len(x)
    gram += np.eye(6) * 0.01 * np.trace(gram) / 6
    weight, scale = kernel.copy(), np.abs(kernel).max(0) / 7
    codes = np.zeros(kernel.shape, int)
    for i in range(6):
        inverse = np.linalg.inv(gram[i:, i:])
        codes[i] = np.clip(np.round(weight[i] / scale), -7, 7)
        error = (weight[i] - codes[i] * scale) / inverse[0, 0]
        weight[i:] -= np.outer(inverse[:, 0], error)
    np.testing.assert_array_equal(got.codes(), codes)


def calibrated(kernel, rules, *batches):
    return fx_compress.calibrate(lambda m, x: dense(x, m["kernel"]), kernel, batches, rules)


def test_one_number_that_is_not_finite_is_found_among_many(monkeypatch):
    monkeypatch.setattr("fx_compress.calibration._KEPT", 64)
    batches = [jnp.ones((32, 4)), jnp.ones((32, 4)).at[3, 1].set(jnp.nan), jnp.ones((32, 4))]
    with pytest.raises(fx_compress.CalibrationError, match=r"(?s)not finite.*where: kernel"):
        calibrated({"kernel": random(4, 4)}, fx_compress.int8(activations="static"), *batches)


@pytest.mark.parametrize(
    ("call", "text"),
    [
        (lambda m, r: fx_compress.quantize(m, r), r"(?s)no statistics.*where: kernel.*calibrate with the same rules"),
        (lambda m, r: fx_compress.quantize(m, r, calibration={}), "(?s)no statistics.*got: statistics of nothing"),
        (lambda m, r: fx_compress.calibrate(lambda m, x: 0, m, [], r), "nothing to calibrate with"),
        (
            lambda m, r: fx_compress.calibrate(lambda m, x: dense(x, m["kernel"]), m, [jnp.full((1, 4), jnp.nan)], r),
            "(?s)not finite.*where: kernel",
        ),
        (
            lambda m, r: fx_compress.calibrate(lambda m, x: dense(x, m["kernel"]), m, [jnp.zeros((0, 4))], r),
            "(?s)nothing to calibrate with.*where: kernel.*no examples",
        ),
        (lambda m, r: fx_compress.quantize(m, r, calibration=calibrated(m, r, jnp.zeros((2, 4)))), "(?s)zeros.*kernel"),
    ],
)
def test_calibration_without_data_is_refused(call, text):
    with pytest.raises(fx_compress.CalibrationError, match=text):
        call({"kernel": random(4, 4)}, fx_compress.int8(activations="static"))


def test_statistics_of_other_rules_do_not_do_for_error_compensation():
    kernel = {"kernel": random(4, 4)}
    plain = fx_compress.int8(activations="static")
    found = fx_compress.calibrate(lambda m, x: dense(x, m["kernel"]), kernel, [random(3, 4)], plain)
    with pytest.raises(fx_compress.CalibrationError, match=r"(?s)not those of the inputs.*with 4 entries"):
        fx_compress.quantize(kernel, fx_compress.int8(rounding="gptq"), calibration=found)


@pytest.mark.parametrize(
    "scheme",
    [
        fx_compress.int4(rounding="awq"),
        fx_compress.int4(group=8, rounding="awq"),
        fx_compress.int8(rounding="awq", activations="dynamic"),
    ],
    ids=["int4", "groups", "dynamic"],
)
def test_weights_of_large_inputs_are_spared(scheme):
    x = random(200, 32, seed=5) * jnp.where(jnp.arange(32) % 8 == 0, 20.0, 1.0)[None]
    kernel = {"kernel": random(32, 16)}

    def run(m, x):
        return dense(x, m["kernel"])

    def small(rounding):
        rules = dataclasses.replace(scheme, rounding=rounding)
        found = fx_compress.calibrate(run, kernel, [x], rules)
        return fx_compress.quantize(kernel, rules, calibration=found)

    want, made = run(kernel, x), small("awq")
    error = {each: float(jnp.linalg.norm(run(small(each), x) - want)) for each in ("nearest", "awq")}
    assert error["awq"] < 0.85 * error["nearest"]
    tolerance = 0.05 if scheme.activations else 1e-4
    got = jax.jit(run)(made, x)
    np.testing.assert_allclose(got, x @ made["kernel"].materialize(), atol=tolerance * float(jnp.abs(want).max()))


def test_stacked_layers_are_scaled_each_by_its_inputs():
    kernels, x = {"kernel": random(3, 8, 8)}, random(20, 8) * jnp.linspace(1, 9, 8)[None]
    rules = [Rule("*", fx_compress.int4(rounding="awq"), stacked=1)]

    def stack(m, x):
        return jax.lax.scan(lambda h, k: (dense(h, k), None), x, m["kernel"])[0]

    found = fx_compress.calibrate(stack, kernels, [x], rules)
    small = fx_compress.quantize(kernels, rules, calibration=found)
    assert small["kernel"].shrink.shape == (3, 8, 1)
    np.testing.assert_allclose(stack(small, x), stack(fx_compress.dequantize(small), x), rtol=1e-3, atol=1e-2)
    with pytest.raises(fx_compress.SchemeError, match="Scaling by the inputs"):
        fx_compress.int8(rounding="awq", activations="static")


def test_pruned_weights_stay_pruned_by_error_compensation():
    weights = {"kernel": random(16, 8)}
    weights = fx_compress.apply_masks(weights, fx_compress.make_masks(weights, fx_compress.Magnitude(0.5)))
    rules, x = fx_compress.int4(rounding="gptq", symmetric=False), random(64, 16, seed=1)
    found = fx_compress.calibrate(lambda w, x: dense(x, w["kernel"]), weights, [x], rules)
    small = fx_compress.quantize(weights, rules, calibration=found)
    assert not small["kernel"].materialize()[weights["kernel"] == 0].any()


def test_statistics_of_other_layers_are_refused():
    weights, x = {"kernel": random(3, 4, 4)}, random(5, 4)
    scheme = fx_compress.int8(activations="static")

    def run(w, x):
        return jax.lax.scan(lambda h, kernel: (dense(h, kernel), None), x, w["kernel"])[0]

    found = fx_compress.calibrate(run, weights, [x], [Rule("*", scheme, stacked=1)])
    with pytest.raises(
        fx_compress.CalibrationError, match=r"(?s)inputs of 1 layers.*stacked=0.*\(0,\), \(1,\), \(2,\)"
    ):
        fx_compress.quantize(weights, scheme, calibration=found)


def test_a_range_is_that_of_one_use_however_often_a_weight_is_used():
    rules, x = fx_compress.int8(activations="static"), jnp.array([[2.0, -4.0], [1.0, 3.0]])
    params = {"kernel": jnp.array([[0.5, 0.1], [0.2, 0.5]])}

    def twice(observers, x):
        kernel = fx_compress.fake_quantize(params, rules, observers=observers)["kernel"]
        return dense(dense(x, kernel) * 0 + x, kernel).sum()

    def each(observers):
        return jax.vmap(twice, (None, 0))(observers, x).mean()

    observers = fx_compress.observers(params, rules)
    for of_batch, wanted in ((lambda o: twice(o, x), 4.0), (each, 3.5)):
        step, found = jax.jit(jax.grad(of_batch)), observers
        for _ in range(3):
            found = step(found)
        assert fx_compress.ranges(found)["kernel"][()].largest == pytest.approx(wanted, rel=1e-6)


def test_a_sample_of_magnitudes_is_of_all_batches_and_features(monkeypatch):
    monkeypatch.setattr("fx_compress.calibration._KEPT", 512)
    rules = {"kernel": fx_compress.int8(activations="static", calibration="percentile", percentile=90.0)}
    # A quarter of the features is large, in the first half of the batches only: an eighth of all.
    large = jnp.where(jnp.arange(8) % 4 == 1, 10.0, 1.0)
    batches = [jnp.broadcast_to(row, (64, 8)) for row in [large] * 8 + [jnp.ones(8)] * 8]
    found = fx_compress.calibrate(lambda m, x: dense(x, m["kernel"]), {"kernel": jnp.ones((8, 2))}, batches, rules)
    magnitudes = found["kernel"][()].magnitudes
    assert len(magnitudes) == 512
    assert abs((magnitudes == 10).mean() - 0.125) < 0.05


def test_weights_of_inputs_that_calibration_never_saw_are_not_rounded_to_zero():
    x = random(64, 16, seed=3).at[:, 2:].set(0.0)
    kernel, rules = {"kernel": random(16, 4).astype(jnp.float16)}, fx_compress.int4(rounding="awq")
    found = fx_compress.calibrate(lambda m, x: dense(x, m["kernel"]), kernel, [x], rules)
    got = fx_compress.quantize(kernel, rules, calibration=found)["kernel"].materialize()
    assert float(jnp.abs(got[2:]).max()) > 0.5
