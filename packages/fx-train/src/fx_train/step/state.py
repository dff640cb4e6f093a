"""The state of a step with everything that `make_train_step` can keep."""

from collections.abc import Callable
from typing import Any, Self

import jax
import jax.numpy as jnp
import optax

from fx_train.dynamic_scale import DynamicScale
from fx_train.errors import invalid_step_option
from fx_train.train_state import TrainState

__all__ = ["StepState"]


class StepState(TrainState):
    """A `TrainState` with what a step may need besides parameters and optimizer.

    >>> state = StepState.create(apply_fn=None, params={"w": jnp.ones(2)}, tx=optax.sgd(0.1), ema=True)
    >>> state.ema["w"].tolist(), state.key is None
    ([1.0, 1.0], True)

    Attributes:
      variables: other collections, such as ``{"batch_stats": ...}``.
      key: a random key; each step folds its number into it.
      ema: the exponential moving average of the parameters.
      dynamic_scale: the loss scale.
    """

    variables: Any = None
    key: jax.Array | None = None
    ema: Any = None
    dynamic_scale: DynamicScale | None = None

    @classmethod
    def create(
        cls,
        *,
        apply_fn: Callable[..., Any] | None = None,
        params: Any,
        tx: optax.GradientTransformation,
        ema: bool = False,
        **kwargs: Any,
    ) -> Self:
        """Creates a state at step 0.

        Args:
          apply_fn: the network's function, for whoever wants it with the state.
          params: the parameters.
          tx: the optimizer.
          ema: whether to keep an average of the parameters, which begins with them. Those narrower than float32 are
            averaged in float32, where what a step adds is not lost to rounding; a tree of other dtypes can be put in
            place by ``state.replace(ema=...)``.
          **kwargs: ``variables``, ``key``, ``dynamic_scale`` and the fields of a subclass.

        Raises:
          ArgumentError: ``ema`` is a number: the decay is an option of `make_train_step`.
        """
        if not isinstance(ema, bool):
            expected = "True or False; make_train_step has the decay"
            raise invalid_step_option("ema", expected, ema, where=f"{cls.__name__}.create")
        average = jax.tree.map(_average_of, params) if ema else None
        state = super().create(apply_fn=apply_fn, params=params, tx=tx, ema=average, **kwargs)  # pyright: ignore[reportArgumentType]
        # Arrays from the start: Python numbers would have the second step compile anew.
        scale = state.dynamic_scale
        if scale is not None:
            scale = scale.replace(fin_steps=jnp.int32(scale.fin_steps), scale=jnp.float32(scale.scale))
        return state.replace(step=jnp.int32(0), dynamic_scale=scale)


def _average_of(x: Any) -> jax.Array:
    # A copy, since a donated state may not hold one buffer twice.
    inexact = jnp.issubdtype(jnp.result_type(x), jnp.inexact)
    return jnp.array(x, jnp.promote_types(jnp.result_type(x), jnp.float32) if inexact else None, copy=True)
