"""Training steps from a loss function."""

import functools
from collections.abc import Callable
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np

from fx_train.dynamic_scale import all_finite
from fx_train.errors import indivisible_batch, invalid_step_option
from fx_train.step.accumulate import batch_size, groups
from fx_train.step.compiled import CompiledStep, check_state
from fx_train.step.gradients import gradients
from fx_train.step.loss import Loss, Weight, field
from fx_train.step.policy import Policy
from fx_train.step.telling import loss_of_params, telling
from fx_train.step.trainable import Trainable, split_params, trainable_mask
from fx_train.train_state import TrainState, optimized, overwritten

__all__ = ["make_train_step"]

Step = Callable[[Any, Any], tuple[Any, dict[str, Any]]]


def make_train_step(
    loss_fn: Callable[..., Any],
    *,
    accumulate: int = 1,
    reproducible: bool = False,
    weight: Weight | Literal["examples"] | None = None,
    policy: Policy | None = None,
    parameters: Callable[[Any], Any] | None = None,
    clip: float | None = None,
    trainable: Trainable | None = None,
    ema: float | None = None,
    donate: bool = True,
    compile: bool = True,
) -> Step:
    """Creates the function that updates a state by a batch.

    >>> import optax
    >>> from fx_train import StepState
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
    state's other collections, and gives ``(loss, metrics, variables)`` with the new values of those that change.

    **Accumulation.** With ``accumulate=k`` the batch is worked on in k parts, one after another, in the memory of one;
    loss, gradient and metrics are the means of theirs, weighted by ``weight``, which has to be given: the parts of a
    mean over tokens that are no padding do not count alike, and nothing in a loss function says what it is a mean
    over. So they differ from the whole batch's by rounding only. A sum, or a loss that compares examples with each
    other, has no parts. Where the loss changes its ``variables`` (running statistics), each part changes them in turn,
    as k small batches would.

    ``reproducible=True`` makes the bits independent of ``accumulate``: the work is done in groups of up to 16 examples
    whatever it is, and their sums are added in one order. It needs ``weight`` with ``accumulate=1`` too.

    **Complex parameters** get the conjugate of what `jax.grad` gives, against which the loss falls.

    **Optimizers** get the arguments that their update has parameters for: the loss as ``value`` (`optax.polyak_sgd`,
    `optax.contrib.reduce_on_plateau`); its gradient before clipping as ``grad`` and the batch's loss as a function of
    the parameters as ``value_fn`` (`optax.lbfgs`) or ``obj_fn``; gradients elsewhere as ``grad_fn``
    (`optax.contrib.sam`).

    **Metrics** are those of the loss function, ``loss``, and what options add. If the optimizer was made by
    `optax.inject_hyperparams`, its ``learning_rate`` is among them.

    **Loss scaling** happens when the state has a ``dynamic_scale``: a step whose gradients are not finite changes
    nothing but the scale, and ``metrics["finite"]`` is 0.

    Args:
      loss_fn: see above.
      accumulate: number of parts of a batch.
      reproducible: make the bits independent of ``accumulate``; see above.
      weight: what the mean of a part counts by, which is what ``loss_fn`` divides by: ``"examples"`` for a mean over
        all examples, so that equal parts count alike; otherwise a function of the (part of the) batch, such as
        ``lambda batch: batch["mask"].sum()``. A part of weight 0 counts nothing, even if its loss is not a number.
        Where the batch is not worked on in parts it is not needed.
      policy: dtypes of parameters, computation and results; None leaves all as they are.
      parameters: what the loss function gets in place of the parameters, as a function of them, such as weights rounded
        by `fx_compress.quantization_aware`; gradients pass through it to the parameters.
      clip: scale the gradients such that their global norm is at most this; the norm before is
        ``metrics["grad_norm"]``. [Pascanu et al., "On the difficulty of training recurrent neural networks", 2013]
      trainable: which parameters to train, see `fx_train.step.trainable_mask`; the others stay to the bit, and no
        gradient is computed for them.
      ema: decay of the average of the parameters in the state's ``ema``, such as 0.999; the average keeps its dtype.
      donate: let the new state take the memory of the old one, which cannot be used any more.
      compile: whether to `jax.jit` the function; False for use inside a transform of your own.

    Returns:
      A function ``(state, batch) -> (state, metrics)``. A state is a `fx_train.step.StepState` or any `TrainState` with
      the fields that are needed; a batch is any tree of arrays, such as a graph. To be worked on in parts, its arrays
      need one leading axis, that of the examples; scalars go to all parts.

    Raises:
      ArgumentError: an option makes no sense.
      ArgumentTypeError, DonatedStateError, StateMismatchError, BatchError: by the function, when state, batch,
        optimizer and loss function do not fit.
    """
    if not callable(loss_fn):
        raise invalid_step_option("loss_fn", "a function of parameters and batch", loss_fn)
    if policy is not None and not isinstance(policy, Policy):
        raise invalid_step_option("policy", 'a Policy, such as Policy(compute="bfloat16")', repr(policy))
    if parameters is not None and not callable(parameters):
        raise invalid_step_option("parameters", "a function of the parameters", repr(parameters))
    if type(accumulate) is not int or accumulate < 1:
        raise invalid_step_option("accumulate", "a number of parts, at least 1", accumulate)
    if clip is not None and not (isinstance(clip, int | float) and not isinstance(clip, bool) and clip > 0):
        raise invalid_step_option("clip", "a positive norm", clip)
    if ema is not None and not (isinstance(ema, int | float) and 0 <= ema < 1):
        raise invalid_step_option("ema", "a decay from 0 to below 1", ema)
    weigh = _weighing(weight, needed=accumulate > 1 or reproducible)
    loss = Loss(loss_fn, policy, parameters)

    def train_step(state: TrainState, batch: Any) -> tuple[Any, dict[str, Any]]:
        check_state(state)
        if policy is not None:
            policy.check(state.params)
        mask = None if trainable is None else trainable_mask(state.params, trainable)
        parts = _groups(loss, state, batch, accumulate) if reproducible else accumulate
        grads, metrics, variables = gradients(loss, state, batch, parts=parts, mask=mask, weight=weigh)
        scale, finite = getattr(state, "dynamic_scale", None), None
        if scale is not None:
            finite = all_finite(grads)
            metrics |= {"finite": finite.astype(jnp.float32), "loss_scale": jnp.asarray(scale.scale, jnp.float32)}
        # A search along a line compares losses with their slopes: it has to know the gradients before they are clipped.
        true = optimized(_whole(grads, state.params, mask))
        if clip is not None:
            grads, metrics["grad_norm"] = _clipped(grads, clip, _trained(overwritten(state.params), mask))
        value_fn = loss_of_params(loss, state, batch, parts=parts, mask=mask, weight=weigh)
        told = state.replace(tx=telling(state.tx, metrics["loss"], true, value_fn))
        new = _updated(told, grads, mask, {"variables": variables} if "variables" in loss.wants else {})
        new = new.replace(tx=state.tx)
        if (rate := _learning_rate(new.opt_state)) is not None:
            metrics.setdefault("learning_rate", rate)
        if ema is not None:
            new = new.replace(ema=_averaged(field(state, "ema"), new.params, ema))
        if scale is not None and finite is not None:
            new = jax.tree.map(functools.partial(jnp.where, finite), new, state)
            new = new.replace(dynamic_scale=scale.after(finite))
        return new, metrics

    return CompiledStep(train_step, donate=donate) if compile else train_step


