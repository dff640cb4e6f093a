"""What fx-train takes over from Flax gives the numbers that Flax gives."""

import logging
import math

import flax.jax_utils
import flax.training.common_utils
import flax.training.dynamic_scale
import flax.training.early_stopping
import flax.training.lr_schedule
import flax.training.train_state
import fx_train.common_utils
import fx_train.dynamic_scale
import fx_train.early_stopping
import fx_train.jax_utils
import fx_train.lr_schedule
import fx_train.train_state
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest


def dtypes(tree):
    return [jnp.result_type(leaf) for leaf in jax.tree.leaves(tree)]


@pytest.fixture(autouse=True)
def _quiet():
    # Flax logs that its schedules are deprecated in favor of those of optax.
    logging.disable(logging.WARNING)
    yield
    logging.disable(logging.NOTSET)


@pytest.mark.parametrize(
    ("name", "args"),
    [
        ("create_constant_learning_rate_schedule", (0.1, 10)),
        ("create_constant_learning_rate_schedule", (0.1, 10, 2.5)),
        ("create_cosine_learning_rate_schedule", (0.1, 10, 5)),
        ("create_cosine_learning_rate_schedule", (0.1, 7, 5.5, 1.5)),
        ("create_stepped_learning_rate_schedule", (0.1, 10, [[2, 0.1], [4, 0.01]])),
        ("create_stepped_learning_rate_schedule", (0.1, 10, [[0.5, 0.1], [4, 0.01]], 1.0)),
        ("create_stepped_learning_rate_schedule", (0.1, 7, np.array([[0, 0.5], [2.5, 0.3]]), 3)),
    ],
)
def test_schedules(name, args):
    mine, flax_ = (getattr(module, name)(*args) for module in (fx_train.lr_schedule, flax.training.lr_schedule))
    for step in [*range(0, 70, 3), 5, 10, 20, 40, 50]:
        np.testing.assert_allclose(mine(step), flax_(step), rtol=2e-6, atol=1e-8)
        np.testing.assert_allclose(jax.jit(mine)(step), flax_(step), rtol=2e-6, atol=1e-7)


def test_dynamic_scale_over_good_and_bad_steps():
    pair = [m.DynamicScale(growth_interval=2, scale=8.0) for m in (fx_train.dynamic_scale, flax.training.dynamic_scale)]
    assert jax.tree.leaves(pair[0]) == jax.tree.leaves(pair[1])
    w = {"a": jnp.array([1.0, 2.0], jnp.bfloat16), "b": jnp.float16(3)}

    def fun(w, x):
        return sum(jnp.sum(leaf.astype(jnp.float32) ** 2) * x for leaf in jax.tree.leaves(w)), "aux"

    for factor in [1.0, 1.0, 1.0, math.inf, 1.0, math.nan, 1.0, 1.0, 1.0]:
        results = [s.value_and_grad(fun, has_aux=True)(w, factor) for s in pair]
        pair = [result.dynamic_scale for result in results]
        mine, flax_ = ((r.finite, r.aux[0], r.grad, r.dynamic_scale.scale, r.dynamic_scale.fin_steps) for r in results)
        jax.tree.map(np.testing.assert_array_equal, list(mine), list(flax_))
    assert dtypes(results[0].grad) == dtypes(results[1].grad)


@pytest.mark.parametrize("argnums", [0, 1, (0, 1)])
def test_dynamic_scale_averages_over_an_axis(argnums):
    def run(module):
        scale = module.DynamicScale(scale=4.0)
        grad = jax.vmap(
            lambda x, y: scale.value_and_grad(lambda x, y: x * y * y, argnums, axis_name="b")(x, y).grad, axis_name="b"
        )
        return grad(jnp.arange(3.0), jnp.arange(1.0, 4.0))

    jax.tree.map(np.testing.assert_array_equal, run(fx_train.dynamic_scale), run(flax.training.dynamic_scale))


