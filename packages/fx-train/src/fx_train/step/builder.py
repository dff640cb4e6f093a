"""Training steps from a loss function."""

import functools
import inspect
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp

from fx_train.dynamic_scale import DynamicScale, all_finite
from fx_train.errors import InvalidStepOptionError, LossOutputError, MissingFieldError
from fx_train.step.accumulate import batch_size, in_parts
from fx_train.step.policy import Policy
from fx_train.step.trainable import Trainable, split_params, trainable_mask
from fx_train.train_state import TrainState

__all__ = ["make_train_step"]

Step = Callable[[Any, Any], tuple[Any, dict[str, Any]]]


def make_train_step(
    loss_fn: Callable[..., Any],
    *,
    accumulate: int = 1,
    reproducible: bool = False,
    policy: Policy | None = None,
    clip: float | None = None,
    trainable: Trainable | None = None,
    ema: float | None = None,
    donate: bool = True,
    compile: bool = True,
) -> Step:
    """Make the function that updates a state by a batch.

    >>> import optax
    >>> from fx_train.step import StepState
    >>> def loss_fn(params, batch):
    ...     x, y = batch
    ...     return jnp.mean((x @ params["w"] - y) ** 2)
    >>> state = StepState.create(params={"w": jnp.zeros(2)}, tx=optax.sgd(0.1))
    >>> train_step = make_train_step(loss_fn, clip=1.0)
    >>> state, metrics = train_step(state, (jnp.ones((4, 2)), jnp.ones(4)))
    >>> sorted(metrics), int(state.step)
    (['grad_norm', 'loss'], 1)

    **The loss function** is called as ``loss_fn(params, batch)`` and gives the *mean* loss over the batch, a scalar, or
    ``(loss, metrics)`` with a dict of scalars and of metrics that merge (`fx_train.metrics`). If it has a parameter
    called ``key``, it gets a random key of its own for this step; if it has one called ``variables``, it gets the
    state's other collections, and gives ``(loss, metrics, variables)`` with their new values.

    **Accumulation.** With ``accumulate=k`` the batch is worked on in k parts, one after another, in the memory of one;
    the gradient is the mean of theirs. It differs from the whole batch's in the order of additions only: scaling by a
    power of two is exact, so for such k it is the same to the bit wherever the sums are exact, and to rounding
    elsewhere. Where the bits have to be the same for all data, ``reproducible=True`` differentiates example by
    example and adds in one balanced tree, whatever ``accumulate`` is; that is slow, and the batch must have a power of
    two of examples.

    **Loss scaling** happens when the state has a ``dynamic_scale``: a step whose gradients are not finite changes
    nothing but the scale, and ``metrics["finite"]`` is 0.

    Args:
      loss_fn: see above.
      accumulate: number of parts of a batch.
      reproducible: make the bits independent of ``accumulate``; see above.
      policy: dtypes of parameters, computation and results; None leaves all as they are.
      clip: scale the gradients such that their global norm is at most this; the norm before is
        ``metrics["grad_norm"]``. [Pascanu et al., "On the difficulty of training recurrent neural networks", 2013]
      trainable: which parameters to train, see `fx_train.step.trainable_mask`; the others stay to the bit, and no
        gradient is computed for them.
      ema: decay of the average of the parameters in the state's ``ema``, such as 0.999.
      donate: let the new state take the memory of the old one, which cannot be used any more.
      compile: whether to `jax.jit` the function; False for use inside a transform of your own.

    Returns:
      A function ``(state, batch) -> (state, metrics)``. A state is a `fx_train.step.StepState` or any `TrainState` with
      the fields that are needed; a batch is a tree of arrays with one leading axis.

    Raises:
      InvalidStepOptionError: an option makes no sense.
      MissingFieldError, LossOutputError, PolicyMismatchError, IndivisibleBatchError, BatchMismatchError: by the
        function, when state, batch and loss function do not fit.
    """
    if type(accumulate) is not int or accumulate < 1:
        raise InvalidStepOptionError("accumulate", "a number of parts, at least 1", accumulate)
    if clip is not None and clip <= 0:
        raise InvalidStepOptionError("clip", "a positive norm", clip)
    if ema is not None and not 0 <= ema < 1:
        raise InvalidStepOptionError("ema", "a decay from 0 to below 1", ema)
    wants = _wanted(loss_fn)
    loss = _checked(loss_fn, policy or _AS_IT_IS, wants)

    def train_step(state: TrainState, batch: Any) -> tuple[TrainState, dict[str, Any]]:
        if policy is not None:
            policy.check(state.params)
        mask = None if trainable is None else trainable_mask(state.params, trainable)
        parts = _parts(batch, accumulate, reproducible)
        scale = getattr(state, "dynamic_scale", None)
        grads, metrics, variables = _gradients(loss, state, batch, parts, mask, wants, scale)
        changes: dict[str, Any] = {"variables": variables} if "variables" in wants else {}
        finite = None
        if scale is not None:
            finite = all_finite(grads)
            metrics |= {"finite": finite.astype(jnp.float32), "loss_scale": jnp.asarray(scale.scale, jnp.float32)}
        if clip is not None:
            grads, metrics["grad_norm"] = _clipped(grads, clip)
        new = _updated(state, grads, mask, changes)
        if ema is not None:
            new = new.replace(ema=_averaged(_field(state, "ema"), new.params, ema))
        if scale is not None and finite is not None:
            new = jax.tree.map(functools.partial(jnp.where, finite), new, state)
            new = new.replace(dynamic_scale=scale.after(finite))
        return new, metrics

    return jax.jit(train_step, donate_argnums=(0,) if donate else ()) if compile else train_step


