import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from fx_train import Accuracy, Confusion, EarlyStopping, Mean, Perplexity, PrecisionRecall, TopK, Welford
from fx_train.errors import ArgumentError, MetricError
from fx_train.metrics import Count, Metric
from hypothesis import given, settings
from hypothesis import strategies as st

LABELS = st.lists(st.tuples(st.integers(0, 2), st.integers(0, 2)), min_size=1, max_size=8)


def seen_by(metric, pairs):
    labels, predictions = jnp.array(pairs).T
    return metric.update(labels=labels, predictions=predictions)


@settings(deadline=None, max_examples=20)
@given(LABELS, LABELS)
def test_counts_merge_like_plain_python(one, other):
    table = np.zeros((3, 3), int)
    for label, prediction in one + other:
        table[label, prediction] += 1
    merged = seen_by(Confusion.empty(3), one).merge(seen_by(Confusion.empty(3), other))
    np.testing.assert_array_equal(merged.counts, table)
    accuracy = seen_by(Accuracy.empty(), one).merge(seen_by(Accuracy.empty(), other))
    np.testing.assert_allclose([merged.compute(), accuracy.compute()], np.trace(table) / table.sum(), rtol=1e-6)
    with np.errstate(invalid="ignore"):
        precision, recall = np.diag(table) / table.sum(0), np.diag(table) / table.sum(1)
        f1 = 2 * np.diag(table) / (table.sum(0) + table.sum(1))
    each = seen_by(seen_by(PrecisionRecall.empty(3), one), other)
    for metric in (merged, each):
        np.testing.assert_allclose(metric.precision(), precision, rtol=1e-6)
        np.testing.assert_allclose(metric.recall(), recall, rtol=1e-6)
        np.testing.assert_allclose(metric.f1(), f1, rtol=1e-6)
    np.testing.assert_allclose(each.f1("macro"), np.nanmean(f1), rtol=1e-6)
    np.testing.assert_allclose(each.compute(), np.nanmean(f1), rtol=1e-6)
    np.testing.assert_allclose(each.precision("micro"), np.trace(table) / table.sum(), rtol=1e-6)
    np.testing.assert_allclose(each.recall("weighted"), np.nansum(recall * table.sum(1)) / table.sum(), rtol=1e-6)


def test_unknown_average():
    with pytest.raises(ArgumentError, match="got: 'mean'"):
        PrecisionRecall.empty(2).f1("mean")


def test_what_is_masked_or_no_class_does_not_count():
    labels, predictions = jnp.array([0, 1, -1, 5, 1]), jnp.array([0, 1, 1, 0, 7])
    mask = jnp.array([True, False, True, True, True])
    confusion = Confusion.empty(2).update(labels=labels, predictions=predictions, mask=mask)
    assert confusion.counts.tolist() == [[1, 0], [0, 0]]
    assert int(confusion.outside) == 3
    each = PrecisionRecall.empty(2).update(labels=labels, predictions=predictions, mask=mask)
    assert (each.hits.tolist(), each.predicted.tolist(), each.labeled.tolist()) == ([1, 0], [2, 1], [1, 1])
    assert float(Accuracy.empty().update(labels=labels, predictions=predictions, mask=mask).compute()) == 0.25


def test_top_k():
    logits = jax.random.normal(jax.random.key(0), (4, 5, 6))
    labels = jax.random.randint(jax.random.key(1), (4, 5), 0, 6)
    ranks = (logits > jnp.take_along_axis(logits, labels[..., None], -1)).sum(-1)
    for k in (1, 3, 6):
        seen = jax.jit(lambda m: m.update(labels=labels, logits=logits))(TopK.empty(k))
        np.testing.assert_allclose(seen.compute(), np.mean(ranks < k), rtol=1e-6)
    masked = TopK.empty(1).update(labels=labels, logits=logits, mask=ranks == 0)
    assert float(masked.compute()) == 1
    with pytest.raises(MetricError, match=r"labels \(4, 5\), logits of at least 7 classes \(4, 5, 6\)"):
        TopK.empty(7).update(labels=labels, logits=logits)


