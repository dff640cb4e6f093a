"""A reference to one variable of a scope."""

from typing import TYPE_CHECKING, Any, Generic, TypeVar

import jax

from fx_core import meta

if TYPE_CHECKING:
    from fx_core.scope._scope import Scope

T = TypeVar("T")


class Variable(Generic[T]):
    """A variable of a scope, to be read and written through ``value``.

    Args:
      scope: the scope that holds it.
      collection: the name of its collection.
      name: its name.
      unbox: whether ``value`` is the value inside of its metadata, if it has any.

    >>> import fx_core
    >>> scope = fx_core.Scope({}, {}, mutable=["state"])
    >>> count = scope.variable("state", "count", lambda: 0)
    >>> count.value += 1
    >>> scope.get_variable("state", "count")
    1
    """

    __slots__ = ("__weakref__", "_unbox", "collection", "name", "scope")

    def __init__(self, scope: "Scope", collection: str, name: str, unbox: bool):
        self.scope, self.collection, self.name, self._unbox = scope, collection, name, unbox

    @property
    def value(self) -> T:
        """The present value.

        Setting it raises what `Scope.put_variable` raises.
        """
        value = self.scope.get_variable(self.collection, self.name)
        return unboxed(value) if self._unbox else value

    @value.setter
    def value(self, value: T) -> None:
        if self._unbox:
            old = self.scope.get_variable(self.collection, self.name)
            if old is not None and not isinstance(old, jax.Array):
                value = meta.replace_boxed(old, value)  # type: ignore[assignment]
        self.scope.put_variable(self.collection, self.name, value)

    @property
    def unbox(self) -> bool:
        """Whether ``value`` leaves the metadata out."""
        return self._unbox

    def is_mutable(self) -> bool:
        """Returns whether ``value`` can be set."""
        return self.scope.is_mutable_collection(self.collection)

    def __repr__(self) -> str:
        return f"Variable({self.collection!r}, {self.name!r}, scope={self.scope.path_text!r})"


def unboxed(value: Any) -> Any:
    """Returns the value without its metadata."""
    # Nearly all values are arrays without metadata: spare them a walk over a tree.
    return value if isinstance(value, jax.Array) else meta.unbox(value)
