"""Values and gradients in the middle of a network."""

from collections.abc import Callable
from typing import Any, TypeVar

import jax
import jax.numpy as jnp
from fx_core.errors import ArgumentError, NameInUseError

from fx_linen.module._base import where
from fx_linen.module._variables import VariableAccess, bound_scope

__all__ = ["Sowing"]

T = TypeVar("T")


def _reserve(module: VariableAccess, collection: str, name: str) -> None:
    scope = bound_scope(module, "store variables")
    if scope.name_reserved(name, collection):
        raise NameInUseError("variable", name, where(module))
    scope.reserve(name, collection)
    module._state.children[name] = collection


class Sowing(VariableAccess):
    """Collecting values, and adding what gradients with respect to values need."""

    def sow(
        self,
        col: str,
        name: str,
        value: Any,
        reduce_fn: Callable[[Any, Any], Any] = lambda xs, x: (*xs, x),
        init_fn: Callable[[], Any] = lambda: (),
    ) -> bool:
        """Stores a value in a collection, if the caller asked for the collection.

        By default the values of all calls are collected in a tuple.

        Args:
          col: the collection, usually ``"intermediates"``.
          name: the variable.
          value: what to store.
          reduce_fn: called as ``reduce_fn(previous, value)``.
          init_fn: makes the first ``previous``.

        Returns:
          Whether the value was stored.

        >>> import jax.numpy as jnp
        >>> import fx_linen as nn
        >>> class Square(nn.Module):
        ...     def __call__(self, x):
        ...         self.sow("intermediates", "seen", x)
        ...         return x * x
        >>> y, state = Square().apply({}, 3.0, mutable=["intermediates"])
        >>> state["intermediates"]["seen"]
        (3.0,)
        """
        scope = bound_scope(self, "store variables")
        if not scope.is_mutable_collection(col):
            return False
        if scope.has_variable(col, name):
            previous = scope.get_variable(col, name)
        else:
            _reserve(self, col, name)
            previous = init_fn()
        scope.put_variable(col, name, reduce_fn(previous, value))
        return True

    def perturb(self, name: str, value: T, collection: str = "perturbations") -> T:
        """Adds a zero to a value; the gradient with respect to that zero is the gradient with respect to the value.

        ``init`` makes the zeros. When ``apply`` gets the collection, they are added; without it the value is returned
        as it is. Take the gradient with respect to the collection.

        Args:
          name: the variable.
          value: a pytree of arrays.
          collection: where the zeros live.

        Returns:
          The value with the perturbation added.

        Raises:
          ArgumentError: the collection was given, but has no such variable.
        """
        scope = bound_scope(self, "store variables")
        if self.is_mutable_collection(collection):
            if not scope.has_variable(collection, name):
                _reserve(self, collection, name)
                scope.put_variable(collection, name, jax.tree.map(jnp.zeros_like, value))
        elif collection not in scope.root.variables():
            return value
        elif not scope.has_variable(collection, name):
            raise ArgumentError(
                f"Perturbation collection {collection} present, but missing perturbation variable {name}.",
                path=where(self),
                collection=collection,
                expected=f"a variable {name!r} of the shape of the value",
                fix=f"Pass the {collection!r} collection that init returns, or none at all.",
            )
        return jax.tree.map(jnp.add, value, scope.get_variable(collection, name))
