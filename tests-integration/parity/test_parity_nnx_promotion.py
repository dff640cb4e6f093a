"""Functions that promote dtypes, extra arguments of optimizers, keys of states and masks of metrics, as in Flax."""

import flax.nnx as flax_nnx
import fx_nnx
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

BOTH = (flax_nnx, fx_nnx)
X = np.sin(np.arange(2 * 3 * 4, dtype=np.float32)).reshape(2, 3, 4)

NORMS = {
    "batch": lambda nnx, **options: nnx.BatchNorm(4, rngs=nnx.Rngs(0), **options),
    "layer": lambda nnx, **options: nnx.LayerNorm(4, rngs=nnx.Rngs(0), **options),
    "rms": lambda nnx, **options: nnx.RMSNorm(4, rngs=nnx.Rngs(0), **options),
    "group": lambda nnx, **options: nnx.GroupNorm(4, num_groups=2, rngs=nnx.Rngs(0), **options),
    "instance": lambda nnx, **options: nnx.InstanceNorm(4, rngs=nnx.Rngs(0), **options),
}


def shifted(args, /, *, dtype=None, inexact=True, **_):
    del inexact
    return tuple(None if arg is None else jnp.asarray(arg, dtype or jnp.float32) * 2 + 1 for arg in args)


@pytest.mark.parametrize("dtype", [None, jnp.float16])
@pytest.mark.parametrize("name", NORMS)
def test_norms_promote_by_the_function_given(name, dtype):
    theirs, ours = (NORMS[name](nnx, promote_dtype=shifted, dtype=dtype)(jnp.asarray(X)) for nnx in BOTH)
    assert theirs.dtype == ours.dtype
    np.testing.assert_allclose(theirs, ours, rtol=2e-5 if dtype is None else 5e-3, atol=1e-4 if dtype is None else 5e-3)


def test_line_search():
    def run(nnx):
        model = nnx.Linear(4, 1, rngs=nnx.Rngs(0))
        optimizer = nnx.Optimizer(model, optax.lbfgs(), wrt=nnx.Param)
        graphdef = nnx.graphdef(model)
        loss = lambda model: ((model(X[0]) - X.sum()) ** 2).mean()  # noqa: E731
        values = []
        for _ in range(4):
            value, grads = nnx.value_and_grad(loss)(model)
            value_fn = lambda params: loss(nnx.merge(graphdef, params))  # noqa: E731
            updates = optimizer.update(model, grads, value=value, grad=nnx.as_pure(grads), value_fn=value_fn)
            values.append(value)
        return values, jax.tree.leaves(updates)

    (values, updates), (our_values, our_updates) = (run(nnx) for nnx in BOTH)
    np.testing.assert_allclose(values, our_values, rtol=1e-4, atol=1e-6)
    for one, other in zip(updates, our_updates, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-3, atol=1e-5)


def test_where_spectral_norms_keep_their_vectors():
    def run(nnx):
        layer = nnx.SpectralNorm(nnx.Linear(4, 2, rngs=nnx.Rngs(0)), rngs=nnx.Rngs(1))
        return {path: leaf[...].shape for path, leaf in nnx.to_flat_state(nnx.state(layer))}

    theirs, ours = (run(nnx) for nnx in BOTH)
    assert theirs == ours


def test_keys_as_text():
    def run(nnx):
        state = nnx.State({"layers": {i: nnx.Param(jnp.full((), float(i))) for i in range(11)}})
        nnx.replace_by_pure_dict(state, {"layers": {"10": jnp.array(5.0), "1": jnp.array(6.0)}})
        return nnx.to_pure_dict(state), nnx.restore_int_paths({"a": {"0": 1, "x": {"12": 2}}})

    theirs, ours = (run(nnx) for nnx in BOTH)
    assert theirs == ours


def test_masks_by_name():
    def run(nnx):
        metrics = nnx.MultiMetric(a=nnx.metrics.Average("a"), b=nnx.metrics.Average("b"))
        metrics.update(a=jnp.arange(4.0), b=jnp.arange(4.0), mask={"b": jnp.arange(4) > 1})
        return jax.tree.map(float, metrics.compute())

    theirs, ours = (run(nnx) for nnx in BOTH)
    assert theirs == ours == {"a": 1.5, "b": 2.5}
