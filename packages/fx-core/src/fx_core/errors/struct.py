"""Mistakes with pytree dataclasses."""

from collections.abc import Iterable
from dataclasses import FrozenInstanceError

from fx_core.errors._base import FxError

__all__ = ["FrozenStructError", "StructReplaceError"]


class FrozenStructError(FxError, FrozenInstanceError):
    """A field of a `fx_core.struct` dataclass was assigned or deleted.

    These dataclasses are immutable, as everything is that JAX transforms.

    Wrong::

        state.step = 3

    Right::

        state = state.replace(step=3)

    Args:
      cls_name: the class.
      field: the attribute that was to change.
      action: ``"set"`` or ``"delete"``.
    """

    def __init__(self, cls_name: str, field: str, action: str = "set"):
        fix = f"Make a changed copy: new = old.replace({field}=...)."
        super().__init__(f"Cannot {action} {field!r} of {cls_name}: its instances are immutable.", fix=fix)


class StructReplaceError(FxError, TypeError):
    """``replace`` was given a name that is not a field of the dataclass.

    Wrong::

        state.replace(steps=3)

    Right::

        state.replace(step=3)

    Args:
      cls_name: the class.
      unknown: names that are no fields.
      fields: the fields there are.
    """

    def __init__(self, cls_name: str, unknown: Iterable[str], fields: Iterable[str]):
        super().__init__(
            f"{cls_name} cannot replace what it does not have.",
            expected="fields " + ", ".join(fields),
            got=", ".join(unknown),
            fix="Check the spelling, or declare the field in the class.",
        )
