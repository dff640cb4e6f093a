"""Low-rank adapters, normalized weights, and which variables are trained."""

import fx_nnx as nnx
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from fx_core.errors import ShapeMismatchError
from fx_nnx.errors import NnxError

X = jnp.sin(jnp.arange(4 * 3.0)).reshape(4, 3)


def close(a, b, atol=1e-6):
    np.testing.assert_allclose(a, b, atol=atol)


def linear(**options):
    return nnx.Linear(3, 5, rngs=nnx.Rngs(0), **options)


def test_lora_adds_a_product_to_a_layer():
    base = linear()
    layer = nnx.LoRA(3, 2, 5, base_module=base, rngs=nnx.Rngs(1))
    close(layer(X), base(X))
    layer.lora_b[...] = jnp.ones((2, 5))
    close(layer(X), base(X) + X @ layer.lora_a[...] @ jnp.ones((2, 5)))
    with pytest.raises(ShapeMismatchError, match=r"LoRA: [\s\S]*3 features[\s\S]*\(4, 2\)"):
        layer(X[:, :2])
    with pytest.raises(NnxError, match=r"`self.base_module` must be callable[\s\S]*got: int"):
        nnx.LoRA(3, 2, 5, base_module=7, rngs=nnx.Rngs(1))(X)


def test_the_layer_of_a_lora_reads_inputs_in_its_dtype():
    base, x = linear(), X / 3
    layer = nnx.LoRA(3, 2, 5, base_module=base, dtype=jnp.bfloat16, rngs=nnx.Rngs(1))
    assert jnp.any(base(x) != base(x.astype(jnp.bfloat16)))
    np.testing.assert_array_equal(layer(x), base(x.astype(jnp.bfloat16)))


ADAPTER = {"body/lora/lora_a", "body/lora/lora_b"}


class Net(nnx.Module):
    def __init__(self, rngs):
        self.body = nnx.LoRALinear(3, 5, lora_rank=1, rngs=rngs)
        self.head = nnx.Linear(5, 1, rngs=rngs)

    def __call__(self, x):
        return self.head(nnx.tanh(self.body(x)))


@pytest.mark.parametrize(
    ("frozen", "filter", "trained"),
    [
        (
            [],
            nnx.Param,
            {"body/kernel", "body/bias", "body/lora/lora_a", "body/lora/lora_b", "head/kernel", "head/bias"},
        ),
        ([], nnx.LoRAParam, ADAPTER),
        ([nnx.PathContains("body")], nnx.Param, {"head/kernel", "head/bias"}),
        (
            [nnx.All(nnx.PathContains("body"), nnx.Not(nnx.LoRAParam))],
            nnx.Param,
            {*ADAPTER, "head/kernel", "head/bias"},
        ),
    ],
)
def test_one_filter_for_gradients_optimizer_and_checkpoint(frozen, filter, trained):
    model = Net(nnx.Rngs(0))
    model.body.lora.lora_b[...] = jnp.ones((1, 5))
    if frozen:
        nnx.freeze(model, *frozen)
    wrt = nnx.Trainable(filter)
    optimizer = nnx.Optimizer(model, optax.adam(0.1), wrt=wrt)
    before = dict(nnx.to_flat_state(nnx.clone(nnx.state(model))))

    @nnx.jit
    def step(model, optimizer):
        grads = nnx.grad(lambda model: (model(X) ** 2).mean(), argnums=nnx.DiffState(0, wrt))(model)
        optimizer.update(model, grads)
        return grads

    grads = step(model, optimizer)
    name = lambda path: "/".join(map(str, path))  # noqa: E731
    assert {name(path) for path, _ in nnx.to_flat_state(grads)} == trained
    assert {name(path) for path, _ in nnx.to_flat_state(nnx.state(model, wrt))} == trained
    moved = {name(p) for p, v in nnx.to_flat_state(nnx.state(model)) if jnp.any(v[...] != before[p][...])}
    assert moved == trained
    assert len(jax.tree.leaves(nnx.state(optimizer, nnx.OptVariable))) == 2 * len(trained)


