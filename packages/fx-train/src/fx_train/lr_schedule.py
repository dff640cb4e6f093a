"""Learning rate schedules in epochs, as functions of the step.

`optax` has more of them, in steps; these are for programs that were written for Flax and count in epochs.
"""

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from fx_core.compat.jax import weakly_typed
from fx_core.errors import ArgumentError

__all__ = [
    "create_constant_learning_rate_schedule",
    "create_cosine_learning_rate_schedule",
    "create_stepped_learning_rate_schedule",
]

Schedule = Callable[[Any], Any]


def create_constant_learning_rate_schedule(
    base_learning_rate: float, steps_per_epoch: int, warmup_length: float = 0.0
) -> Schedule:
    """Returns a constant rate, after a linear rise from 0 during the first epochs.

    >>> schedule = create_constant_learning_rate_schedule(0.5, steps_per_epoch=10, warmup_length=1.0)
    >>> [round(float(schedule(step)), 3) for step in (0, 5, 10, 90)]
    [0.0, 0.25, 0.5, 0.5]

    Args:
      base_learning_rate: the rate after the rise.
      steps_per_epoch: steps of an epoch.
      warmup_length: epochs that the rise takes.

    Returns:
      A function of the step (an int or an array) that gives the rate, float32 of the step's shape; it traces. The rate
      has JAX's weak type, as a Python number: ``param - rate * grad`` has the dtype of the parameter.

    Raises:
      ArgumentError: an argument is negative, or an epoch has no steps.
    """
    _check(steps_per_epoch, warmup_length)

    def schedule(step: Any) -> Any:
        return _warmed_up(base_learning_rate, step / steps_per_epoch, warmup_length)

    return schedule


def create_stepped_learning_rate_schedule(
    base_learning_rate: float,
    steps_per_epoch: int,
    lr_sched_steps: Sequence[Sequence[float]],
    warmup_length: float = 0.0,
) -> Schedule:
    """Returns a rate that changes by factors after given epochs.

    >>> schedule = create_stepped_learning_rate_schedule(1.0, 10, [(2, 0.1), (4, 0.01)])
    >>> [round(float(schedule(step)), 3) for step in (20, 21, 40, 41)]
    [1.0, 0.1, 0.1, 0.01]

    Args:
      base_learning_rate: the rate at first.
      steps_per_epoch: steps of an epoch.
      lr_sched_steps: pairs (epoch, factor), epochs rising: from the step after that epoch's first on, the rate is the
        first one times ``factor``. Parts of epochs are rounded to steps.
      warmup_length: epochs of a linear rise from 0.

    Returns:
      A function of the step, as of `create_constant_learning_rate_schedule`.

    Raises:
      ArgumentError: the pairs are no pairs or not in order, or another argument makes no sense.
    """
    _check(steps_per_epoch, warmup_length)
    pairs = [tuple(pair) for pair in lr_sched_steps]
    if any(len(pair) != 2 for pair in pairs):
        raise _invalid_schedule("lr_sched_steps", "pairs (epoch, factor)", lr_sched_steps)
    if [pair[0] for pair in pairs] != sorted(pair[0] for pair in pairs):
        raise _invalid_schedule("lr_sched_steps", "pairs whose epochs rise", lr_sched_steps)
    boundaries = np.array([round(epoch * steps_per_epoch) for epoch, _ in pairs], np.int32)
    factors = jnp.array([1.0, *(factor for _, factor in pairs)])

    def schedule(step: Any) -> Any:
        rate = base_learning_rate * factors[jnp.searchsorted(boundaries, step)]
        return _warmed_up(rate, step / steps_per_epoch, warmup_length)

    return schedule


def create_cosine_learning_rate_schedule(
    base_learning_rate: float, steps_per_epoch: int, halfcos_epochs: float, warmup_length: float = 0.0
) -> Schedule:
    """Returns a rate that falls to 0 along half a cosine, from the first step on, with a linear rise of its scale.

    After ``halfcos_epochs`` the cosine goes on, so the rate rises again. [Loshchilov and Hutter, "SGDR: Stochastic
    Gradient Descent with Warm Restarts", 2017]

    >>> schedule = create_cosine_learning_rate_schedule(1.0, steps_per_epoch=10, halfcos_epochs=4)
    >>> [round(float(schedule(step)), 3) for step in (0, 20, 40)]
    [1.0, 0.5, 0.0]

    Args:
      base_learning_rate: the rate at the first step.
      steps_per_epoch: steps of an epoch.
      halfcos_epochs: epochs until the rate is 0.
      warmup_length: epochs of a linear rise from 0.

    Returns:
      A function of the step, as of `create_constant_learning_rate_schedule`.

    Raises:
      ArgumentError: an argument is negative, or one that divides is 0.
    """
    _check(steps_per_epoch, warmup_length)
    if halfcos_epochs <= 0:
        raise _invalid_schedule("halfcos_epochs", "a positive number of epochs", halfcos_epochs)
    steps = halfcos_epochs * steps_per_epoch

    def schedule(step: Any) -> Any:
        rate = base_learning_rate * 0.5 * (1 + jnp.cos(jnp.pi * step / steps))
        return _warmed_up(rate, step / steps_per_epoch, warmup_length)

    return schedule


def _check(steps_per_epoch: int, warmup_length: float) -> None:
    if steps_per_epoch <= 0:
        raise _invalid_schedule("steps_per_epoch", "a positive number of steps", steps_per_epoch)
    if warmup_length < 0:
        raise _invalid_schedule("warmup_length", "a number of epochs, not negative", warmup_length)


def _warmed_up(rate: Any, epoch: Any, length: float) -> jax.Array:
    scale = jnp.minimum(1.0, epoch / length) if length > 0 else 1.0
    return weakly_typed(jnp.asarray(rate * scale, jnp.float32))


def _invalid_schedule(argument: str, expected: str, got: object) -> ArgumentError:
    return ArgumentError(f"The schedule's {argument} makes no sense.", expected=expected, got=repr(got))