def test_arrays_that_do_not_fit():
    with pytest.raises(MetricError, match=r"labels \(2,\), predictions \(2, 3\)"):
        Accuracy.empty().update(labels=jnp.zeros(2), predictions=jnp.zeros((2, 3)))
    with pytest.raises(MetricError, match=r"values \(2,\), weights \(\)"):
        Mean.empty().update(jnp.zeros(2), 1.0)


def test_mean_streams_weights_and_jits():
    values, weights = jnp.array([1.0, 2.0, 6.0, jnp.nan]), jnp.array([1.0, 1.0, 2.0, 0.0])
    whole = Mean.empty().update(values, weights)
    parts = jax.jit(lambda mean: mean.update(values[:1], weights[:1]).update(values[1:], weights[1:]))(Mean.empty())
    np.testing.assert_allclose([whole.compute(), parts.compute()], 15 / 4)
    assert np.isnan(Mean.empty().compute())


def test_long_streams_lose_nothing():
    """In float32, 2**24 + 1 is 2**24: a plain sum would stay there."""

    @jax.jit
    def run(mean):
        return jax.lax.fori_loop(0, 1000, lambda _, m: m.update(jnp.float32(1)), mean)

    mean = Mean.empty().update(jnp.zeros(1), jnp.full(1, 2.0**24))
    mean = run(mean)
    assert float(mean.weight) + float(mean.weight_rest) == 2**24 + 1000
    assert float(mean.total) + float(mean.total_rest) == 1000


def test_perplexity_is_the_exponential_of_the_mean_over_tokens():
    losses, mask = jnp.array([[0.5, 1.5], [3.0, 9.0]]), jnp.array([[1, 1], [1, 0]])
    seen = Perplexity.empty().update(losses[:1], mask[:1]).merge(Perplexity.empty().update(losses[1:], mask[1:]))
    np.testing.assert_allclose(seen.compute(), np.exp(5 / 3), rtol=1e-6)


@settings(deadline=None, max_examples=20)
@given(st.lists(st.floats(-10, 10), min_size=1, max_size=6), st.lists(st.floats(-10, 10), min_size=1, max_size=6))
def test_moments_merge_at_any_offset(one, other):
    offset = 1000
    seen = Welford.empty()
    for values in (one, other):
        seen = seen.merge(Welford.empty().update(jnp.array(values) + offset))
    everything = np.array(one + other) + offset
    np.testing.assert_allclose(seen.compute(), everything.mean(), rtol=1e-6)
    np.testing.assert_allclose(seen.variance(), everything.var(), rtol=1e-2, atol=1e-3)
    np.testing.assert_allclose(seen.deviation(1), everything.std(ddof=1), rtol=1e-2, atol=1e-2)
    assert np.isnan(Welford.empty().compute())


def test_moments_of_no_values_change_nothing():
    seen = Welford.empty().update(jnp.array([1.0, 3.0])).update(jnp.zeros(0))
    assert (float(seen.compute()), int(seen.count)) == (2.0, 2)


def test_metrics_that_counted_other_things_are_not_merged():
    pairs = [(Confusion.empty(2), Confusion.empty(3)), (TopK.empty(2), TopK.empty(3)), (Accuracy.empty(), TopK.empty())]
    pairs += [(Mean.empty(), Accuracy.empty()), (Welford.empty(), Mean.empty()), (Perplexity.empty(), Mean.empty())]
    for one, other in pairs:
        with pytest.raises(MetricError, match=f"expected: another {type(one).__name__} of .*\n  got: "):
            one.merge(other)


def test_a_metric_says_what_its_value_is():
    class Nothing(Metric):
        pass

    with pytest.raises(NotImplementedError, match="Nothing does not say what its value is"):
        Nothing().compute()


