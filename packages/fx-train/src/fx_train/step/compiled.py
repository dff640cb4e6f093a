"""The compiled training step: what it decides at its first call, and what it does about arrays that are there twice."""

from collections.abc import Callable
from typing import Any

import jax
import jax.core
import jax.numpy as jnp

from fx_train.errors import DonatedStateError, LossNotMeanError, NotAStateError
from fx_train.step.loss import Loss, Weight
from fx_train.step.mean import together_and_apart


class CompiledStep:
    """A training step compiled by `jax.jit`: in the parts that were asked for, or in groups that give the same bits.

    Which of both, and whether the loss can be had in parts, is found out at the first call, on a few examples.
    """

    def __init__(
        self,
        step_by: Callable[[bool, Any, Any], Any],
        loss: Loss,
        *,
        accumulate: int,
        reproducible: bool | None,
        weight: Weight | None,
        check_mean: bool,
        donate: bool,
    ):
        self._loss, self._weight, self._check, self._donate = loss, weight, check_mean, donate
        self._accumulate, self._reproducible = accumulate, reproducible

        def train_step_in_parts(state: Any, batch: Any) -> Any:
            return step_by(False, state, batch)

        def train_step_in_groups(state: Any, batch: Any) -> Any:
            return step_by(True, state, batch)

        # Two functions, so that what was traced for one choice cannot serve the other.
        both = train_step_in_parts, train_step_in_groups
        self._steps = [jax.jit(each, donate_argnums=(0,) if donate else ()) for each in both]
        self._chosen: Any = None

    def __call__(self, state: Any, batch: Any) -> Any:
        """The new state and the metrics."""
        if self._chosen is None:
            chosen = self._choose(state, batch)
            if self._donate:
                state = _own_buffers(state, batch)
            return chosen(state, batch)
        try:
            return self._chosen(state, batch)
        except (RuntimeError, ValueError) as error:
            # What is said of memory that is gone, or given up twice, depends on the version of JAX.
            if not self._donate or not any(word in str(error) for word in ("donate", "deleted")):
                raise
            _check_there(state, error)
            if "donate" not in str(error):
                raise
            return self._chosen(jax.tree.map(_copy, state), batch)

    def lower(self, state: Any, batch: Any) -> Any:
        """`lower` of the function that `jax.jit` made, for a look at the program."""
        return (self._chosen or self._choose(state, batch)).lower(state, batch)

    def _choose(self, state: Any, batch: Any) -> Any:
        check_state(state)
        _check_there(state)
        if not all(_is_concrete(leaf) for leaf in jax.tree.leaves((state, batch))):
            return self._steps[bool(self._reproducible)]
        self._chosen = self._steps[self._in_groups(state, batch)]
        return self._chosen

    def _in_groups(self, state: Any, batch: Any) -> bool:
        exact = self._reproducible or (self._reproducible is None and _is_double(state.params))
        if not exact and (self._accumulate == 1 or not self._check):
            return False
        if self._loss.changes_variables(state, batch):
            # Statistics of a part are not those of the batch; `reproducible=True` is refused by the step itself.
            return bool(self._reproducible)
        found = together_and_apart(self._loss, state, batch, self._weight) if self._check else None
        if found is not None and not found[0] and (self._accumulate > 1 or self._reproducible):
            raise LossNotMeanError(found[1], found[2], random="key" in self._loss.wants)
        return bool(exact and (self._reproducible or (found is not None and found[0])))


def check_state(state: Any) -> None:
    """See that a state is one.

    Raises:
      NotAStateError: it is not.
    """
    # By what it has, since a state of somebody else's will do.
    if not all(hasattr(state, name) for name in ("params", "tx", "opt_state", "apply_gradients", "replace")):
        raise NotAStateError(type(state).__name__)


def _check_there(state: Any, cause: Exception | None = None) -> None:
    for path, leaf in jax.tree_util.tree_leaves_with_path(state):
        if isinstance(leaf, jax.Array) and _is_concrete(leaf) and leaf.is_deleted():
            raise DonatedStateError(jax.tree_util.keystr(path)) from cause


def _is_concrete(leaf: Any) -> bool:
    return not isinstance(leaf, jax.core.Tracer | jax.ShapeDtypeStruct)


def _is_double(params: Any) -> bool:
    return any(jnp.result_type(leaf) in (jnp.float64, jnp.complex128) for leaf in jax.tree.leaves(params))


def _copy(leaf: Any) -> Any:
    return jnp.copy(leaf) if isinstance(leaf, jax.Array) else leaf


def _own_buffers(state: Any, batch: Any) -> Any:
    """The state with a copy in place of each array that is in it, or in the batch, already: memory is given up once."""
    seen = {id(leaf) for leaf in jax.tree.leaves(batch)}

    def own(leaf: Any) -> Any:
        if not isinstance(leaf, jax.Array):
            return leaf
        if id(leaf) in seen:
            return jnp.copy(leaf)
        seen.add(id(leaf))
        return leaf

    return jax.tree.map(own, state)
