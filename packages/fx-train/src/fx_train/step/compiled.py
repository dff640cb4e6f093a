"""The compiled training step, and what it does about arrays that are there twice."""

from collections.abc import Callable
from typing import Any

import jax
import jax.core
import jax.numpy as jnp
from fx_core.errors import ArgumentTypeError

from fx_train.errors import DonatedStateError


class CompiledStep:
    """A training step compiled by `jax.jit`, whose state may hold an array twice, and which says when it was used up.

    Args:
      train_step: the function.
      donate: whether the new state takes the memory of the old one.
    """

    def __init__(self, train_step: Callable[[Any, Any], Any], *, donate: bool):
        self._donate, self._begun = donate, False
        self._step = jax.jit(train_step, donate_argnums=(0,) if donate else ())

    def __call__(self, state: Any, batch: Any) -> Any:
        """Returns the new state and the metrics."""
        if not self._begun:
            check_state(state)
            _check_there(state)
            if all(_is_concrete(leaf) for leaf in jax.tree.leaves((state, batch))):
                self._begun = True
                state = _own_buffers(state, batch) if self._donate else state
        try:
            return self._step(state, batch)
        except (RuntimeError, ValueError) as error:
            # What is said of memory that is gone, or given up twice, depends on the version of JAX.
            if not self._donate or not any(word in str(error) for word in ("donate", "deleted")):
                raise
            _check_there(state, error)
            if "donate" not in str(error):
                raise
            return self._step(jax.tree.map(_copy, state), batch)

    def lower(self, state: Any, batch: Any) -> Any:
        """`lower` of the function that `jax.jit` made, for a look at the program."""
        check_state(state)
        return self._step.lower(state, batch)


def check_state(state: Any) -> None:
    """Checks that a state is one.

    Raises:
      ArgumentTypeError: it is not.
    """
    # By what it has, since a state of somebody else's will do.
    if not all(hasattr(state, name) for name in ("params", "tx", "opt_state", "apply_gradients", "replace")):
        raise ArgumentTypeError(
            "A training step updates a state by a batch.",
            expected="train_step(state, batch) with a StepState, or another TrainState",
            got=f"a {type(state).__name__} as state",
            fix="Make one: StepState.create(params=params, tx=tx).",
        )


def _check_there(state: Any, cause: Exception | None = None) -> None:
    for path, leaf in jax.tree_util.tree_leaves_with_path(state):
        if isinstance(leaf, jax.Array) and _is_concrete(leaf) and leaf.is_deleted():
            raise DonatedStateError(
                "The state was used up by an earlier step.",
                path=jax.tree_util.keystr(path),
                expected="the state that the last step gave",
                got="one whose memory that step took (donation)",
                fix="Go on with the new state: state, metrics = train_step(state, batch). To keep the old one, copy it "
                "first or pass donate=False to make_train_step.",
            ) from cause


def _is_concrete(leaf: Any) -> bool:
    return not isinstance(leaf, jax.core.Tracer | jax.ShapeDtypeStruct)


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