EIGHT_DEVICES = """
import jax
jax.config.update("jax_platforms", "cpu")
jax.config.update("jax_num_cpu_devices", 8)
import jax.numpy as jnp, numpy as np
from jax.sharding import AxisType, PartitionSpec as P
from fx_train import Accuracy, Confusion, Mean, Perplexity, PrecisionRecall, TopK, Welford

rng = np.random.default_rng(0)
labels, predictions = rng.integers(0, 3, (2, 64))
logits, values = rng.normal(size=(64, 3)), rng.normal(size=64) + 5

def measure(labels, predictions, logits, values):
    both = {"labels": labels, "predictions": predictions}
    return {
        "accuracy": Accuracy.empty().update(**both), "confusion": Confusion.empty(3).update(**both),
        "each": PrecisionRecall.empty(3).update(**both), "mean": Mean.empty().update(values),
        "perplexity": Perplexity.empty().update(values), "welford": Welford.empty().update(values),
        "top": TopK.empty(2).update(labels=labels, logits=logits),
    }

def reduced(*args):
    return {name: metric.reduce("data") for name, metric in measure(*args).items()}

args = [jnp.asarray(a, jnp.float32 if a.dtype == float else jnp.int32) for a in (labels, predictions, logits, values)]
mesh = jax.make_mesh((8,), ("data",), axis_types=(AxisType.Auto,))
inside = jax.jit(jax.shard_map(reduced, mesh=mesh, in_specs=P("data"), out_specs=P()))(*args)
mapped = jax.pmap(reduced, axis_name="data")(*(a.reshape(8, 8, *a.shape[1:]) for a in args))
mapped = jax.tree.map(lambda x: x[0], mapped)
sharded = jax.jit(measure)(*(jax.device_put(a, jax.NamedSharding(mesh, P("data"))) for a in args))
whole = measure(*args)
for name, metric in whole.items():
    for other in (inside[name], mapped[name], sharded[name]):
        for one, two in zip(jax.tree.leaves(metric), jax.tree.leaves(other)):
            np.testing.assert_allclose(one, two, rtol=1e-5, atol=1e-4)
        np.testing.assert_allclose(metric.compute(), other.compute(), rtol=1e-5)
print("done")
"""


def test_metrics_are_reduced_across_eight_devices():
    done = subprocess.run([sys.executable, "-c", EIGHT_DEVICES], capture_output=True, text=True, check=False)
    assert done.stdout.strip() == "done", done.stderr


def test_early_stopping_counts_from_the_last_improvement():
    stopping = EarlyStopping(min_delta=0.1, patience=2)
    history = []
    for loss in [1.0, 0.95, 0.8, 0.75, 0.74, 0.73]:
        stopping = stopping.update(loss)
        history.append((stopping.has_improved, stopping.patience_count, stopping.should_stop))
    assert [improved for improved, _, _ in history] == [True, False, True, False, False, False]
    assert [stop for _, _, stop in history] == [False, False, False, False, False, True]
    assert stopping.reset() == EarlyStopping(min_delta=0.1, patience=2)


def doubled(metric, times):
    for _ in range(times):
        metric = jax.jit(lambda m: m.merge(m))(metric)
    return metric


def test_counts_do_not_overflow():
    labels, predictions = jnp.array([0, 0, 1, 1]), jnp.array([0, 1, 1, 1])
    both = {"labels": labels, "predictions": predictions}
    accuracy = doubled(Accuracy.empty().update(**both), 32)
    assert (int(accuracy.right), int(accuracy.count), float(accuracy.compute())) == (3 * 2**32, 4 * 2**32, 0.75)
    confusion = doubled(Confusion.empty(2).update(**both), 30)
    assert confusion.counts.tolist() == [[2**30, 2**30], [0, 2**31]]
    each = doubled(PrecisionRecall.empty(2).update(**both), 30)
    for metric in (confusion, each):
        np.testing.assert_allclose(metric.f1(), [2 / 3, 0.8], rtol=1e-6)
        np.testing.assert_allclose(metric.recall(), [0.5, 1], rtol=1e-6)
        np.testing.assert_allclose(metric.precision(), [1, 2 / 3], rtol=1e-6)
    np.testing.assert_allclose([each.f1("micro"), each.recall("weighted")], 0.75, rtol=1e-6)
    np.testing.assert_allclose(confusion.accuracy(), 0.75, rtol=1e-6)
    outside = doubled(Confusion.empty(1).update(labels=jnp.array([3]), predictions=jnp.array([0])), 31)
    assert int(outside.outside) == 2**31
    seen = doubled(Welford.empty().update(jnp.array([1.0, 3.0])), 32)
    assert (int(seen.count), float(seen.compute()), float(seen.variance())) == (2**33, 2.0, 1.0)


