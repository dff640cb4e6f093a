import fx_nnx as nnx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from fx_nnx.errors import ArgumentTypeError, NnxError, UnsupportedOperationError
from fx_nnx.metrics import Accuracy, Average, Metric, MetricState, MultiMetric, Statistics, Welford


def test_average():
    metric = Average("loss")
    assert jnp.isnan(metric.compute())
    metric.update(loss=jnp.array([1.0, 2.0]))
    metric.update(loss=6)
    assert metric.compute() == 3
    metric.update(loss=jnp.array([[1.0, 100.0], [5.0, 100.0]]), mask=jnp.array([True, False]))
    assert metric.compute() == 3
    assert metric.count[...] == 5
    metric.reset()
    assert metric.total[...] == metric.count[...] == 0
    with pytest.raises(ArgumentTypeError, match=r"Expected keyword argument 'loss' for Average[\s\S]*\['other'\]"):
        metric.update(other=1)
    with pytest.raises(NnxError, match=r"mask does not fit[\s\S]*broadcasts to \(2,\)[\s\S]*\(3,\)"):
        metric.update(loss=jnp.ones(2), mask=jnp.ones(3))


def test_halves_are_summed_as_floats():
    metric = Average()
    metric.update(values=jnp.full(4096, 1.0, jnp.bfloat16))
    metric.update(values=jnp.ones(1, jnp.bfloat16))
    assert metric.total[...] == 4097


def test_accuracy_of_classes_and_of_two():
    metric = Accuracy()
    logits, labels = jnp.array([[1.0, 2.0], [3.0, 1.0], [0.0, 1.0]]), jnp.array([1, 1, 1])
    metric.update(logits=logits, labels=labels, loss=jnp.ones(3))
    np.testing.assert_allclose(metric.compute(), 2 / 3)
    metric.reset()
    metric.update(logits=logits, labels=labels, mask=jnp.array([True, False, True]))
    assert metric.compute() == 1
    binary = Accuracy(threshold=0.5)
    binary.update(logits=jnp.array([0.2, 0.7]), labels=jnp.array([1, 1]))
    assert binary.compute() == 0.5
    for bad in (labels[:2], labels.astype(jnp.float32), jax.nn.one_hot(labels, 2)):
        with pytest.raises(NnxError, match=r"integer labels of shape \(3,\), for logits of shape \(3, 2\)"):
            metric.update(logits=logits, labels=bad)
    with pytest.raises(TypeError, match="Expected threshold to be a float"):
        Accuracy(threshold=1)


def test_welford_equals_numpy_at_large_offsets():
    values = np.random.default_rng(0).normal(size=1000).astype(np.float32) + 1000
    metric = Welford("x")
    for part in np.split(values, [1, 10, 500]):
        metric.update(x=part)
    metric.update(x=jnp.ones(0))
    stats = metric.compute()
    assert isinstance(stats, Statistics)
    np.testing.assert_allclose(stats.mean, values.mean(dtype=np.float64), rtol=1e-6)
    np.testing.assert_allclose(stats.standard_deviation, values.std(dtype=np.float64), rtol=1e-4)
    np.testing.assert_allclose(stats.standard_error_of_mean, stats.standard_deviation / np.sqrt(1000), rtol=1e-6)
    metric.reset()
    assert jnp.isnan(metric.compute().standard_deviation)
    with pytest.raises(ArgumentTypeError, match="'x' for Welford"):
        metric.update(y=1)


def test_several_at_once_inside_jit():
    metrics = MultiMetric(accuracy=Accuracy(), loss=Average("loss"), spread=Welford("loss"))

    @nnx.jit
    def step(metrics, loss, logits, labels):
        metrics.update(loss=loss, logits=logits, labels=labels)

    for seed in range(3):
        step(metrics, jnp.arange(2.0) + seed, jnp.eye(2), jnp.array([0, seed % 2]))
    found = metrics.compute()
    assert found["loss"] == found["spread"].mean == 1.5
    np.testing.assert_allclose(found["accuracy"], 4 / 6)
    assert len(jax.tree.leaves(nnx.state(metrics, MetricState))) == 14
    graphdef, state = metrics.split(MetricState)
    assert nnx.merge(graphdef, state).compute()["loss"] == 1.5
    metrics.reset()
    assert metrics.loss.count[...] == 0
    with pytest.raises(TypeError, match="a Metric under a name of its own\n  got: reset=Average"):
        MultiMetric(reset=Average())
    with pytest.raises(TypeError, match="got: a=int"):
        MultiMetric(a=3)