def _weighing(weight: Any, *, needed: bool) -> Weight | None:
    """The function that weighs parts; None for equal weights."""
    if weight == "examples" or (weight is None and not needed):
        return None
    if not callable(weight):
        raise invalid_step_option(
            "weight",
            'what the mean of each part counts by, where a batch is worked on in parts: "examples", or a function',
            repr(weight),
            fix='Give weight="examples" if loss_fn is a mean over all examples; otherwise what it divides by, such as '
            'weight=lambda batch: batch["mask"].sum().',
        )

    def weigh(batch: Any) -> Any:
        share: Any = weight(batch)
        if jnp.shape(share) != ():
            raise invalid_step_option("weight", "a function that gives one number", f"shape {jnp.shape(share)}")
        return share

    return weigh


def _groups(loss: Loss, state: TrainState, batch: Any, accumulate: int) -> int:
    size = batch_size(batch)
    if size == 0 or size % accumulate:
        raise indivisible_batch((size,), accumulate, "equal parts")
    if loss.changes_variables(state, batch):
        raise invalid_step_option(
            "reproducible", "a loss function that leaves its variables as they are", "one that changes them"
        )
    return groups(size)


def _learning_rate(opt_state: Any) -> Any:
    """The rate of an optimizer made by `optax.inject_hyperparams`, if there is one and only one."""
    states = jax.tree.leaves(opt_state, is_leaf=lambda x: hasattr(x, "hyperparams"))
    rates = [s.hyperparams["learning_rate"] for s in states if "learning_rate" in getattr(s, "hyperparams", ())]
    return jnp.asarray(rates[0]) if len(rates) == 1 and jnp.shape(rates[0]) == () else None


