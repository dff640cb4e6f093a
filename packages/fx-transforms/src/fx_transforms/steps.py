"""A loop over steps with shared results: the core of every scan."""

import numbers
from collections.abc import Callable, Sequence
from typing import Any

import jax
from fx_core.compat.jax import evaluate_jaxpr, invariant_outputs
from fx_core.errors import FxError

from fx_transforms.carrier import Static
from fx_transforms.errors import BroadcastVariableError, CarryChangedError

__all__ = ["Namer", "Trial", "carry_changed", "differences", "hide_static", "loop_steps", "show_static"]

Namer = Callable[[tuple[Any, ...]], str]
"""Gives a leaf, by its path, the name that messages use."""

Step = Callable[[Any, Any, Any], tuple[Any, Any, Any]]


def loop_steps(
    step: Step,
    known: Any,
    init: Any,
    xs: Any,
    *,
    again: Callable[[Any], Any] | None,
    transform: str,
    name_shared: Namer,
    name_carry: Namer,
    **options: Any,
) -> tuple[Any, Any, Any]:
    """Runs ``step(known, carry, x) -> (shared, carry, y)`` over the leading axis of ``xs``.

    Args:
      step: the body.
      known: what all steps see.
      init: the first carry, see `hide_static`.
      xs: arrays to cut along their first axis.
      again: where ``shared`` has leaves: the body is traced before the loop, the leaves are computed once, and then
        ``again(shared)`` gives the ``known`` of the loop, or `None` if that trace will do for the loop. Without it,
        ``shared`` comes back as `None`.
      transform: name for messages.
      name_shared: names leaves of ``shared``.
      name_carry: names leaves of the carry.
      **options: of `jax.lax.scan`.

    Returns:
      ``(shared, carry, ys)``.

    Raises:
      BroadcastVariableError: a leaf of ``shared`` depends on the step.
      CarryChangedError: the carry changes its structure, shapes or dtypes.
    """
    seen: list[tuple[Any, Any]] = []
    shared, reused = None, None
    if again is not None:
        trial = Trial(step, known, init, jax.tree.map(_row, xs))
        shared = trial.shared(transform, name_shared)
        known = again(shared)
        reused = trial.body if known is None else None
        seen.append((jax.tree.map(jax.typeof, init), trial.shapes[1]))

    def body(carry: Any, x: Any) -> Any:
        _, carry_out, y = step(known, carry, x)
        seen.append((jax.tree.map(jax.typeof, carry), jax.tree.map(jax.typeof, carry_out)))
        return carry_out, y

    if not isinstance(options.get("length", 0), numbers.Integral):
        # A free size of an export is no argument for JAX, which finds it in what is scanned.
        options = {**options, "length": None}
    try:
        carry, ys = jax.lax.scan(reused or body, init, xs, **options)
    except TypeError as error:
        changed = None if isinstance(error, FxError) else carry_changed(transform, seen, name_carry)
        if changed is None:
            raise
        raise changed from error
    return shared, carry, ys


class Trial:
    """A trace of a body before its loop.

    Attributes:
      shapes: shapes of ``(shared, carry, y)``.
    """

    def __init__(self, step: Step, known: Any, carry: Any, x: Any):
        self._known = jax.tree.leaves(known)
        self._jaxpr, self.shapes = jax.make_jaxpr(step, return_shape=True)(known, carry, x)

    def shared(self, transform: str, name: Namer) -> Any:
        """Computes the shared results, before the loop."""
        paths, treedef = jax.tree_util.tree_flatten_with_path(self.shapes[0])
        values = invariant_outputs(self._jaxpr, self._known, len(paths)) if paths else []
        varying = [name(path) for (path, _), (invariant, _) in zip(paths, values) if not invariant]
        if varying:
            raise BroadcastVariableError(transform, varying)
        return jax.tree.unflatten(treedef, [value for _, value in values])

    def body(self, carry: Any, x: Any) -> Any:
        """Returns the body, from its trace."""
        out = evaluate_jaxpr(self._jaxpr, *self._known, *jax.tree.leaves((carry, x)))
        _, carry_out, y = jax.tree.unflatten(jax.tree.structure(self.shapes), out)
        return carry_out, y


def _row(x: Any) -> jax.ShapeDtypeStruct:
    kind = jax.typeof(x)
    return jax.ShapeDtypeStruct(kind.shape[1:], kind.dtype)


def carry_changed(transform: str, seen: Sequence[tuple[Any, Any]], name: Namer) -> CarryChangedError | None:
    """Returns what is wrong with a carry that JAX refuses, by the shapes before and after each trace of a step."""
    found = [text for before, after in seen for text in differences(before, after, name)]
    return CarryChangedError(transform, list(dict.fromkeys(found))) if found else None


def differences(before: Any, after: Any, name: Namer, labels: tuple[str, str] = ("in", "out")) -> list[str]:
    """Returns how two trees of shapes differ, a text per leaf."""
    old, new = (dict(_described(tree)) for tree in (before, after))
    texts: list[str] = []
    for path in dict.fromkeys((*old, *new)):
        left, right = old.get(path), new.get(path)
        if left != right:
            texts.append(f"{name(path)}: {left or 'absent'} {labels[0]}, {right or 'absent'} {labels[1]}")
    return texts


def _described(tree: Any) -> list[tuple[tuple[Any, ...], str]]:
    leaves = jax.tree_util.tree_leaves_with_path(tree, is_leaf=lambda x: isinstance(x, Static))
    return [(path, repr(x.value) if isinstance(x, Static) else f"{x.dtype}{list(x.shape)}") for path, x in leaves]


class _Kept(Static):
    """A leaf of a carry. Equal ones are the same; what has no hash is distinguished by its type only."""

    __slots__ = ()

    def __hash__(self) -> int:
        try:
            return super().__hash__()
        except TypeError:
            return hash(type(self.value))


class _KeptReference(_Kept):
    """A `jax.Ref` in a carry: loops of JAX do not hand references on, but their steps may see them from outside."""

    __slots__ = ()

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _KeptReference) and self.value is other.value

    def __hash__(self) -> int:
        return id(self.value)


def hide_static(tree: Any) -> Any:
    """Returns a tree whose leaves loops of JAX can carry: others, references among them, move into the structure.

    >>> jax.tree.leaves(hide_static((1.0, "relu")))
    [1.0]
    >>> show_static(hide_static((1.0, "relu")))
    (1.0, 'relu')
    """
    leaves, treedef = jax.tree.flatten(tree)
    return jax.tree.unflatten(treedef, [x if isinstance(x, jax.Array) else _hidden(x) for x in leaves])


def _hidden(x: Any) -> Any:
    if isinstance(x, jax.Ref):
        return _KeptReference(x)
    if isinstance(x, (bool, int, float, complex)) or (hasattr(x, "dtype") and not isinstance(x, type)):
        return x
    try:
        jax.typeof(x)
    except TypeError:  # texts, functions, types
        return _Kept(x)
    return x


def show_static(tree: Any) -> Any:
    """Undoes `hide_static`."""
    leaves, treedef = jax.tree.flatten(tree, is_leaf=_is_kept)
    return jax.tree.unflatten(treedef, [x.value if isinstance(x, _Kept) else x for x in leaves])


def _is_kept(x: Any) -> bool:
    return isinstance(x, _Kept)