class _AsItIs(Policy):
    """No dtype is changed."""

    def to_compute(self, tree: Any) -> Any:
        return tree

    def to_output(self, tree: Any) -> Any:
        return tree


_AS_IT_IS = _AsItIs()


def _wanted(loss_fn: Callable[..., Any]) -> frozenset[str]:
    return frozenset(inspect.signature(loss_fn).parameters) & {"key", "variables"}


def _checked(loss_fn: Callable[..., Any], policy: Policy, wants: frozenset[str]) -> Callable[..., Any]:
    """The loss function with casts, whose result is (loss, metrics, variables)."""
    expected = "(loss, metrics, variables)" if "variables" in wants else "loss or (loss, metrics)"
    lengths = (3,) if "variables" in wants else (1, 2)

    def loss(params: Any, batch: Any, **more: Any) -> tuple[jax.Array, dict[str, Any], Any]:
        if "variables" in more:
            more["variables"] = policy.to_compute(more["variables"])
        out = loss_fn(policy.to_compute(params), policy.to_compute(batch), **more)
        parts: Any = out if isinstance(out, tuple) else (out,)
        if len(parts) not in lengths or (len(parts) > 1 and not isinstance(parts[1], Mapping)):
            raise LossOutputError(
                expected, f"a tuple of {len(parts)}" if isinstance(out, tuple) else type(out).__name__
            )
        value = jnp.asarray(parts[0])
        if value.shape != () or not jnp.issubdtype(value.dtype, jnp.floating):
            raise LossOutputError("a scalar loss of floating point", f"{value.dtype.name} of shape {value.shape}")
        metrics = dict(parts[1]) if len(parts) > 1 else {}
        return policy.to_output(value), policy.to_output(metrics), parts[2] if len(parts) > 2 else None

    return loss


def _parts(batch: Any, accumulate: int, reproducible: bool) -> int:
    if not reproducible:
        return accumulate
    size = batch_size(batch)
    if size & (size - 1) or size % accumulate:
        raise InvalidStepOptionError("reproducible", "a batch of a power of two of examples", f"a batch of {size}")
    return size


