"""Optimizers, metrics, moving averages and train states of fx_nnx against those of Flax: the same numbers."""

import flax.nnx as flax_nnx
import fx_nnx
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

BOTH = (flax_nnx, fx_nnx)
X = np.sin(np.arange(16 * 3, dtype=np.float32)).reshape(16, 3)
Y = X.sum(1, keepdims=True) ** 2
LABELS = (Y[:, 0] > 1).astype(np.int32)


def net(nnx):
    rngs = nnx.Rngs(0, params=1)
    first, norm = nnx.Linear(3, 8, rngs=rngs), nnx.BatchNorm(8, rngs=rngs)
    return nnx.Sequential(first, norm, nnx.Dropout(0.2, rngs=rngs), nnx.Linear(8, 1, rngs=rngs))


def pure(nnx, node, *filters):
    return jax.tree.map(np.asarray, nnx.to_pure_dict(nnx.state(node, *filters)))


def near(theirs, ours, tolerance=2e-6):
    assert jax.tree.structure(theirs) == jax.tree.structure(ours)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, tolerance, tolerance), theirs, ours)


OPTIMIZERS = {
    "sgd": lambda: optax.sgd(0.1),
    "momentum": lambda: optax.sgd(0.1, momentum=0.9),
    "adam": lambda: optax.adam(1e-2),
    "adamw": lambda: optax.adamw(1e-2),
    "chain": lambda: optax.chain(optax.clip_by_global_norm(0.5), optax.rmsprop(1e-2)),
    "every-second": lambda: optax.MultiSteps(optax.adam(1e-2), 2),
}


@pytest.mark.parametrize("name", OPTIMIZERS)
@pytest.mark.parametrize("both_in_one", [False, True])
def test_training(name, both_in_one):
    def run(nnx):
        model = net(nnx)
        kind = nnx.ModelAndOptimizer if both_in_one else nnx.Optimizer
        optimizer = kind(model, OPTIMIZERS[name](), wrt=nnx.Param)

        @nnx.jit
        def step(model, optimizer):
            loss, grads = nnx.value_and_grad(lambda model: ((model(X) - Y) ** 2).mean())(model)
            optimizer.update(grads) if both_in_one else optimizer.update(model, grads)
            return loss

        losses = [np.asarray(step(model, optimizer)) for _ in range(4)]
        filters = (nnx.Not(nnx.RngKey),)
        return losses, pure(nnx, model, *filters), pure(nnx, optimizer, nnx.OptState)

    (losses, model, state), (our_losses, our_model, our_state) = (run(nnx) for nnx in BOTH)
    near(losses, our_losses, 1e-5)
    near(model, our_model, 1e-4)
    near(jax.tree.leaves(state), jax.tree.leaves(our_state), 1e-4)


@pytest.mark.parametrize("part", ["all", "one-layer"])
def test_gradients_of_a_part(part):
    def run(nnx):
        model = net(nnx)
        wrt = nnx.Param if part == "all" else nnx.All(nnx.Param, nnx.PathContains(3))
        optimizer = nnx.Optimizer(model, optax.adam(1e-2), wrt=wrt)
        grads = nnx.grad(lambda model: ((model(X) - Y) ** 2).mean(), argnums=nnx.DiffState(0, wrt))(model)
        optimizer.update(model, grads)
        return jax.tree.map(np.asarray, nnx.to_pure_dict(grads)), pure(nnx, model, nnx.Param)

    near(*(run(nnx) for nnx in BOTH), tolerance=1e-5)


MASK = np.arange(16) % 3 > 0
METRICS = {
    "average": (lambda m: m.Average(), [{"values": X}, {"values": 2.0}, {"values": 3}]),
    "average-named": (lambda m: m.Average("loss"), [{"loss": X, "other": 1}, {"loss": X[:4]}]),
    "average-mask": (lambda m: m.Average(), [{"values": Y[:, 0], "mask": MASK}]),
    "accuracy": (lambda m: m.Accuracy(), [{"logits": X, "labels": LABELS}, {"logits": X[:5], "labels": LABELS[:5]}]),
    "accuracy-mask": (lambda m: m.Accuracy(), [{"logits": X, "labels": LABELS, "mask": MASK}]),
    "accuracy-binary": (lambda m: m.Accuracy(threshold=0.5), [{"logits": X[:, 0], "labels": LABELS}]),
    "welford": (lambda m: m.Welford(), [{"values": X}, {"values": X[:3] + 2}, {"values": X[5]}]),
    "welford-named": (lambda m: m.Welford("loss"), [{"loss": X}]),
    "nothing": (lambda m: m.Average(), []),
}


def known(state):
    """What Flax has, too: where sums and counts have two parts, the first alone is the whole of a short stream."""
    return {name: value for name, value in state.items() if not name.endswith(("_rest", "_units"))}


@pytest.mark.parametrize("name", METRICS)
def test_metrics(name):
    make, updates = METRICS[name]

    def run(nnx):
        metric = make(nnx.metrics)
        for update in updates:
            metric.update(**{k: jnp.asarray(v) if isinstance(v, np.ndarray) else v for k, v in update.items()})
        found = metric.compute()
        values = vars(found) if hasattr(found, "standard_deviation") else {"": found}
        state = known(pure(nnx, metric))
        metric.reset()
        return {k: np.asarray(v) for k, v in values.items()}, state, known(pure(nnx, metric))

    near(*(run(nnx) for nnx in BOTH))


def test_several_metrics_in_a_compiled_step():
    def run(nnx):
        metrics = nnx.MultiMetric(accuracy=nnx.metrics.Accuracy(), loss=nnx.metrics.Average("loss"))
        step = nnx.jit(lambda metrics, logits: metrics.update(logits=logits, labels=jnp.asarray(LABELS), loss=logits))
        for scale in (1, -1, 2):
            step(metrics, jnp.asarray(X) * scale)
        return jax.tree.map(np.asarray, metrics.compute())

    near(*(run(nnx) for nnx in BOTH))


@pytest.mark.parametrize("only", ["everything", "Param", "BatchStat"])
def test_moving_averages(only):
    def run(nnx):
        model = nnx.Sequential(*net(nnx).layers[:2])
        ema = nnx.EMA(model, 0.75, only=... if only == "everything" else getattr(nnx, only))
        model(jnp.asarray(X))
        ema.update(jax.tree.map(lambda v: v * 2, nnx.state(model)) if only == "everything" else model)
        ema.update(model)
        return pure(nnx, ema.apply_to(model)), pure(nnx, ema)

    near(*(run(nnx) for nnx in BOTH))


def test_train_state():
    def run(nnx):
        graphdef, params = nnx.split(nnx.Linear(3, 1, rngs=nnx.Rngs(0)))
        state = nnx.TrainState.create(graphdef, params=params, tx=optax.adam(0.1))
        for _ in range(3):
            grads = jax.grad(lambda params, state=state: ((state.apply(params)(X)[0] - Y) ** 2).mean())(state.params)
            state = state.apply_gradients(grads)
        y, _ = state.apply("params")(X)
        return int(state.step), np.asarray(y), jax.tree.map(np.asarray, nnx.to_pure_dict(state.params))

    near(*(run(nnx) for nnx in BOTH), tolerance=1e-5)