@pytest.mark.parametrize(
    "options",
    [
        {"growth_interval": 0, "scale": 3e38},
        {"growth_interval": 1, "growth_factor": 3.0, "backoff_factor": 0.25, "scale": 8},
        {"minimum_scale": 1.5, "scale": 4.0},
        {"minimum_scale": None, "scale": 4.0},
        {"fin_steps": 1999},
    ],
)
def test_dynamic_scale_with_options(options):
    pair = [module.DynamicScale(**options) for module in (fx_train.dynamic_scale, flax.training.dynamic_scale)]
    for factor in [1e-30, 1e-30, math.inf, math.inf, 1.0, 1.0]:
        with np.errstate(over="ignore"):  # Flax's scale becomes inf in float32 before it is bounded
            results = [s.value_and_grad(lambda w, x: w * x)(1.0, factor) for s in pair]
        pair = [result.dynamic_scale for result in results]
        mine, flax_ = ([r.finite, r.aux, r.grad, r.dynamic_scale.scale, r.dynamic_scale.fin_steps] for r in results)
        jax.tree.map(np.testing.assert_array_equal, mine, flax_)


NAN = math.nan


@pytest.mark.parametrize(
    "values",
    [
        [1.0, 0.8, 0.79, 0.5, 0.6, 0.7, 0.8, 0.1],
        [1.0, NAN, 0.5, NAN, NAN, NAN],
        [math.inf, 1.0, -1.0],
        [-math.inf, 1.0, -1.0, 2.0, 2.0],
    ],
)
def test_early_stopping(values):
    """Apart from a first NaN, which is the best value for ever in Flax."""
    pair = [m.EarlyStopping(0.05, 1) for m in (fx_train.early_stopping, flax.training.early_stopping)]
    for value in values:
        pair = [stopping.update(value) for stopping in pair]
        np.testing.assert_array_equal(*(jax.tree.leaves(stopping) for stopping in pair))


def test_train_state_with_an_extra_field_and_overwriting_gradients():
    params = {"params": {"w": jnp.arange(3.0)}, "_overwrite_with_gradient": {"scale": jnp.float32(1)}}
    grads = {"params": {"w": jnp.ones(3)}, "_overwrite_with_gradient": {"scale": jnp.float32(5)}}
    states = []
    for module in (fx_train.train_state, flax.training.train_state):

        class State(module.TrainState):
            count: int

        state = State.create(apply_fn=None, params=params, tx=optax.adam(0.1), count=0)
        states.append(state.apply_gradients(grads=grads, count=7))
    jax.tree.map(np.testing.assert_array_equal, *map(jax.tree.leaves, states))


def test_common_utils():
    mine, flax_ = fx_train.common_utils, flax.training.common_utils
    devices = jax.local_device_count()
    batch = {"a": np.arange(6.0 * devices).reshape(2 * devices, 3)}
    key = jax.random.key(3)
    metrics = [{"loss": jax.pmap(lambda x: x)(jnp.full(devices, float(i)))} for i in range(3)]
    labels = jnp.array([[0, 2], [5, -1]])
    for call in [
        lambda m: m.shard(batch),
        lambda m: jax.random.key_data(m.shard_prng_key(key)),
        lambda m: m.get_metrics(metrics),
        lambda m: m.stack_forest([{"x": 1}, {"x": 2}]),
        lambda m: m.onehot(labels, 3),
        lambda m: m.onehot(labels, 3, on_value=2, off_value=-1),
    ]:
        one, other = call(mine), call(flax_)
        jax.tree.map(np.testing.assert_array_equal, one, other)
        assert dtypes(one) == dtypes(other)


