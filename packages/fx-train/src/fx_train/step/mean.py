"""Finds out by trial whether a loss is a mean over examples, so that the parts of a batch can stand for the whole."""

import logging
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from fx_core.errors import FxError

from fx_train.step.accumulate import batch_size
from fx_train.step.loss import Loss, Weight
from fx_train.train_state import TrainState

logger = logging.getLogger("fx.train")

_MOST = 4


def together_and_apart(
    loss: Loss, state: TrainState, batch: Any, weight: Weight | None
) -> tuple[bool, float, float] | None:
    """Compare the loss of a few examples together with the mean of the losses of their two halves.

    Random losses differ between the two, so for those that take a key it is compared, at one key, how the loss changes
    when one half is exchanged, beside this half and beside that: in a mean of examples the neighbours do not matter.
    That does not tell a sum from a mean.

    Returns:
      Whether both are equal as far as rounding allows, and the two values; None where the examples are too few, or the
      loss is not finite or cannot be computed for so few.
    """
    half = min(_MOST, batch_size(batch) // 2)
    if half == 0:
        return None
    compare = _neighbours if "key" in loss.wants else _halves

    @jax.jit
    def run(params: Any, inputs: Any, batch: Any) -> Any:
        one, two = (jax.tree.map(lambda x, at=at: x[at : at + half], batch) for at in (0, half))
        return compare(lambda batch: loss(params, batch, *inputs)[0], weight, one, two)

    try:
        values = run(state.params, loss.inputs(state), batch)
        together, apart, size = (float(x) for x in values)
    except FxError:
        raise
    except Exception as error:
        logger.debug("the loss of %d examples could not be computed: %s", half, error)
        return None
    if not np.isfinite([together, apart]).all():
        return None
    tolerance, least = (1e-4, 1e-12) if values[0].dtype == jnp.float64 else (0.02, 1e-6)
    return abs(together - apart) <= tolerance * size + least, together, apart


def _halves(value: Callable[[Any], jax.Array], weight: Weight | None, one: Any, two: Any) -> Any:
    values = [value(batch) for batch in (_joined(one, two), one, two)]
    shares = [1.0, 1.0] if weight is None else [jnp.asarray(weight(batch), values[0].dtype) for batch in (one, two)]
    apart = (values[1] * shares[0] + values[2] * shares[1]) / (shares[0] + shares[1])
    return values[0], apart, jnp.max(jnp.abs(jnp.stack(values)))


def _neighbours(value: Callable[[Any], jax.Array], weight: Weight | None, one: Any, two: Any) -> Any:
    values = []
    for pair in ((one, two), (two, one), (one, one), (two, two)):
        batch = _joined(*pair)
        # What a half adds to the sum is its own only if the mean is made a sum again.
        values.append(value(batch) if weight is None else value(batch) * jnp.asarray(weight(batch)))
    return values[0] + values[1], values[2] + values[3], jnp.max(jnp.abs(jnp.stack(values)))


def _joined(one: Any, two: Any) -> Any:
    return jax.tree.map(lambda a, b: jnp.concatenate([a, b]), one, two)