@pytest.mark.parametrize("method", ["update", "compute", "reset"])
def test_a_metric_defines_three_methods(method):
    class Empty(Metric):
        pass

    with pytest.raises(UnsupportedOperationError, match=f"Empty cannot be used as a metric[\\s\\S]*no {method}"):
        getattr(Empty(), method)()


def test_counts_and_sums_of_long_streams():
    """A count of int32 would be negative behind 2**31, a sum of float32 stand still behind 2**24 times its terms."""
    for metric in (Average(), Welford()):
        metric.count[...] = jnp.int32(2**31 - 3)
        metric.update(values=jnp.zeros(8))
        assert int(metric.count[...]) + 2**30 * int(metric.count_units[...]) == 2**31 + 5
    metric = Average()
    metric.total[...], metric.count[...] = jnp.float32(2**24), jnp.int32(2**24)

    @jax.jit
    def run(total, rest, count, units):
        def step(_, values):
            inner = Average()
            variables = inner.total, inner.total_rest, inner.count, inner.count_units
            for variable, value in zip(variables, values):
                variable[...] = value
            inner.update(values=0.5)
            return tuple(variable[...] for variable in variables)

        return jax.lax.fori_loop(0, 100_000, step, (total, rest, count, units))

    variables = metric.total, metric.total_rest, metric.count, metric.count_units
    for variable, value in zip(variables, run(*(variable[...] for variable in variables))):
        variable[...] = value
    np.testing.assert_allclose(metric.compute(), (2**24 + 50_000) / (2**24 + 100_000), rtol=1e-7)
    metric.reset()
    assert all(float(variable[...]) == 0 for variable in variables)


def test_infinite_values_have_an_infinite_mean():
    metric = Average()
    for value in (1.0, float("inf"), 2.0):
        metric.update(values=value)
    assert float(metric.compute()) == float("inf")


def test_masks_by_the_names_of_metrics():
    values, keep = jnp.array([1.0, 2.0, 6.0]), jnp.array([True, True, False])
    several = nnx.MultiMetric(a=nnx.metrics.Average("a"), b=nnx.metrics.Average("b"), c=nnx.metrics.Welford("a"))
    several.update(a=values, b=values, mask={"a": keep, "c": keep, "b": None})
    found = several.compute()
    assert (float(found["a"]), float(found["b"]), float(found["c"].mean)) == (1.5, 3.0, 1.5)
    several.update(a=values, b=values, mask=keep)
    np.testing.assert_allclose(several.compute()["b"], (9 + 3) / 5)
    with pytest.raises(NnxError, match=r"masks for metrics that it has not[\s\S]*got: \['d'\]"):
        several.update(a=values, b=values, mask={"d": keep})


def test_masked_spread_is_that_of_what_counts():
    values = jnp.array([1.0, jnp.nan, 5.0, 3.0])
    metric = nnx.metrics.Welford()
    metric.update(values=values, mask=~jnp.isnan(values))
    metric.update(values=values, mask=jnp.zeros(4, bool))
    stats = metric.compute()
    np.testing.assert_allclose([stats.mean, stats.standard_deviation], [3.0, np.std([1.0, 5.0, 3.0])], rtol=1e-6)


@pytest.mark.parametrize("kind", [nnx.metrics.Average, nnx.metrics.Welford])
def test_one_metric_per_row_is_reset_in_its_shape(kind):
    metrics = nnx.vmap(lambda _: kind())(jnp.arange(3))
    update = nnx.vmap(lambda metric, x: metric.update(values=x))
    shapes = jax.tree.map(jnp.shape, nnx.as_pure(nnx.state(metrics)))
    update(metrics, jnp.ones((3, 2)))
    metrics.reset()
    assert jax.tree.map(jnp.shape, nnx.as_pure(nnx.state(metrics))) == shapes
    update(metrics, jnp.arange(6.0).reshape(3, 2))
    found = metrics.compute()
    np.testing.assert_allclose(found if kind is nnx.metrics.Average else found.mean, [0.5, 2.5, 4.5])