def test_counts_are_reduced_without_overflow():
    counts = Count.zeros((2,)).add(jnp.array([2**31 - 1, 3]))
    many = jax.tree.map(lambda x: jnp.stack([x] * 7), counts)
    total = jax.vmap(lambda c: c.reduce("devices"), axis_name="devices")(many)
    assert jax.tree.map(lambda x: x[3], total).tolist() == [7 * (2**31 - 1), 21]
    assert (np.asarray(counts).dtype, counts.shape, float(Count.zeros().add(3))) == (np.int64, (2,), 3.0)
    assert np.array(counts, np.float64).tolist() == [2.0**31 - 1, 3.0]
    with pytest.raises(ValueError, match="no array that could be shared"):
        np.asarray(counts, copy=False)


def test_long_streams_of_tenths_keep_their_mean():
    @jax.jit
    def run(mean):
        return jax.lax.fori_loop(0, 500_000, lambda _, m: m.update(jnp.float32(0.1)), mean)

    mean = run(Mean.empty().update(jnp.full(1, 0.1), jnp.full(1, 2.0**24)))
    np.testing.assert_allclose(mean.compute(), 0.1, rtol=1e-7)
    assert abs(float(mean.total_rest)) <= np.spacing(np.float32(mean.total)) / 2


def test_infinite_values_have_an_infinite_mean():
    mean = Mean.empty()
    for value in (1.0, np.inf, 2.0):
        mean = mean.update(jnp.array([value]))
    assert float(mean.compute()) == np.inf


def test_a_metric_of_ones_own_may_count():
    class Words(Metric):
        words: Count
        letters: jax.Array

        def compute(self):
            return self.letters / self.words.as_float()

    one = Words(words=Count.zeros().add(2**30), letters=jnp.float32(5))
    assert (int(one.merge(one).words), float(one.merge(one).letters)) == (2**31, 10.0)
    both = jax.vmap(lambda m: m.reduce("i"), axis_name="i")(jax.tree.map(lambda x: jnp.stack([x] * 4), one))
    assert jax.tree.map(lambda x: x[0], both.words).tolist() == 2**32


@pytest.mark.parametrize("first", [np.nan, np.inf, -np.inf])
def test_early_stopping_does_not_stay_with_a_first_value_that_is_no_number(first):
    stopping = EarlyStopping(patience=2).update(first)
    for loss in (1.0, 0.5, np.nan, 0.4, 0.3):
        stopping = stopping.update(loss)
    assert (stopping.best_metric, stopping.should_stop, stopping.has_improved) == (0.3, False, True)


def test_early_stopping_counts_nan_as_no_improvement():
    stopping = EarlyStopping(patience=1)
    stops = []
    for _ in range(3):
        stopping = stopping.update(np.nan)
        stops.append(stopping.should_stop)
    assert (stops, stopping.best_metric) == ([False, True, True], np.inf)


def test_classes_may_be_more_than_the_dtype_of_labels_counts():
    labels = jnp.array([0, 5, -1, 127], jnp.int8)
    confusion = Confusion.empty(200).update(labels=labels, predictions=labels)
    assert (np.asarray(confusion.counts).sum(), int(confusion.outside)) == (3, 1)
    seen = PrecisionRecall.empty(200).update(labels=labels, predictions=labels)
    assert np.asarray(seen.labeled).nonzero()[0].tolist() == [0, 5, 127]