def _trained(flags: list[bool], mask: Any) -> list[bool]:
    """Of one flag per parameter those of the trained ones."""
    return flags if mask is None else [flag for flag, yes in zip(flags, jax.tree.leaves(mask)) if yes]


def _clipped(grads: list[jax.Array], limit: float, kept: list[bool]) -> tuple[list[jax.Array], jax.Array]:
    """Gradients clipped by their norm, but for those that are new values."""
    true = [g for g, keep in zip(grads, kept) if not keep]
    squares = [jnp.sum(jnp.square(jnp.abs(g.astype(jnp.promote_types(g.dtype, jnp.float32))))) for g in true]
    norm = jnp.sqrt(sum(squares))
    # Not norm > limit: a norm that is not a number must not pass for one that is small.
    factor = jnp.where(norm <= limit, 1.0, limit / norm)
    return [g if keep else (g * factor).astype(g.dtype) for g, keep in zip(grads, kept)], norm


def _whole(grads: list[Any], params: Any, mask: Any, zeros: Callable[[Any], Any] = jnp.zeros_like) -> Any:
    """Gradients of all parameters, which are 0 for the frozen ones."""
    if mask is None:
        return jax.tree.structure(params).unflatten(grads)
    return split_params(jax.tree.map(zeros, params), mask)[1](grads)


def _no_gradient(x: Any) -> Any:
    """The gradient of a frozen parameter as JAX has it: whole numbers have none, and no update may move them."""
    inexact = jnp.issubdtype(jnp.result_type(x), jnp.inexact)
    return jnp.zeros_like(x) if inexact else np.zeros(jnp.shape(x), jax.dtypes.float0)


def _updated(state: TrainState, grads: list[Any], mask: Any, changes: dict[str, Any]) -> Any:
    new = state.apply_gradients(grads=_whole(grads, state.params, mask, _no_gradient), **changes)
    if mask is None:
        return new
    # Weight decay and the like move parameters without gradients, too; frozen ones stay.
    kept = jax.tree.map(lambda yes, after, before: after if yes else before, mask, new.params, state.params)
    return new.replace(params=kept)


def _averaged(average: Any, params: Any, decay: float) -> Any:
    def mean(old: jax.Array, new: jax.Array) -> jax.Array:
        if not jnp.issubdtype(old.dtype, jnp.inexact):
            return new
        wide = jnp.promote_types(old.dtype, jnp.float32)
        return (old.astype(wide) * decay + new.astype(wide) * (1 - decay)).astype(old.dtype)

    return jax.tree.map(mean, average, params)
