"""Masks by magnitude and by neighbors, pruning during training, and reports."""

import fx_compress
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from fx_compress import Magnitude, NofM
from fx_core.ops.linear import dense


def random(*shape, seed=0):
    return jnp.asarray(np.random.default_rng(seed).normal(size=shape), jnp.float32)


def model():
    return {"a": {"kernel": random(8, 16), "bias": jnp.ones(16)}, "b": {"kernel": 10 * random(16, 4, seed=1)}}


@pytest.mark.parametrize("sparsity", [0.0, 0.5, 0.9])
def test_each_weight_loses_its_smallest_elements(sparsity):
    masks = fx_compress.make_masks(model(), Magnitude(sparsity))
    assert sorted(masks) == ["a/kernel", "b/kernel"]
    for path, mask in masks.items():
        value = jnp.abs(model()[path[0]]["kernel"])
        assert int(mask.sum()) == value.size - round(sparsity * value.size)
        assert float(value[~mask].max(initial=0)) <= float(value[mask].min())


def test_weights_that_are_ranked_together_lose_what_is_smallest_of_all():
    masks = fx_compress.make_masks(model(), Magnitude(0.5, together=True))
    assert sum(int(mask.sum()) for mask in masks.values()) == (8 * 16 + 16 * 4) // 2
    assert float(masks["b/kernel"].mean()) > 0.8 > 0.5 > float(masks["a/kernel"].mean())


def test_equal_elements_do_not_all_go():
    assert int(fx_compress.make_masks({"kernel": jnp.ones((4, 4))}, Magnitude(0.5))["kernel"].sum()) == 8


@pytest.mark.parametrize(("n", "m"), [(2, 4), (1, 4), (3, 8)])
def test_n_of_m_neighbors_of_an_output_stay(n, m):
    mask = fx_compress.make_masks(model(), {"a/*": NofM(n, m)})["a/kernel"]
    groups = mask.reshape(-1, m, 16)
    np.testing.assert_array_equal(groups.sum(1), n)
    value = jnp.abs(model()["a"]["kernel"]).reshape(-1, m, 16)
    assert bool((jnp.where(groups, value, jnp.inf).min(1) >= jnp.where(groups, 0.0, value).max(1)).all())


def test_masks_make_zeros_and_leave_the_rest():
    before = model()
    after = fx_compress.apply_masks(before, fx_compress.make_masks(before, {"a/*": Magnitude(0.5), "b/*": None}))
    assert float((after["a"]["kernel"] == 0).mean()) == 0.5
    assert after["b"]["kernel"] is before["b"]["kernel"]
    assert after["a"]["bias"] is before["a"]["bias"]


def test_training_with_pruning_ends_with_exact_zeros_and_fits():
    x = random(64, 8)
    target = x @ (random(8, 4, seed=3) * (random(8, 4, seed=4) > 0))
    tx = optax.chain(
        optax.adam(0.05), fx_compress.prune_during_training(Magnitude(0.5), fx_compress.sparsity_schedule(10, 60), 5)
    )
    params = {"kernel": random(8, 4, seed=5)}
    state, zeros = tx.init(params), []

    @jax.jit
    def step(params, state):
        loss, grads = jax.value_and_grad(lambda p: ((dense(x, p["kernel"]) - target) ** 2).mean())(params)
        updates, state = tx.update(grads, state, params)
        return optax.apply_updates(params, updates), state, loss

    for _ in range(200):
        params, state, loss = step(params, state)
        zeros.append(int((params["kernel"] == 0).sum()))
    assert zeros[0] == 0
    assert zeros[30] in range(1, 16)
    assert set(zeros[70:]) == {16}
    np.testing.assert_array_equal(params["kernel"] == 0, ~state[1].masks["kernel"])
    assert float(loss) < 0.02
    assert all(leaf.dtype == bool for leaf in jax.tree.leaves(state[1].masks))


def test_neighbors_come_in_force_when_the_schedule_is_done():
    tx = fx_compress.prune_during_training(NofM(2, 4), fx_compress.sparsity_schedule(0, 4), every=1)
    params = {"kernel": random(8, 4)}
    state, zeros = tx.init(params), []
    for _ in range(8):
        updates, state = tx.update(jax.tree.map(jnp.zeros_like, params), state, params)
        params = optax.apply_updates(params, updates)
        zeros.append(float((params["kernel"] == 0).mean()))
    assert zeros == [0.0] * 4 + [0.5] * 4


def test_the_whole_sparsity_is_reached_where_the_schedule_ends():
    tx = fx_compress.prune_during_training(Magnitude(0.5), fx_compress.sparsity_schedule(0, 5), every=3)
    params = {"kernel": random(8, 4)}
    state, zeros = tx.init(params), []
    for _ in range(8):
        updates, state = tx.update(jax.tree.map(jnp.zeros_like, params), state, params)
        params = optax.apply_updates(params, updates)
        zeros.append(float((params["kernel"] == 0).mean()))
    assert zeros[4] < zeros[5] == zeros[7] == 0.5


def test_reports_say_bytes_and_errors():
    before = model()
    after = fx_compress.quantize(before, {"a/*": fx_compress.int8(), "b/*": fx_compress.int4(group=8)})
    report = fx_compress.compare(before, after)
    rows = {row.path: row for row in report.rows}
    assert (rows["a/kernel"].stored, rows["a/kernel"].bytes_after) == ("int8", 8 * 16 + 16 * 4)
    assert 40 < rows["a/kernel"].sqnr < 55
    assert 15 < rows["b/kernel"].sqnr < 30
    assert rows["a/bias"].sqnr == float("inf")
    assert report.bytes_before == 4 * (8 * 16 + 16 + 16 * 4)
    assert "int4" in str(report)
    assert report.as_dicts()[0]["path"] == "a/bias"


@pytest.mark.parametrize(
    ("call", "text"),
    [
        (lambda m: Magnitude(1.0), r"(?s)no sparsity.*0 <= sparsity < 1.*got: 1.0"),
        (lambda m: NofM(4, 4), r"(?s)no pattern.*got: 4:4"),
        (lambda m: fx_compress.make_masks(m, NofM(3, 5)), r"(?s)groups of 5 neighbors.*where: a/kernel.*got: 8"),
        (lambda m: fx_compress.apply_masks(m, {"c": jnp.ones(2)}), r"(?s)does not have.*got: c"),
        (lambda m: fx_compress.apply_masks(m, {"a/kernel": jnp.ones(2)}), r"(?s)not the shape.*where: a/kernel"),
        (lambda m: fx_compress.sparsity_schedule(5, 5), r"(?s)no span of steps.*got: 5 to 5"),
        (lambda m: fx_compress.prune_during_training(Magnitude(0.5)).update(m, None), "needs the parameters"),
    ],
)
def test_wrong_masks_say_what_is_wrong(call, text):
    with pytest.raises(fx_compress.MaskError, match=text):
        call(model())


def test_reports_of_two_models_are_refused():
    with pytest.raises(fx_compress.CompressError, match=r"(?s)not one model.*where: b.*shape None"):
        fx_compress.compare({"a": jnp.ones(2)}, {"a": jnp.ones(2), "b": jnp.ones(2)})


def test_masks_for_quantized_weights_are_refused():
    weights = model()
    masks = fx_compress.make_masks(weights, Magnitude(0.5))
    with pytest.raises(fx_compress.MaskError, match=r"(?s)prune first and quantize then"):
        fx_compress.apply_masks(fx_compress.quantize(weights, fx_compress.int8()), masks)
