"""Values with metadata for the variables that will hold them."""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Generic, TypeVar

from fx_nnx.variables.metadata import hooks_of

__all__ = ["VariableMetadata", "rename", "renamed", "with_metadata"]

A = TypeVar("A")


@dataclasses.dataclass(eq=False)
class VariableMetadata(Generic[A]):
    """A value together with metadata for the variable that will hold it; what `with_metadata` initializers return.

    Attributes:
      raw_value: the value.
      on_set_value: hooks, see `Variable`.
      on_get_value: hooks, see `Variable`.
      on_create_value: hooks, see `Variable`.
      on_add_axis: hooks, see `Variable`.
      on_remove_axis: hooks, see `Variable`.
      metadata: anything else.

    >>> import fx_nnx as nnx
    >>> nnx.Param(nnx.VariableMetadata(1.0, metadata={"axes": ("embed",)})).axes
    ('embed',)
    """

    raw_value: A
    on_set_value: Any = ()
    on_get_value: Any = ()
    on_create_value: Any = ()
    on_add_axis: Any = ()
    on_remove_axis: Any = ()
    metadata: Mapping[str, Any] = dataclasses.field(default_factory=dict)

    def entries(self) -> dict[str, Any]:
        """Returns hooks and metadata as one dictionary, without the hooks that are not there."""
        names = ("on_set_value", "on_get_value", "on_create_value", "on_add_axis", "on_remove_axis")
        hooks = {name: hooks_of(getattr(self, name)) for name in names}
        return {name: hook for name, hook in hooks.items() if hook} | dict(self.metadata)

    def reshape(self, shape: Sequence[int]) -> "VariableMetadata[Any]":
        """Returns the same metadata around the value in another shape, as layers of several axes need it."""
        return dataclasses.replace(self, raw_value=self.raw_value.reshape(shape))  # type: ignore[attr-defined]


def with_metadata(
    initializer: Callable[..., Any],
    on_set_value: Any = (),
    on_get_value: Any = (),
    on_create_value: Any = (),
    on_add_axis: Any = (),
    on_remove_axis: Any = (),
    **metadata: Any,
) -> Callable[..., VariableMetadata[Any]]:
    """Lets an initializer give metadata to the variable that it initializes.

    >>> import jax
    >>> import fx_nnx as nnx
    >>> init = with_metadata(jax.nn.initializers.ones, axes=("embed",))
    >>> nnx.Variable(init(jax.random.key(0), (2,))).axes
    ('embed',)
    """

    def init(*args: Any, **kwargs: Any) -> VariableMetadata[Any]:
        value = initializer(*args, **kwargs)
        hooks = (on_set_value, on_get_value, on_create_value, on_add_axis, on_remove_axis)
        return VariableMetadata(value, *hooks, metadata=renamed(metadata))

    return init


def renamed(metadata: Mapping[str, Any]) -> dict[str, Any]:
    """Returns metadata under the names of today."""
    return {rename(name): value for name, value in metadata.items()}


def rename(name: str) -> str:
    """Returns the name of today for a metadata entry."""
    # Older programs use these names for the axis names of a variable.
    return "out_sharding" if name in ("sharding", "sharding_names") else name