def test_jax_utils():
    devices = jax.local_device_count()
    batches = [{"x": np.full((devices, 2), i, np.float32)} for i in range(4)]
    ragged = np.arange(3.0 * devices + 1)
    one = fx_train.jax_utils.replicate(0.0).sharding.mesh
    copies = jax.sharding.NamedSharding(one, jax.sharding.PartitionSpec())
    x = jnp.arange(24.0).reshape(2, 3, 4)
    tree = {"a": x, "b": jnp.ones((2, 3))}

    def body(c, p):
        return c + p["a"].sum() * p["b"].sum(), {"a": p["a"] + c, "b": p["b"] * c}

    def fn(a, scale, *, shift):
        return a @ a.T, jnp.ones(a.shape) * scale + shift

    for call in [
        lambda m: m.replicate({"a": jnp.arange(3.0), "b": 2}),
        lambda m: m.unreplicate(m.replicate({"a": jnp.arange(3.0), "b": 2})),
        lambda m: list(m.prefetch_to_device(iter(batches), 2)),
        lambda m: m.pad_shard_unpad(lambda p, x: x * p)(2.0, ragged, min_device_batch=4),
        lambda m: m.pad_shard_unpad(lambda p, x, s: x * p * s, (0, 2))(2.0, ragged, 3.0),
        lambda m: m.pad_shard_unpad(lambda p, x, *, scale: x * scale, static_argnames="scale")(2.0, ragged, scale=3.0),
        lambda m: m.pad_shard_unpad(lambda p, x: {"o": (x["a"],)})(2.0, {"a": ragged, "b": None}),
        lambda m: m.pad_shard_unpad(lambda p, x: x.sum(), static_return=True)(2.0, ragged, min_device_batch=9),
        lambda m: list(m.prefetch_to_device(iter(batches), 9, jax.local_devices()[:1])),
        lambda m: m.unreplicate(jnp.float32(1)),
        lambda m: m.unreplicate(jax.device_put(x, copies)) if devices > 1 else 0,
        lambda m: jax.jit(m.replicate)(x),
        lambda m: m.scan_in_dim(body, 0.0, tree, (1, 0)),
        lambda m: m.scan_in_dim(body, 0.0, tree, 1, keepdims=True),
        lambda m: m.scan_in_dim(lambda c, p: (c + p.sum(), None), 0.0, x, (-1, 1)),
        lambda m: m.scan_in_dim(lambda c, p: (c + p.sum(), p[None, None]), 0.0, x, (0, 2)),
        lambda m: m.scan_in_dim(lambda c, p: (c * 0.5 + p.sum(), p + c), 0.0, x),
        lambda m: m.scan_in_dim(
            lambda c, p: (c * 0.5 + p.sum(), p + c), 0.0, x, axis=(2, 0), unroll=(2, 1), keepdims=True
        ),
        lambda m: m.scan_in_dim(lambda c, p: (c * 0.5 + p.sum(), p + c), 0.0, x, axis=1, keepdims=True),
    ]:
        one, other = call(fx_train.jax_utils), call(flax.jax_utils)
        jax.tree.map(np.testing.assert_array_equal, one, other)
    copies = [module.replicate(jnp.arange(3.0)) for module in (fx_train.jax_utils, flax.jax_utils)]
    assert copies[0].sharding == copies[1].sharding
    unknown, known = fx_train.jax_utils.partial_eval_by_shape(fn, [((2, 3), jnp.float32)], 2.0, shift=1.0)
    expected_unknown, expected_known = flax.jax_utils.partial_eval_by_shape(fn, [((2, 3), jnp.float32)], 2.0, shift=1.0)
    assert (unknown.shape, unknown.dtype) == (expected_unknown.shape, expected_unknown.dtype)
    np.testing.assert_array_equal(known, expected_known)
    for plain in (lambda x: (x.shape[0], 2.0, None, np.ones(2), x), lambda x: (jnp.ones(2), x[0])):
        one, other = (
            m.partial_eval_by_shape(plain, [((2, 3), jnp.float32)]) for m in (fx_train.jax_utils, flax.jax_utils)
        )
        assert jax.tree.map(type, one) == jax.tree.map(type, other)
