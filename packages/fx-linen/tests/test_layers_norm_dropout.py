"""Normalizations, dropout, rectifiers with parameters, and layers made of layers."""

import fx_linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from fx_core.errors import (
    ArgumentError,
    ArgumentTypeError,
    ShapeMismatchError,
)

KEY = jax.random.key(0)


def test_batch_norm_trains_and_serves():
    x = jax.random.normal(KEY, (8, 3)) * 2 + 1
    layer = nn.BatchNorm(momentum=0.9)
    variables = layer.init(KEY, x, use_running_average=False)
    assert variables["batch_stats"]["mean"].tolist() == [0, 0, 0]
    assert variables["batch_stats"]["var"].tolist() == [1, 1, 1]
    y, updates = layer.apply(variables, x, use_running_average=False, mutable=["batch_stats"])
    np.testing.assert_allclose(y.mean(0), np.zeros(3), atol=1e-6)
    np.testing.assert_allclose(updates["batch_stats"]["mean"], 0.1 * np.asarray(x).mean(0), rtol=1e-5)
    np.testing.assert_allclose(updates["batch_stats"]["var"], 0.9 + 0.1 * np.asarray(x).var(0), rtol=1e-5)
    served = layer.apply(variables, x, use_running_average=True)
    np.testing.assert_allclose(served, x / np.sqrt(1 + 1e-5), rtol=1e-6)


def test_batch_norm_needs_to_know_the_mode_once():
    with pytest.raises(ValueError, match="use_running_average"):
        nn.BatchNorm().init(KEY, jnp.ones((2, 3)))
    with pytest.raises(ValueError, match="use_running_average"):
        nn.BatchNorm(use_running_average=True).init(KEY, jnp.ones((2, 3)), use_running_average=True)


def test_batch_norm_keeps_statistics_in_float32():
    layer = nn.BatchNorm(use_running_average=False, param_dtype=jnp.bfloat16)
    variables = layer.init(KEY, jnp.ones((2, 3), jnp.bfloat16))
    assert variables["batch_stats"]["mean"].dtype == jnp.float32
    assert variables["params"]["scale"].dtype == jnp.bfloat16
    loose = nn.BatchNorm(use_running_average=False, param_dtype=jnp.bfloat16, force_float32_reductions=False)
    assert loose.init(KEY, jnp.ones((2, 3)))["batch_stats"]["var"].dtype == jnp.bfloat16


