"""Gradients of a loss over a batch, in one piece or in parts."""

import functools
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
from fx_core.typing import Dtype

from fx_train.dynamic_scale import DynamicScale
from fx_train.errors import loss_output, not_trainable
from fx_train.step.accumulate import in_parts
from fx_train.step.loss import Loss, Weight
from fx_train.step.trainable import split_params
from fx_train.train_state import TrainState, is_trainable, overwritten


def gradients(
    loss: Loss, state: TrainState, batch: Any, *, parts: int, mask: Any, weight: Weight | None
) -> tuple[list[jax.Array], dict[str, Any], Any]:
    """Gradients of the trained leaves, metrics and new variables.

    Args:
      loss: the loss function.
      state: parameters, key, variables and loss scale are read.
      batch: a tree of arrays; those of several parts (examples, ...) or scalars.
      parts: into how many parts it is split.
      mask: which parameters are trained; None for all.
      weight: the weight of a part's mean; None for equal weights.
    """
    trained, join = split_params(state.params, mask)
    scale: DynamicScale | None = getattr(state, "dynamic_scale", None)
    key, first = loss.inputs(state)
    _check_dtypes(state.params, mask)

    def scaled(trained: list[Any], batch: Any, key: Any, variables: Any) -> tuple[jax.Array, Any]:
        value, metrics, variables = loss(join(trained), batch, key, variables)
        factor = 1.0 if scale is None else jnp.asarray(scale.scale, value.dtype)
        return value * factor, (value, metrics, variables)

    def part(carry: tuple[Any, Any], batch: Any) -> tuple[Any, Any, Any]:
        index, variables = carry
        own_key = jax.random.fold_in(key, index) if key is not None and parts > 1 else key
        grads, (value, metrics, variables) = jax.grad(scaled, has_aux=True)(trained, batch, own_key, variables)
        if parts > 1:
            _check_scalars(metrics)
        share = None
        if weight is not None and parts > 1:
            share = jnp.asarray(weight(batch), jnp.promote_types(value.dtype, jnp.float32))
            grads = [_weighted(g, share) for g in grads]
        return (index + 1, variables), (grads, share), (value, metrics, share)

    (_, variables), (total, shares), (values, metrics, each) = in_parts(part, (jnp.int32(0), first), batch, parts)
    count = parts if shares is None else shares
    yes = [True] * len(jax.tree.leaves(state.params)) if mask is None else jax.tree.leaves(mask)
    # What is a new value, and no gradient, was never scaled.
    values_given = [new for new, chosen in zip(overwritten(state.params), yes) if chosen]
    scales = [None if new else scale for new in values_given]
    grads = [_mean(g, count, own, leaf.dtype) for g, own, leaf in zip(total, scales, trained)]
    # `jax.grad` gives the conjugate of the direction in which a loss rises; optimizers go against that direction.
    grads = [g if new else jnp.conj(g) for g, new in zip(grads, values_given)]
    mean = functools.partial(average, weights=each, total=count)
    return grads, {"loss": mean(values), **_merged(metrics, parts, mean)}, variables


def _check_dtypes(params: Any, mask: Any) -> None:
    paths = jax.tree_util.tree_leaves_with_path(params)
    for (path, leaf), yes in zip(paths, [True] * len(paths) if mask is None else jax.tree.leaves(mask)):
        if yes and not is_trainable(leaf):
            raise not_trainable(jax.tree_util.keystr(path), jnp.result_type(leaf))


def _check_scalars(metrics: Mapping[str, Any]) -> None:
    for name, metric in metrics.items():
        if not hasattr(metric, "merge") and any(jnp.shape(leaf) for leaf in jax.tree.leaves(metric)):
            shapes = ", ".join(str(jnp.shape(leaf)) for leaf in jax.tree.leaves(metric))
            raise loss_output(
                "scalars, or metrics that merge (fx_train.metrics), for parts of a batch", f"{name!r} of shape {shapes}"
            )


def _weighted(values: jax.Array, weight: jax.Array) -> jax.Array:
    # A part that weighs nothing may have a mean of nothing, which is no number.
    return jnp.where(weight == 0, 0.0, values * weight)


def _mean(total: jax.Array, count: Any, scale: DynamicScale | None, dtype: Dtype) -> jax.Array:
    if scale is not None:
        total = total.astype(jnp.promote_types(total.dtype, jnp.float32))
        total = total / jnp.asarray(scale.scale, total.dtype)
    # Dividing by 1 would cost the rounding of a cast.
    return (total if isinstance(count, int) and count == 1 else total / count).astype(dtype)


def average(values: jax.Array, weights: jax.Array | None, total: Any) -> jax.Array:
    """Returns the mean of what parts gave (parts, ...), by their weights and the sum of these."""
    if weights is None:
        return jnp.mean(values, axis=0)
    weights = weights.reshape((-1,) + (1,) * (values.ndim - 1))
    mean = jnp.sum(_weighted(values, weights), axis=0) / total
    return mean.astype(values.dtype) if jnp.issubdtype(values.dtype, jnp.inexact) else mean


def _merged(metrics: Mapping[str, Any], parts: int, mean: Any) -> dict[str, Any]:
    def merge(metric: Any) -> Any:
        if hasattr(metric, "merge"):
            first = jax.tree.map(lambda x: x[0], metric)
            rest = jax.tree.map(lambda x: x[1:], metric)
            return jax.lax.scan(lambda a, b: (a.merge(b), None), first, rest)[0] if parts > 1 else first
        return jax.tree.map(mean, metric)

    return {name: merge(metric) for name, metric in metrics.items()}
