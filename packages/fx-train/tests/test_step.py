"""make_train_step against updates written by hand."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from fx_train import Mean
from fx_train.dynamic_scale import DynamicScale
from fx_train.errors import (
    ArgumentError,
    DonatedStateError,
    StateMismatchError,
)
from fx_train.step import Policy, StepState, make_train_step, trainable_mask, trainable_only


def loss_fn(params, batch):
    x, y = batch
    hidden = jnp.tanh(x @ params["body"]["w"])
    return jnp.mean((hidden @ params["head"]["w"] - y) ** 2)


def make_params(dtype=jnp.float32):
    one, two = jax.random.split(jax.random.key(0))
    return {"body": {"w": jax.random.normal(one, (3, 4), dtype)}, "head": {"w": jax.random.normal(two, (4,), dtype)}}


def make_state(tx=None, dtype=jnp.float32, **kwargs):
    return StepState.create(params=make_params(dtype), tx=tx or optax.adamw(0.1), **kwargs)


def make_batch(size=8, dtype=jnp.float32):
    return jax.random.normal(jax.random.key(1), (size, 3), dtype), jnp.linspace(-1, 1, size, dtype=dtype)


def by_hand(state, batch, loss=loss_fn):
    grads = jax.grad(loss)(state.params, batch)
    return state.apply_gradients(grads=grads)


def assert_close(one, other, rtol=1e-5):
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=rtol, atol=rtol / 10), one, other)


def assert_equal(one, other):
    jax.tree.map(np.testing.assert_array_equal, one, other)


def test_a_plain_step_is_the_update_by_hand_and_compiles_once():
    traced = []

    def counted(params, batch):
        traced.append(None)
        return loss_fn(params, batch)

    train_step, state, expected = make_train_step(counted), make_state(), make_state()
    for _ in range(3):
        state, metrics = train_step(state, make_batch())
        expected = jax.jit(by_hand)(expected, make_batch())
    assert len(traced) == 1
    assert int(state.step) == 3
    assert_equal(state.params, expected.params)
    assert list(metrics) == ["loss"]


@pytest.mark.parametrize("options", [{}, {"accumulate": 2, "weight": "examples", "clip": 9.0}], ids=["plain", "parts"])
def test_complex_parameters_descend(options):
    goal = jnp.array([1 + 2j, -3j])
    step = make_train_step(lambda p, batch: jnp.mean(jnp.sum(jnp.abs(p["w"][None] - batch) ** 2, axis=-1)), **options)
    state = StepState.create(params={"w": jnp.zeros(2, jnp.complex64)}, tx=optax.sgd(0.5))
    state, metrics = step(state, jnp.stack([goal, goal]))
    np.testing.assert_allclose(state.params["w"], goal, rtol=1e-6)
    assert float(metrics["loss"]) == 14


def test_small_parameters_are_summed_in_float32():
    def loss(params, batch):
        return jnp.mean(params["w"] * batch)

    batch = jnp.array([1.0] + [2.0**-9] * 255, jnp.bfloat16)
    state = StepState.create(params={"w": jnp.bfloat16(0)}, tx=optax.sgd(1.0))
    new, _ = make_train_step(loss, accumulate=256, weight="examples")(state, batch)
    assert float(new.params["w"]) == -float(jnp.bfloat16((1 + 255 * 2**-9) / 256))


def test_random_keys_variables_and_mergeable_metrics():
    def loss(params, batch, key, variables):
        x, _ = batch
        noisy = x * jax.random.bernoulli(key, 0.5, x.shape)
        value = loss_fn(params, (noisy, batch[1]))
        new = {"batch_stats": {"count": variables["batch_stats"]["count"] + 1}}
        return value, {"mean": Mean.empty().update(x), "share": jnp.mean(noisy != 0)}, new

    def run(accumulate, key=7):
        variables = {"batch_stats": {"count": jnp.int32(0)}}
        state = make_state(key=jax.random.key(key), variables=variables)
        train_step = make_train_step(loss, accumulate=accumulate, weight="examples")
        state, first = train_step(state, make_batch())
        state, second = train_step(state, make_batch())
        return state, first, second

    state, first, second = run(4)
    assert int(state.variables["batch_stats"]["count"]) == 8
    np.testing.assert_allclose(first["mean"].compute(), make_batch()[0].mean(), rtol=1e-5)
    assert float(first["loss"]) != float(second["loss"])
    assert_equal(run(4)[0].params, state.params)
    assert int(run(1)[0].variables["batch_stats"]["count"]) == 2
    assert float(run(1, key=8)[1]["loss"]) != float(run(1)[1]["loss"])


def test_policy_computes_in_one_dtype_and_stores_in_another():
    seen = {}

    def loss(params, batch):
        seen["dtypes"] = params["body"]["w"].dtype, batch[0].dtype, batch[1].dtype
        return loss_fn(params, (batch[0], batch[1].astype(params["head"]["w"].dtype)))

    policy = Policy(compute="bfloat16")
    batch = (make_batch()[0], jnp.arange(8))
    state, metrics = make_train_step(loss, policy=policy)(make_state(), batch)
    assert seen["dtypes"] == (jnp.bfloat16, jnp.bfloat16, jnp.int32)
    assert state.params["body"]["w"].dtype == jnp.float32
    assert metrics["loss"].dtype == jnp.float32
    with pytest.raises(StateMismatchError, match=r"where: \['body'\]\['w'\]\n  expected: float32\n  got: bfloat16"):
        make_train_step(loss, policy=policy)(make_state(dtype=jnp.bfloat16), batch)
    assert policy.to_params({"w": jnp.ones(1, jnp.bfloat16)})["w"].dtype == jnp.float32


def test_variables_are_not_cast_to_the_policy():
    """In bfloat16 a running average would stand still: 1 + 2**-9 is 1."""

    def loss(params, batch, variables):
        return loss_fn(params, batch), {}, {"stats": variables["stats"] + 2.0**-9}

    state = make_state(variables={"stats": jnp.float32(1)})
    state, _ = make_train_step(loss, policy=Policy(compute="bfloat16"))(state, make_batch())
    assert float(state.variables["stats"]) == 1 + 2**-9


def test_loss_scaling_gives_the_same_update_and_skips_bad_steps():
    scale = DynamicScale(scale=2.0**10, growth_interval=1)
    train_step = make_train_step(loss_fn, accumulate=2, weight="examples", clip=100.0)
    state = make_state(dynamic_scale=scale)
    plain, _ = train_step(make_state(), make_batch())
    state, metrics = train_step(state, make_batch())
    assert_equal(state.params, plain.params)
    assert (float(metrics["finite"]), float(metrics["loss_scale"])) == (1, 1024)
    assert int(state.dynamic_scale.fin_steps) == 1
    before = jax.tree.map(np.array, (state.params, state.opt_state, state.step))
    x, y = make_batch()
    state, metrics = train_step(state, (x.at[0, 0].set(jnp.nan), y))
    assert_equal((state.params, state.opt_state, state.step), before)
    assert (float(metrics["finite"]), float(state.dynamic_scale.scale)) == (0, 512)


def test_clipping_bounds_the_norm_and_reports_it():
    grads = jax.grad(loss_fn)(make_params(), make_batch())
    norm = float(jnp.sqrt(sum(jnp.sum(g**2) for g in jax.tree.leaves(grads))))
    state, metrics = make_train_step(loss_fn, clip=norm / 4)(make_state(optax.sgd(1.0)), make_batch())
    np.testing.assert_allclose(metrics["grad_norm"], norm, rtol=1e-5)
    assert_close(state.params, jax.tree.map(lambda p, g: p - g / 4, make_params(), grads))
    loose, _ = make_train_step(loss_fn, clip=norm * 2)(make_state(optax.sgd(1.0)), make_batch())
    assert_close(loose.params, jax.tree.map(lambda p, g: p - g, make_params(), grads))


@pytest.mark.parametrize("trainable", [{"body": False, "head": True}, lambda path, _: path == ("head", "w")])
def test_frozen_parameters_stay_to_the_bit_under_weight_decay(trainable):
    tx = optax.adamw(0.1, weight_decay=0.5)
    state, _ = make_train_step(loss_fn, trainable=trainable)(make_state(tx), make_batch())
    expected = by_hand(make_state(tx), make_batch())
    assert_equal(state.params["body"], make_params()["body"])
    assert_close(state.params["head"], expected.params["head"])
    small = make_state(trainable_only(tx, trainable))
    assert sum(leaf.size for leaf in jax.tree.leaves(small.opt_state)) < 10
    again, _ = make_train_step(loss_fn, trainable=trainable)(small, make_batch())
    assert_equal(again.params, state.params)


def test_masks_that_do_not_fit():
    params = make_params()
    assert trainable_mask(params, True) == {"body": {"w": True}, "head": {"w": True}}
    with pytest.raises(StateMismatchError, match="does not fit the parameters"):
        trainable_mask(params, {"body": True})
    with pytest.raises(StateMismatchError, match="something else than booleans"):
        trainable_mask(params, {"body": 1, "head": True})
    with pytest.raises(StateMismatchError, match="No parameter would be trained"):
        trainable_mask(params, lambda path, _: False)


def test_average_of_the_parameters():
    state = make_state(ema=True)
    start = jax.tree.map(np.array, state.params)
    state, _ = make_train_step(loss_fn, ema=0.75)(state, make_batch())
    assert_close(state.ema, jax.tree.map(lambda old, new: 0.75 * old + 0.25 * new, start, state.params))


def test_donation_takes_the_old_state_and_can_be_refused():
    state = make_state()
    make_train_step(loss_fn)(state, make_batch())
    assert state.params["head"]["w"].is_deleted()
    state = make_state()
    make_train_step(loss_fn, donate=False)(state, make_batch())
    assert not state.params["head"]["w"].is_deleted()


def test_arrays_that_are_in_a_state_twice_are_copied_before_they_are_given_up():
    def aliased(state):
        return state.replace(ema=state.params, variables={"body": state.params["body"], "x": batch[0]})

    batch, train_step = make_batch(), make_train_step(loss_fn, ema=0.5)
    expected, _ = make_train_step(loss_fn, ema=0.5)(make_state(ema=True), batch)
    state, _ = train_step(aliased(make_state()), batch)
    assert_equal((state.params, state.ema), (expected.params, expected.ema))
    again, _ = train_step(aliased(make_state()), batch)
    assert_equal((again.params, again.ema), (expected.params, expected.ema))
    assert not batch[0].is_deleted()


def test_other_errors_of_the_device_are_not_taken_for_arrays_that_are_there_twice():
    train_step = make_train_step(loss_fn)
    old = make_state()
    train_step(old, make_batch())
    with pytest.raises(DonatedStateError, match="used up by an earlier step"):
        train_step(old, make_batch())


def test_a_compiled_step_can_be_looked_at():
    train_step = make_train_step(loss_fn)
    assert "train_step" in train_step.lower(make_state(), make_batch()).as_text()[:200]


def test_uncompiled_steps_go_into_transforms():
    train_step = make_train_step(loss_fn, compile=False)
    x, y = make_batch()
    batches = (x.reshape(2, 4, 3), y.reshape(2, 4))
    scanned, metrics = jax.lax.scan(train_step, make_state(), batches)
    state = make_state()
    for i in range(2):
        state, _ = train_step(state, (batches[0][i], batches[1][i]))
    assert_close(scanned.params, state.params)
    assert metrics["loss"].shape == (2,)


def test_whole_numbers_are_not_trained():
    params = {**make_params(), "count": jnp.int32(1)}
    state = StepState.create(params=params, tx=trainable_only(optax.sgd(0.1), lambda path, _: path[0] != "count"))
    with pytest.raises(StateMismatchError, match=r"where: \['count'\]\n  expected: numbers of floating"):
        make_train_step(loss_fn)(state, make_batch())
    state, _ = make_train_step(loss_fn, trainable=lambda path, _: path[0] != "count")(state, make_batch())
    assert int(state.params["count"]) == 1


def test_the_rate_of_an_injected_schedule_is_a_metric():
    tx = optax.inject_hyperparams(optax.sgd)(learning_rate=optax.linear_schedule(1.0, 0.0, 10))
    train_step, state = make_train_step(loss_fn), make_state(tx)
    rates = []
    for _ in range(3):
        state, metrics = train_step(state, make_batch())
        rates.append(float(metrics["learning_rate"]))
    np.testing.assert_allclose(rates, [1.0, 0.9, 0.8])


@pytest.mark.parametrize("make", [lambda tx: optax.MultiSteps(tx, 2), lambda tx: optax.chain(tx, optax.identity())])
def test_keys_and_optimizers_of_other_kinds_go_through_loss_scaling(make):
    state = make_state(make(optax.adam(0.1)), key=jax.random.key(0), dynamic_scale=DynamicScale(scale=8.0))
    train_step = make_train_step(loss_fn)
    for _ in range(2):
        state, metrics = train_step(state, make_batch())
    assert float(metrics["finite"]) == 1
    assert not np.array_equal(state.params["head"]["w"], make_params()["head"]["w"])


@pytest.mark.parametrize("accumulate", [1, 2])
def test_optimizers_that_want_to_know_the_loss_are_told(accumulate):
    plateau = optax.contrib.reduce_on_plateau(factor=0.5, patience=1, rtol=0.99)
    tx = optax.chain(optax.sgd(0.1), plateau)
    state, batch = make_state(tx), make_batch()
    step = make_train_step(loss_fn, accumulate=accumulate, weight="examples", donate=False)
    expected = state
    for _ in range(4):
        value, grads = jax.value_and_grad(loss_fn)(expected.params, batch)
        updates, opt_state = tx.update(grads, expected.opt_state, expected.params, value=value)
        params = optax.apply_updates(expected.params, updates)
        expected = expected.replace(step=expected.step + 1, params=params, opt_state=opt_state)
        state, _ = step(state, batch)
    assert_close(state.params, expected.params)
    assert float(state.opt_state[1].scale) == float(expected.opt_state[1].scale) < 1
    assert state.tx is tx


def test_the_average_of_narrow_parameters_is_kept_in_float32():
    def loss(params, batch):
        return jnp.mean(batch @ params["w"])

    start = {"w": jnp.full(3, 0.5, jnp.bfloat16), "wide": jnp.zeros(2)}
    state = StepState.create(params=start, tx=optax.sgd(0.0), ema=True)
    assert (state.ema["w"].dtype, state.ema["wide"].dtype) == (jnp.float32, jnp.float32)
    state = state.replace(params={**start, "w": jnp.full(3, 2.0, jnp.bfloat16)})
    step = make_train_step(loss, ema=0.999, donate=False)
    for _ in range(300):
        state, _ = step(state, jnp.ones((4, 3), jnp.bfloat16))
    assert state.ema["w"].dtype == jnp.float32
    np.testing.assert_allclose(state.ema["w"], 0.5 * 0.999**300 + 2 * (1 - 0.999**300), rtol=1e-5)
    narrow = state.replace(ema=jax.tree.map(lambda x: x.astype(jnp.bfloat16), state.ema))
    assert step(narrow, jnp.ones((4, 3), jnp.bfloat16))[0].ema["w"].dtype == jnp.bfloat16


def test_the_loss_sees_parameters_through_a_function_of_them():
    batch, double = make_batch(), lambda params: jax.tree.map(lambda x: 2 * x, params)
    state = make_state(optax.sgd(0.1))
    got, _ = make_train_step(loss_fn, parameters=double, donate=False)(state, batch)
    assert_close(got.params, by_hand(state, batch, lambda params, batch: loss_fn(double(params), batch)).params)
    parts = make_train_step(loss_fn, parameters=double, donate=False, accumulate=4, weight="examples")
    assert_close(parts(state, batch)[0].params, got.params)
    with pytest.raises(ArgumentError, match=r"(?s)parameters.*a function of the parameters"):
        make_train_step(loss_fn, parameters="int8")


def test_new_values_that_come_as_gradients_are_neither_clipped_nor_unscaled():
    @jax.custom_vjp
    def seen(x, largest):
        return x

    seen.defvjp(lambda x, largest: (x, jnp.abs(x).max()), lambda largest, g: (g, largest))

    def loss(params, batch):
        return jnp.mean(seen(batch * params["params"]["w"], params["_overwrite_with_gradient"]["largest"]))

    params = {"params": {"w": jnp.ones((1, 3))}, "_overwrite_with_gradient": {"largest": jnp.zeros(())}}
    scale = DynamicScale(scale=4.0)
    for options in ({"clip": 0.001}, {"clip": 0.001, "accumulate": 2, "weight": "examples"}):
        state = StepState.create(params=params, tx=optax.sgd(0.1), dynamic_scale=scale)
        new, metrics = make_train_step(loss, donate=False, **options)(state, jnp.full((2, 3), -7.0))
        assert float(new.params["_overwrite_with_gradient"]["largest"]) == 7.0
        assert float(metrics["grad_norm"]) == pytest.approx(7 / 3 * 3**0.5, rel=1e-5)