def test_batch_norm_over_a_mapped_axis_equals_one_batch():
    x = jax.random.normal(KEY, (4, 2, 3))
    layer = nn.BatchNorm(use_running_average=False, axis_name="devices")
    variables = layer.init(KEY, x[0])  # outside the map: the axis is not needed to initialize
    run = jax.vmap(lambda v: layer.apply(variables, v, mutable=["batch_stats"]), axis_name="devices")
    y, updates = run(x)
    whole = nn.BatchNorm(use_running_average=False)
    expected, stats = whole.apply(variables, x.reshape(8, 3), mutable=["batch_stats"])
    np.testing.assert_allclose(y.reshape(8, 3), expected, rtol=1e-4, atol=1e-5)
    mean = updates["batch_stats"]["mean"][0]
    np.testing.assert_allclose(mean, stats["batch_stats"]["mean"], rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize(
    ("layer", "params"),
    [
        (nn.LayerNorm(), {"scale": (6,), "bias": (6,)}),
        (nn.LayerNorm(use_scale=False, feature_axes=(1, -1)), {"bias": (4, 6)}),
        (nn.RMSNorm(), {"scale": (6,)}),
        (nn.GroupNorm(3, use_bias=False), {"scale": (6,)}),
        (nn.GroupNorm(None, 2), {"scale": (6,), "bias": (6,)}),
        (nn.InstanceNorm(feature_axes=(1, 2)), {"scale": (4, 6), "bias": (4, 6)}),
        (nn.LayerNorm(use_bias=False, use_scale=False), None),
    ],
)
def test_norm_parameters(layer, params):
    variables = layer.init(KEY, jnp.ones((2, 4, 6)))
    assert (jax.tree.map(jnp.shape, variables["params"]) if variables else None) == params


def test_masked_norms_ignore_padding():
    x = jax.random.normal(KEY, (2, 5, 4))
    mask = jnp.arange(5).reshape(1, 5, 1) < 3
    for layer in (
        nn.LayerNorm(reduction_axes=(1, 2)),
        nn.InstanceNorm(),
        nn.GroupNorm(2),
        nn.RMSNorm(reduction_axes=1),
    ):
        short, variables = layer.init_with_output(KEY, x[:, :3])
        full = layer.apply(variables, x.at[:, 3:].set(100.0), mask=jnp.broadcast_to(mask, x.shape))
        np.testing.assert_allclose(full[:, :3], short, rtol=1e-4, atol=1e-5)


def test_group_norm_says_what_does_not_divide():
    with pytest.raises(ArgumentError, match="The 6 channels cannot be divided"):
        nn.GroupNorm(4).init(KEY, jnp.ones((2, 6)))


def test_dropout_draws_from_its_stream():
    x = jnp.ones(50)
    layer = nn.Dropout(0.5, deterministic=False, rng_collection="noise")
    first = layer.apply({}, x, rngs={"noise": KEY})
    again = layer.apply({}, x, rngs={"noise": KEY})
    given = layer.apply({}, x, rng=KEY)
    assert (first == again).all()
    assert set(np.unique(given)) == {0.0, 2.0}
    assert not (layer.apply({}, x, rngs={"noise": jax.random.key(1)}) == first).all()


@pytest.mark.parametrize("options", [{"rate": 0.0, "deterministic": False}, {"rate": 0.9, "deterministic": True}])
def test_dropout_that_does_nothing_needs_no_key(options):
    x = jnp.arange(3.0)
    assert nn.Dropout(**options).apply({}, x) is x


def test_dropout_of_everything_needs_no_key():
    assert not nn.Dropout(1.0, deterministic=False).apply({}, jnp.ones(3)).any()


def test_wrong_dropout():
    with pytest.raises(ValueError, match="deterministic"):
        nn.Dropout(0.5).apply({}, jnp.ones(3), rngs={"dropout": KEY})
    with pytest.raises(ArgumentError, match="probability to drop"):
        nn.Dropout(50, deterministic=True).apply({}, jnp.ones(3))


def test_prelu_learns_its_slope():
    layer = nn.PReLU(negative_slope_init=0.5)
    y, variables = layer.init_with_output(KEY, jnp.array([-2.0, 2.0]))
    assert y.tolist() == [-1.0, 2.0]
    gradient = jax.grad(lambda v: layer.apply(v, jnp.array([-2.0, 2.0])).sum())(variables)
    assert gradient["params"]["negative_slope"] == -2.0


def test_sequential_passes_tuples_and_dicts_on():
    model = nn.Sequential([lambda x: (x, 2 * x), lambda a, b: {"total": a + b}, lambda total: [total]])
    assert model.apply({}, jnp.array(1.0)) == [3.0]


def test_sequential_names_its_layers():
    model = nn.Sequential([nn.Dense(3), nn.relu, nn.Dense(2)])
    variables = model.init(KEY, jnp.ones((1, 4)))
    assert sorted(variables["params"]) == ["layers_0", "layers_2"]


def test_wrong_sequential():
    with pytest.raises(ArgumentTypeError, match=r"(?s)must be a sequence.*Dense.*Sequential\(\[layer_1"):
        nn.Sequential(nn.Dense(3))
    with pytest.raises(ArgumentError, match="no layers to call"):
        nn.Sequential([]).apply({}, 1)


def test_batch_apply_merges_and_splits():
    seen = []

    def f(x, scalar, *, k):
        seen.append((x.shape, scalar, k.shape))
        return x.sum(-1), {"x": x}

    a, b = nn.BatchApply(f)(jnp.ones((2, 3, 4)), 5, k=jnp.ones((2, 3)))
    assert seen == [((6, 4), 5, (6,))]
    assert (a.shape, b["x"].shape) == ((2, 3), (2, 3, 4))


def test_batch_apply_of_a_module():
    layer = nn.Dense(5)
    x = jnp.ones((2, 3, 4))
    variables = layer.init(KEY, x[0])
    got = nn.BatchApply(lambda v: layer.apply(variables, v))(x)
    np.testing.assert_allclose(got, layer.apply(variables, x), rtol=1e-6)


def test_wrong_batch_apply():
    with pytest.raises(ShapeMismatchError, match=r"(?s)no array with enough dimensions.*at least one input of 3"):
        nn.BatchApply(lambda x: x, 3)(jnp.ones((2, 3)))
    with pytest.raises(ShapeMismatchError, match=r"(?s)no batch dimension to split.*\(6, \.\.\.\)"):
        nn.BatchApply(lambda x: x.sum())(jnp.ones((2, 3, 4)))


def test_the_face_has_the_functions():
    x = jnp.linspace(-2.0, 2.0, 5)
    np.testing.assert_array_equal(nn.relu(x), np.maximum(np.asarray(x), 0))
    assert nn.max_pool(jnp.ones((1, 4, 4, 1)), (2, 2), strides=(2, 2)).shape == (1, 2, 2, 1)
    assert nn.ones_init()(KEY, (2,)).tolist() == [1, 1]
    assert nn.zeros(KEY, (2,), jnp.int32).dtype == jnp.int32