def test_freezing_is_undone_and_survives_copies():
    model = Net(nnx.Rngs(0))
    nnx.freeze(model)
    assert not nnx.to_flat_state(nnx.state(model, nnx.Trainable()))
    copy = nnx.clone(model)
    graphdef, state = nnx.split(copy)
    assert not nnx.to_flat_state(nnx.state(nnx.merge(graphdef, state), nnx.Trainable()))
    nnx.unfreeze(copy, nnx.PathContains("head"))
    assert list(nnx.state(copy, nnx.Trainable())) == ["head"]
    assert not copy.head.kernel.has_metadata("trainable")
    assert nnx.Trainable(nnx.Param) == nnx.Trainable() != nnx.Trainable(nnx.LoRAParam)
    assert repr(nnx.Trainable()) == "Trainable(OfType(<class 'fx_nnx.variables.kinds.Param'>))"


def test_spectral_norm_divides_by_the_largest_singular_value():
    base = linear()
    weights = base.kernel[...]
    layer = nnx.SpectralNorm(base, n_steps=50, rngs=nnx.Rngs(1))
    close(layer(X), X @ weights / jnp.linalg.norm(weights, 2), 1e-4)
    close(base.kernel[...], weights)
    close(layer.batch_stats["kernel", "sigma"][...], jnp.linalg.norm(weights, 2), 1e-4)


def test_estimates_are_stored_while_training_only():
    layer = nnx.SpectralNorm(linear(), rngs=nnx.Rngs(1))
    u = layer.batch_stats["kernel", "u"][...]
    layer.eval()
    layer(X)
    layer(X, update_stats=False)
    close(layer.batch_stats["kernel", "u"][...], u)
    layer.set_view(use_running_average=False)
    layer(X)
    assert jnp.any(layer.batch_stats["kernel", "u"][...] != u)
    with pytest.raises(ShapeMismatchError, match=r"'kernel' is no matrix[\s\S]*\(2, 2, 3, 4\)"):
        nnx.SpectralNorm(nnx.Conv(3, 4, (2, 2), rngs=nnx.Rngs(0)), error_on_non_matrix=True, rngs=nnx.Rngs(1))


def test_weight_norm_trains_lengths_and_directions():
    base = linear()
    layer = nnx.WeightNorm(base, rngs=nnx.Rngs(1))
    kernel = base.kernel[...]
    unit = kernel / jnp.linalg.norm(kernel, axis=0, keepdims=True)
    close(layer(X), X @ unit)
    layer.scales["kernel",][...] = jnp.arange(5.0)
    close(layer(X), X @ (unit * jnp.arange(5.0)[None]))
    close(base.kernel[...], kernel)
    grads = nnx.grad(lambda layer: (layer(X) ** 2).sum())(layer)
    assert set(grads) == {"layer_instance", "scales"}
    # The length of a direction has no say, so that its gradient is at a right angle to it.
    close((grads["layer_instance"]["kernel"][...] * kernel).sum(0), jnp.zeros(5), 1e-4)


def test_what_the_layer_does_inside_stays_its_own():
    class Inner(nnx.Module):
        def __init__(self):
            self.layer, self.calls = linear(), nnx.BatchStat(jnp.array(0))
            self.dropout = nnx.Dropout(0.5, rngs=nnx.Rngs(0))

        def __call__(self, x):
            self.calls[...] += 1
            self.sow(nnx.Intermediate, "hidden", x)
            return self.dropout(self.layer(x))

    inner = Inner()
    layer = nnx.WeightNorm(inner, feature_axes=None, use_scale=False, dtype=jnp.bfloat16, rngs=nnx.Rngs(1))
    layer(X)
    layer(X)
    assert int(inner.calls[...]) == int(inner.dropout.rngs.count[...]) == 2
    assert len(inner.hidden.get_value()) == 2
    assert not len(layer.scales)
