"""Schedules, loss scaling, replicas, padding, scans: what programs written for Flax call."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from fx_train import common_utils, jax_utils, lr_schedule
from fx_train.dynamic_scale import DynamicScale, all_finite
from fx_train.errors import (
    ArgumentError,
    BatchError,
    ShapeMismatchError,
)

DEVICES = jax.local_device_count()


def test_constant_schedule_rises_and_stays():
    schedule = lr_schedule.create_constant_learning_rate_schedule(0.1, 10, 2.0)
    np.testing.assert_allclose([schedule(step) for step in (0, 5, 20, 99)], [0, 0.025, 0.1, 0.1], rtol=1e-6)
    np.testing.assert_allclose(jax.jit(schedule)(jnp.array(5)), 0.025, rtol=1e-6)


def test_cosine_schedule_reaches_zero():
    schedule = lr_schedule.create_cosine_learning_rate_schedule(0.1, 10, 5, 1.0)
    np.testing.assert_allclose([schedule(0), schedule(25), schedule(50)], [0, 0.05, 0], atol=1e-7)


def test_stepped_schedule_changes_after_its_epochs():
    schedule = lr_schedule.create_stepped_learning_rate_schedule(1.0, 10, [(2, 0.5), (4, 0.25)])
    assert [float(schedule(step)) for step in (0, 20, 21, 40, 41)] == [1, 1, 0.5, 0.5, 0.25]
    np.testing.assert_array_equal(schedule(jnp.array([0, 20, 21, 40, 41])), [1, 1, 0.5, 0.5, 0.25])
    assert float(lr_schedule.create_stepped_learning_rate_schedule(1.0, 10, [])(99)) == 1
    for each in (schedule, lr_schedule.create_constant_learning_rate_schedule(1.0, 10)):
        rate = each(jnp.int32(25))
        assert rate.dtype == jnp.float32
        assert (rate * jnp.ones(2, jnp.bfloat16)).dtype == jnp.bfloat16


@pytest.mark.parametrize(
    ("make", "text"),
    [
        (lambda: lr_schedule.create_constant_learning_rate_schedule(1, 0), "steps_per_epoch makes no sense"),
        (lambda: lr_schedule.create_constant_learning_rate_schedule(1, 1, -1.0), "warmup_length makes no sense"),
        (lambda: lr_schedule.create_cosine_learning_rate_schedule(1, 1, 0), "halfcos_epochs makes no sense"),
        (lambda: lr_schedule.create_stepped_learning_rate_schedule(1, 1, [(1,)]), "expected: pairs .epoch, factor"),
        (lambda: lr_schedule.create_stepped_learning_rate_schedule(1, 1, [(2, 1), (1, 1)]), "whose epochs rise"),
    ],
)
def test_impossible_schedules(make, text):
    with pytest.raises(ArgumentError, match=text):
        make()


def test_scale_grows_after_finite_steps_and_shrinks_after_others():
    @jax.jit
    def step(dynamic_scale, factor):
        result = dynamic_scale.value_and_grad(lambda w: w * factor)(1.0)
        return result.dynamic_scale, result.finite

    scale = DynamicScale(growth_interval=2, scale=8.0)
    seen = []
    for factor in [1.0, 1.0, 1.0, jnp.inf, jnp.nan, 1.0]:
        scale, finite = step(scale, factor)
        seen.append((bool(finite), int(scale.fin_steps), float(scale.scale)))
    assert seen == [(True, 1, 8), (True, 2, 8), (True, 0, 16), (False, 0, 8), (False, 0, 4), (True, 1, 4)]


def test_scale_stays_in_its_bounds():
    up = DynamicScale(scale=3e38, growth_interval=0).value_and_grad(lambda w: w * 0)(1.0).dynamic_scale
    assert float(up.scale) == np.finfo(np.float32).max
    down = DynamicScale(scale=1.0, minimum_scale=0.75).value_and_grad(lambda w: w * jnp.inf)(1.0).dynamic_scale
    assert float(down.scale) == 0.75
    free = DynamicScale(scale=1.0, minimum_scale=None).value_and_grad(lambda w: w * jnp.inf)(1.0).dynamic_scale
    assert float(free.scale) == 0.5


def test_small_gradients_survive_in_float16():
    w = jnp.array(1.0, jnp.float16)

    def fun(w, x):
        return (w * x * jnp.float16(1e-4)) * jnp.float16(1e-4), "aux"

    assert float(jax.grad(lambda w: fun(w, jnp.float16(1.0))[0])(w)) == 0.0
    result = DynamicScale(scale=2.0**15).value_and_grad(fun, has_aux=True)(w, jnp.float16(1.0))
    np.testing.assert_allclose(result.grad, 1e-8, rtol=0.01)
    assert result.grad.dtype == jnp.float32
    assert result.aux[1] == "aux"


def test_all_finite_of_nothing():
    assert bool(all_finite({}))


def test_replicas_have_a_leading_axis_and_come_back():
    tree = {"w": jnp.arange(3.0), "n": 2, "key": jax.random.key(1)}
    copies = jax_utils.replicate(tree)
    assert copies["w"].shape == (DEVICES, 3)
    assert len(copies["w"].addressable_shards) == DEVICES
    back = jax_utils.unreplicate(copies)
    np.testing.assert_array_equal(back["w"], tree["w"])
    assert int(back["n"]) == 2
    assert back["key"] == tree["key"]
    np.testing.assert_array_equal(jax_utils.unreplicate(np.arange(6).reshape(3, 2)), [0, 1])
    np.testing.assert_array_equal(jax.jit(jax_utils.unreplicate)(jnp.arange(6.0).reshape(3, 2)), [0, 1])


def test_copies_on_a_mesh_and_in_a_trace():
    whole = jax.sharding.NamedSharding(jax_utils.replicate(0.0).sharding.mesh, jax.sharding.PartitionSpec())
    x = jax.device_put(jnp.arange(6.0).reshape(3, 2), whole)
    np.testing.assert_array_equal(jax_utils.unreplicate(x), x if DEVICES > 1 else x[0])
    assert float(jax_utils.unreplicate(jnp.float32(2))) == 2
    np.testing.assert_array_equal(jax.jit(jax_utils.replicate)(jnp.arange(3.0)), jax_utils.replicate(jnp.arange(3.0)))


def test_pmean_over_a_mapped_axis():
    out = jax.vmap(lambda x: jax_utils.pmean({"a": x}, "batch"), axis_name="batch")(jnp.arange(4.0))
    np.testing.assert_array_equal(out["a"], [1.5] * 4)


def test_prefetch_keeps_a_bounded_number_of_batches_ahead():
    made = []

    def source():
        for i in range(5):
            made.append(i)
            yield {"x": np.full((DEVICES, 2), i)}

    batches = jax_utils.prefetch_to_device(source(), 2)
    assert made == []
    first = next(batches)
    assert isinstance(first["x"], jax.Array)
    assert made == [0, 1]
    assert [int(batch["x"][0, 0]) for batch in batches] == [1, 2, 3, 4]


def test_prefetch_of_impossible_batches():
    with pytest.raises(ArgumentError, match="prefetch_to_device cannot hold 0 items"):
        jax_utils.prefetch_to_device(iter([]), 0)
    with pytest.raises(ArgumentError, match="cannot hold None items"):
        jax_utils.prefetch_to_device(iter([]), None)
    with pytest.raises(BatchError, match=r"A batch of shape \(\) cannot be split"):
        next(jax_utils.prefetch_to_device(iter([1.0]), 2))


def test_shard_stack_and_fetch():
    batch = common_utils.shard({"x": np.zeros((2 * DEVICES, 3))})
    assert batch["x"].shape == (DEVICES, 2, 3)
    with pytest.raises(BatchError, match="got: a scalar"):
        common_utils.shard(1.0)
    assert common_utils.shard_prng_key(jax.random.PRNGKey(0)).shape == (DEVICES, 2)
    metrics = [jax_utils.replicate({"loss": 1.0}), jax_utils.replicate({"loss": 2.0})]
    assert common_utils.get_metrics(metrics)["loss"].tolist() == [1, 2]
    with pytest.raises(ArgumentError, match="no tree to stack"):
        common_utils.stack_forest([])


def test_onehot_of_labels_in_and_out_of_range():
    hot = common_utils.onehot(jnp.array([[0], [5]]), 2, on_value=3.0, off_value=-1.0)
    assert hot.tolist() == [[[3, -1]], [[-1, -1]]]


def test_padding_is_invisible():
    seen = []

    def double(params, x, *, scale):
        seen.append((jax.tree.map(np.shape, x), scale))
        return jax.tree.map(lambda a: params * a * scale, x)

    call = jax_utils.pad_shard_unpad(double, static_argnames=("scale",))
    x = {"a": np.arange(2.0 * DEVICES + 1), "b": np.ones((2 * DEVICES + 1, 3), np.float32)}
    out = call(2.0, x, scale=10, min_device_batch=4)
    np.testing.assert_array_equal(out["a"], 20 * x["a"])
    np.testing.assert_array_equal(out["b"], 20 * x["b"])
    assert seen == [({"a": (DEVICES, 4), "b": (DEVICES, 4, 3)}, 10)]
    times = jax_utils.pad_shard_unpad(lambda p, x, *, scale: p * x * scale, 0, "scale")
    np.testing.assert_array_equal(times(2.0, x["a"], scale=3), 6 * x["a"])
    shape = jax_utils.pad_shard_unpad(lambda x: np.shape(x), static_argnums=(), static_return=True)
    assert shape(np.zeros(DEVICES)) == (DEVICES, 1)


@pytest.mark.parametrize("args", [(), (np.zeros(3), np.zeros(4)), (np.zeros(3), 2.0)])
def test_padding_needs_one_batch_size(args):
    with pytest.raises(BatchError, match="no common batch size"):
        jax_utils.pad_shard_unpad(lambda p, *xs: xs)(0, *args)


def test_padding_does_not_come_off_a_number():
    with pytest.raises(BatchError, match=r"expected: arrays \(\d+ devices, 1 examples, ...\)"):
        jax_utils.pad_shard_unpad(lambda p, x: x.mean())(0, np.ones(1))


def test_partial_evaluation_by_shape():
    computed = []

    def fn(x, scale, *, shift):
        jax.debug.callback(lambda: computed.append(None))
        return {"known": jnp.ones(x.shape[-1]) * scale + shift, "unknown": (x @ x.T).astype(jnp.bfloat16)}

    out = jax_utils.partial_eval_by_shape(fn, [(2, 3)], 2.0, shift=1.0)
    assert out["known"].tolist() == [3, 3, 3]
    assert (out["unknown"].shape, out["unknown"].dtype) == ((2, 2), jnp.bfloat16)
    width, table, _ = jax_utils.partial_eval_by_shape(lambda x: (x.shape[1], np.ones(2), x), [(2, 3)])
    assert (type(width), width, type(table)) == (int, 3, np.ndarray)
    struct = jax.ShapeDtypeStruct((4,), jnp.int32)
    assert jax_utils.partial_eval_by_shape(lambda x, y: (x, y), [struct, ((2,), jnp.bool)])[1].dtype == jnp.bool


@pytest.mark.parametrize("keepdims", [False, True])
@pytest.mark.parametrize("axis", [0, (1,), (2, 0), (-1, 1)])
def test_scan_over_axes_equals_loops(axis, keepdims):
    x = np.arange(24.0).reshape(2, 3, 4)
    axes = [a % 3 for a in ((axis,) if isinstance(axis, int) else axis)]
    carry, expected = 0.0, np.zeros_like(x)
    for index in np.ndindex(*(x.shape[a] for a in axes)):
        where = tuple(index[axes.index(a)] if a in axes else slice(None) for a in range(3))
        expected[where] = x[where] + carry
        carry = carry * 0.5 + x[where].sum()

    def body(c, piece):
        assert piece.ndim == (3 if keepdims else 3 - len(axes))
        return c * 0.5 + piece.sum(), piece + c

    last, ys = jax_utils.scan_in_dim(body, 0.0, jnp.asarray(x), axis=axis, keepdims=keepdims)
    np.testing.assert_allclose(ys, expected, rtol=1e-6)
    np.testing.assert_allclose(last, carry, rtol=1e-6)


@pytest.mark.parametrize("axis", [(1, 1), (3,), (0, -3)])
def test_scan_over_impossible_axes(axis):
    with pytest.raises(ShapeMismatchError, match="of an array with 3 axes"):
        jax_utils.scan_in_dim(lambda c, x: (c, x), 0.0, jnp.zeros((1, 1, 1)), axis=axis)
