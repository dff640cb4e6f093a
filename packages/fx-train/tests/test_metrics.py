import jax
import jax.numpy as jnp
import numpy as np
from fx_train import Confusion, EarlyStopping, Mean
from hypothesis import given, settings
from hypothesis import strategies as st

LABELS = st.lists(st.tuples(st.integers(0, 2), st.integers(0, 2)), min_size=1, max_size=8)


def confusion_of(pairs):
    labels, predictions = jnp.array(pairs).T
    return Confusion.empty(3).update(labels=labels, predictions=predictions)


@settings(deadline=None, max_examples=20)
@given(LABELS, LABELS)
def test_confusion_counts_and_merges_like_plain_python(one, other):
    expected = np.zeros((3, 3), int)
    for label, prediction in one + other:
        expected[label, prediction] += 1
    merged = confusion_of(one).merge(confusion_of(other))
    np.testing.assert_array_equal(merged.counts, expected)
    np.testing.assert_allclose(merged.accuracy(), np.trace(expected) / expected.sum(), rtol=1e-6)


def test_precision_and_recall_by_class():
    confusion = confusion_of([(0, 0), (0, 1), (1, 1), (2, 1), (2, 2), (2, 2)])
    np.testing.assert_allclose(confusion.recall(), [1 / 2, 1, 2 / 3], rtol=1e-6)
    np.testing.assert_allclose(confusion.precision(), [1, 1 / 3, 1], rtol=1e-6)


def test_mean_streams_weights_and_jits():
    values, weights = jnp.array([1.0, 2.0, 6.0]), jnp.array([1.0, 1.0, 2.0])
    whole = Mean.empty().update(values, weights)
    parts = jax.jit(lambda mean: mean.update(values[:1], weights[:1]).update(values[1:], weights[1:]))(Mean.empty())
    np.testing.assert_allclose([whole.compute(), parts.compute()], 15 / 4)
    assert np.isnan(Mean.empty().compute())


def test_early_stopping_counts_from_the_last_improvement():
    stopping = EarlyStopping(min_delta=0.1, patience=2)
    history = []
    for loss in [1.0, 0.95, 0.8, 0.75, 0.74, 0.73]:
        stopping = stopping.update(loss)
        history.append((stopping.has_improved, stopping.patience_count, stopping.should_stop))
    assert [improved for improved, _, _ in history] == [True, False, True, False, False, False]
    assert [stop for _, _, stop in history] == [False, False, False, False, False, True]
    assert stopping.reset() == EarlyStopping(min_delta=0.1, patience=2)
