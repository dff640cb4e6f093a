"""Which parameters are trained."""

from collections.abc import Callable
from typing import Any

import jax
import optax

from fx_train.errors import StateMismatchError

__all__ = ["Trainable", "trainable_mask", "trainable_only"]

Trainable = Callable[[tuple[str, ...], Any], bool] | Any
"""A function of path and array, a type of variables, or a tree of booleans, of which one may stand for a subtree."""


def trainable_mask(params: Any, trainable: Trainable) -> Any:
    """Returns for every parameter whether it is trained.

    >>> params = {"encoder": {"w": 1.0}, "head": {"w": 2.0, "b": 3.0}}
    >>> trainable_mask(params, lambda path, _: path[0] == "head")
    {'encoder': {'w': False}, 'head': {'b': True, 'w': True}}
    >>> trainable_mask(params, {"encoder": False, "head": True})["head"]
    {'b': True, 'w': True}

    Args:
      params: a tree of arrays.
      trainable: a function of the path (names, as strings) and the array that says yes or no; or a tree of booleans
        like ``params``, in which one may stand for a whole subtree. Where arrays are in variables of fx-nnx, the
        function gets those, so that its filters, such as ``nnx.Trainable()``, and types of variables say it as well.

    Returns:
      A tree like ``params`` of booleans.

    Raises:
      StateMismatchError: the tree of booleans does not fit, or nothing would be trained.
    """
    if isinstance(trainable, type) or callable(trainable):

        def choose(path: Any, x: Any) -> Any:
            if isinstance(trainable, type):
                yes = isinstance(x, trainable)
            else:
                # Filters of fx-nnx know paths as the modules have them, with numbers for places in lists.
                yes = bool(trainable(_keys(path) if hasattr(trainable, "parts") else _names(path), x))
            return jax.tree.map(lambda _: yes, x)

        mask = jax.tree_util.tree_map_with_path(choose, params, is_leaf=_is_variable)
    else:
        if not all(isinstance(leaf, bool) for leaf in jax.tree.leaves(trainable)):
            raise _invalid_mask("The mask holds something else than booleans.", jax.tree.structure(params), trainable)
        try:
            mask = jax.tree.map(lambda yes, part: jax.tree.map(lambda _: yes, part), trainable, params)
        except (ValueError, TypeError):
            raise _invalid_mask(
                "The mask does not fit the parameters.", jax.tree.structure(params), jax.tree.structure(trainable)
            ) from None
    if not any(jax.tree.leaves(mask)):
        raise _invalid_mask("No parameter would be trained.", "at least one True", "only False")
    return mask


def trainable_only(tx: optax.GradientTransformation, trainable: Trainable) -> optax.GradientTransformation:
    """Lets an optimizer see only the parameters that are trained, so that it keeps no state for the others.

    `make_train_step` leaves frozen parameters as they are with any optimizer; this saves the memory of its state.

    >>> tx = trainable_only(optax.adam(0.1), {"encoder": False, "head": True})
    >>> state = tx.init({"encoder": jax.numpy.ones((8, 8)), "head": jax.numpy.ones(2)})
    >>> sum(leaf.size for leaf in jax.tree.leaves(state))
    5
    """

    def frozen(params: Any) -> Any:
        return jax.tree.map(lambda yes: not yes, trainable_mask(params, trainable))

    return optax.chain(
        # What the optimizer is told of gradients beside its own is masked alike.
        optax.masked(tx, lambda params: trainable_mask(params, trainable), mask_compatible_extra_args=True),
        optax.masked(optax.set_to_zero(), frozen),
    )


def split_params(params: Any, mask: Any | None) -> tuple[list[Any], Callable[[list[Any]], Any]]:
    """Returns the trained leaves, and a function that puts leaves of their kind among the frozen ones."""
    leaves, structure = jax.tree.flatten(params)
    chosen = [True] * len(leaves) if mask is None else jax.tree.leaves(mask)

    def join(trained: list[Any]) -> Any:
        source = iter(trained)
        return structure.unflatten([next(source) if yes else leaf for yes, leaf in zip(chosen, leaves)])

    return [leaf for yes, leaf in zip(chosen, leaves) if yes], join


def _keys(path: tuple[Any, ...]) -> tuple[Any, ...]:
    names = ("key", "idx", "name")
    return tuple(next((getattr(entry, name) for name in names if hasattr(entry, name)), entry) for entry in path)


def _is_variable(x: Any) -> bool:
    """Whether something is a variable of fx-nnx, which this package does not know: a box with metadata."""
    return hasattr(type(x), "get_metadata") and hasattr(type(x), "get_value")


def _names(path: tuple[Any, ...]) -> tuple[str, ...]:
    return tuple(jax.tree_util.keystr((entry,), simple=True) for entry in path)


def _invalid_mask(what: str, expected: object, got: object) -> StateMismatchError:
    return StateMismatchError(
        what,
        expected=expected,
        got=got,
        fix="Give a tree of booleans like the parameters (or of its subtrees), or a function of path and array.",
    )
