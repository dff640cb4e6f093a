"""fx-nnx with fx-train: TrainState holds the parameters of a model that was split."""

import fx_nnx as nnx
import jax
import jax.numpy as jnp
import optax
import pytest
from fx_train import Run, StepState, TrainState, make_train_step
from fx_train.step import trainable_mask, trainable_only


def test_train_state_holds_nnx_state(tmp_path):
    model = nnx.Linear(3, 1, rngs=nnx.Rngs(0))
    graphdef, params = nnx.split(model)
    x = jax.random.normal(jax.random.key(1), (8, 3))
    target = x.sum(axis=1, keepdims=True)
    state = TrainState.create(
        apply_fn=lambda params, x: nnx.merge(graphdef, params)(x), params=params, tx=optax.sgd(0.1)
    )

    @jax.jit
    def step(state):
        loss, grads = jax.value_and_grad(lambda p: jnp.mean((state.apply_fn(p, x) - target) ** 2))(state.params)
        return state.apply_gradients(grads=grads), {"loss": loss}

    losses = []
    with Run(tmp_path, total_steps=30) as run:
        for _ in run.steps([None] * 30):
            state, metrics = step(state)
            losses.append(float(metrics["loss"]))
            run.record(state, metrics)
    nnx.update(model, state.params)
    assert losses[-1] < 0.1 * losses[0]
    assert float(jnp.mean((model(x) - target) ** 2)) < losses[0]


def test_made_steps_train_models_that_keep_statistics():
    """The loss merges a model out of the variables that it gets, and the model writes into them."""
    model = nnx.Sequential(nnx.Linear(3, 4, rngs=nnx.Rngs(0)), nnx.BatchNorm(4, rngs=nnx.Rngs(0)))
    graphdef, params, rest = nnx.split(model, nnx.Param, ...)
    x = jax.random.normal(jax.random.key(1), (8, 3)) + 2

    def loss_fn(params, batch, variables):
        model = nnx.merge(graphdef, params, variables)
        loss = jnp.mean((model(batch) - 1) ** 2)
        return loss, {}, nnx.split(model, nnx.Param, ...)[2]

    for accumulate in (1, 4):
        state = StepState.create(params=jax.tree.map(jnp.copy, params), variables=rest, tx=optax.adam(0.05))
        train_step = make_train_step(loss_fn, accumulate=accumulate, weight="examples", donate=False)
        losses = []
        for _ in range(20):
            state, metrics = train_step(state, x)
            losses.append(float(metrics["loss"]))
        assert losses[-1] < losses[0]
        assert float(jnp.abs(state.variables["layers"][1]["mean"][...]).max()) > 0.1
        assert float(jnp.abs(rest["layers"][1]["mean"][...]).max()) == 0


def test_made_steps_train_nnx_state_with_frozen_parts_and_averages():
    model = nnx.Sequential(nnx.Linear(3, 4, rngs=nnx.Rngs(0)), nnx.Linear(4, 1, rngs=nnx.Rngs(1)))
    graphdef, params = nnx.split(model, nnx.Param)
    x = jax.random.normal(jax.random.key(1), (8, 3))

    def loss_fn(params, batch):
        return jnp.mean((nnx.merge(graphdef, params)(batch) - batch.sum(axis=1, keepdims=True)) ** 2)

    frozen = jax.tree.leaves(jax.tree.map(jnp.copy, params["layers"][0]))
    state = StepState.create(params=params, tx=optax.adamw(0.05), ema=True)
    train_step = make_train_step(
        loss_fn,
        accumulate=2,
        weight="examples",
        clip=1.0,
        ema=0.9,
        trainable=lambda path, _: path[:2] == ("layers", "1"),
    )
    losses = []
    for _ in range(30):
        state, metrics = train_step(state, x)
        losses.append(float(metrics["loss"]))
    assert losses[-1] < 0.5 * losses[0]
    for before, after in zip(frozen, jax.tree.leaves(state.params["layers"][0])):
        assert jnp.array_equal(before, after)
    nnx.update(model, state.ema)
    assert model(x).shape == (8, 1)


@pytest.mark.parametrize("alone", [False, True])
def test_the_filter_of_what_is_trained_says_it_to_steps_and_optimizers(alone):
    model = nnx.Sequential(nnx.Linear(3, 4, rngs=nnx.Rngs(0)), nnx.Linear(4, 1, rngs=nnx.Rngs(1)))
    nnx.freeze(model, nnx.PathContains(0))
    graphdef, params = nnx.split(model, nnx.Param)
    tx = optax.adamw(0.1)
    state = StepState.create(params=params, tx=trainable_only(tx, nnx.Trainable()) if alone else tx)
    sizes = [leaf.size for leaf in jax.tree.leaves(state.opt_state)]
    assert sum(sizes) == (2 * 5 + 1 if alone else 2 * 21 + 1)
    train_step = make_train_step(
        lambda params, batch: jnp.mean(nnx.merge(graphdef, params)(batch) ** 2),
        trainable=nnx.Trainable(),
        donate=False,
    )
    new, _ = train_step(state, jnp.ones((2, 3)))
    changed = jax.tree.map(lambda one, other: bool((one != other).all()), new.params, params)
    assert jax.tree.leaves(changed) == [False, False, True, True]


def test_types_of_variables_and_other_filters_are_masks():
    layer = nnx.LoRALinear(2, 3, lora_rank=1, rngs=nnx.Rngs(0))
    params = nnx.state(layer, nnx.Param)
    lora = jax.tree.leaves(trainable_mask(params, nnx.LoRAParam))
    assert (sum(lora), len(lora)) == (2, 4)
    assert jax.tree.leaves(trainable_mask(params, nnx.Not(nnx.LoRAParam))) == [not yes for yes in lora]
    assert jax.tree.leaves(trainable_mask({"a": [params]}, nnx.Not(nnx.PathContains("lora")))) == [not y for y in lora]
    assert jax.tree.leaves(trainable_mask([params, params], nnx.PathContains(1))) == [False] * 4 + [True] * 4
    assert any(jax.tree.leaves(trainable_mask(params, lambda path, x: path[-1] == "kernel" and x.ndim == 2)))