def _gradients(
    loss: Callable[..., Any],
    state: TrainState,
    batch: Any,
    parts: int,
    mask: Any,
    wants: frozenset[str],
    scale: DynamicScale | None,
) -> tuple[Any, dict[str, Any], Any]:
    """Gradients of the trained leaves, metrics and new variables, over all parts of a batch."""
    trained, join = split_params(state.params, mask)
    key = jax.random.fold_in(_field(state, "key"), state.step) if "key" in wants else None
    dtypes = [leaf.dtype for leaf in trained]

    def scaled(trained: list[Any], batch: Any, more: dict[str, Any]) -> tuple[jax.Array, Any]:
        value, metrics, variables = loss(join(trained), batch, **more)
        factor = 1.0 if scale is None else jnp.asarray(scale.scale, value.dtype)
        return value * factor, (value, metrics, variables)

    def part(carry: tuple[Any, Any], batch: Any) -> tuple[Any, Any, Any]:
        index, variables = carry
        more = {"variables": variables} if "variables" in wants else {}
        if key is not None:
            more["key"] = jax.random.fold_in(key, index) if parts > 1 else key
        grads, (value, metrics, new) = jax.grad(scaled, has_aux=True)(trained, batch, more)
        if "variables" in wants:
            new = jax.tree.map(lambda x, old: x.astype(old.dtype), new, variables)
        return (index + 1, new), grads, (value, metrics)

    first = _field(state, "variables") if "variables" in wants else None
    (_, variables), total, (values, metrics) = in_parts(part, (jnp.int32(0), first), batch, parts)
    grads = [_mean(g, parts, scale, dtype) for g, dtype in zip(total, dtypes)]
    return grads, {"loss": jnp.mean(values), **_merged(metrics, parts)}, variables


def _mean(total: jax.Array, parts: int, scale: DynamicScale | None, dtype: Any) -> jax.Array:
    if scale is not None:
        total = total.astype(jnp.promote_types(total.dtype, jnp.float32))
        total = total / jnp.asarray(scale.scale, total.dtype)
    return (total / parts if parts > 1 else total).astype(dtype)


def _merged(metrics: Mapping[str, Any], parts: int) -> dict[str, Any]:
    def merge(metric: Any) -> Any:
        if hasattr(metric, "merge"):
            each = [jax.tree.map(lambda x, i=i: x[i], metric) for i in range(parts)]
            return functools.reduce(lambda a, b: a.merge(b), each)
        return jax.tree.map(lambda x: jnp.mean(x, axis=0), metric)

    return {name: merge(metric) for name, metric in metrics.items()}


def _clipped(grads: list[jax.Array], limit: float) -> tuple[list[jax.Array], jax.Array]:
    squares = [jnp.sum(jnp.square(jnp.abs(g.astype(jnp.promote_types(g.dtype, jnp.float32))))) for g in grads]
    norm = jnp.sqrt(sum(squares))
    # Not norm > limit: a norm that is not a number must not pass for one that is small.
    factor = jnp.where(norm <= limit, 1.0, limit / norm)
    return [(g * factor).astype(g.dtype) for g in grads], norm


def _updated(state: TrainState, grads: list[Any], mask: Any, changes: dict[str, Any]) -> Any:
    if mask is None:
        return state.apply_gradients(grads=jax.tree.structure(state.params).unflatten(grads), **changes)
    _, join = split_params(jax.tree.map(jnp.zeros_like, state.params), mask)
    new = state.apply_gradients(grads=join(grads), **changes)
    # Weight decay and the like move parameters without gradients, too; frozen ones stay.
    kept = jax.tree.map(lambda yes, after, before: after if yes else before, mask, new.params, state.params)
    return new.replace(params=kept)


def _averaged(average: Any, params: Any, decay: float) -> Any:
    def mean(old: jax.Array, new: jax.Array) -> jax.Array:
        return (old * decay + new.astype(old.dtype) * (1 - decay)).astype(old.dtype)

    return jax.tree.map(mean, average, params)


def _field(state: TrainState, name: str) -> Any:
    value = getattr(state, name, None)
    if value is None:
        raise MissingFieldError(type(state).__name__, name)
    return value
