"""What optimizers get besides gradients: the loss, its gradient, and the loss as a function of the parameters."""

import functools
import inspect
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax

from fx_train.step.accumulate import in_parts
from fx_train.step.gradients import average
from fx_train.step.loss import Loss, Weight
from fx_train.train_state import TrainState, optimized, with_optimized


def telling(tx: Any, value: jax.Array, grads: Any, value_fn: Callable[..., jax.Array]) -> Any:
    """Returns an optimizer whose update gets the arguments that it has parameters for.

    Args:
      tx: the optimizer.
      value: the loss.
      grads: the gradients of the loss, in the form in which the optimizer sees the parameters.
      value_fn: the loss of such parameters, for searches along a line (`optax.lbfgs`).

    Returns:
      The optimizer; only its ``update`` is of use.
    """
    # optax.contrib.sophia calls it obj_fn. Line searches refuse what is told beside and value_fn has no parameter for.
    known = {"value": value, "grad": grads, "value_fn": value_fn, "obj_fn": value_fn}
    parameters = inspect.signature(tx.update).parameters
    if not any(each.kind is inspect.Parameter.VAR_KEYWORD for each in parameters.values()):
        known = {name: each for name, each in known.items() if name in parameters}
    if "grad_fn" in parameters:  # optax.contrib.sam
        known["grad_fn"] = lambda params, _: jax.tree.map(jnp.conj, jax.grad(value_fn)(params))
    return optax.GradientTransformation(tx.init, functools.partial(tx.update, **known))


def loss_of_params(
    loss: Loss, state: TrainState, batch: Any, *, parts: int, mask: Any, weight: Weight | None
) -> Callable[..., jax.Array]:
    """Returns the loss of a batch as a function of what the optimizer sees of the parameters, at this step's key.

    It works in the parts in which the gradients were computed, and keeps nothing of one for another; what the loss
    would change in the variables is dropped. Frozen parameters have no gradient.
    """
    key, first = loss.inputs(state)

    @jax.checkpoint
    def compute(params: Any, batch: Any, key: Any, variables: Any) -> tuple[jax.Array, Any]:
        value, _, variables = loss(params, batch, key, variables)
        return value, variables

    def value_fn(params: Any, obj_fn: Any = None) -> jax.Array:
        params = with_optimized(state.params, _filled(params, optimized(state.params)))
        if mask is not None:
            params = jax.tree.map(lambda yes, x: x if yes else jax.lax.stop_gradient(x), mask, params)

        def part(carry: tuple[Any, Any], batch: Any) -> tuple[Any, Any, Any]:
            index, variables = carry
            own_key = jax.random.fold_in(key, index) if key is not None and parts > 1 else key
            value, variables = compute(params, batch, own_key, variables)
            share = None
            if weight is not None and parts > 1:
                share = jnp.asarray(weight(batch), jnp.promote_types(value.dtype, jnp.float32))
            return (index + 1, variables), (), (value, share)

        _, _, (values, shares) = in_parts(part, (jnp.int32(0), first), batch, parts)
        return average(values, weights=shares, total=parts if shares is None else jnp.sum(shares))

    return value_fn


def _filled(params: Any, own: Any) -> Any:
    """Parameters of which a masked optimizer sees only some, with the state's own for the others."""

    def is_masked(x: Any) -> bool:
        return isinstance(x, optax.MaskedNode)

    return jax.tree.map(lambda new, old: old if is_masked(new) else new, params, own, is_leaf=is_masked)
