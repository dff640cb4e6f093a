"""What a layer computes with: the arrays, keys and parts of its specs, whichever face holds them."""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from fx_core.errors.kinds import ArgumentError

__all__ = ["Cell", "Values"]


class Cell(NamedTuple):
    """A variable of a face: how its array is read and written.

    Attributes:
      read: gives the array.
      write: takes a new one; None for parameters, which a layer does not write.
    """

    read: Callable[[], Any]
    write: Callable[[Any], Any] | None = None


class Values:
    """The ``v`` of `fx_core.layers.Layer.apply`; a face makes it.

    Args:
      layer: name of the layer, for errors.
      parts: a `Cell` for each variable, and what is handed out for the other specs, by name.
      sow: stores a value, as ``sow(collection, name, value, **options)``.
      is_mutable: whether a collection may be written.
    """

    def __init__(
        self, layer: str, parts: Mapping[str, Any], sow: Callable[..., bool], is_mutable: Callable[[str], bool]
    ):
        own = {"_layer": layer, "_parts": parts, "sow": sow, "is_mutable": is_mutable}
        vars(self).update(own)

    def __getattr__(self, name: str) -> Any:
        parts = vars(self)["_parts"]
        if name not in parts:
            raise AttributeError(f"{self._layer}.specs() has no {name!r}, only {', '.join(parts) or 'nothing'}.")
        part = parts[name]
        return part.read() if isinstance(part, Cell) else part

    def __setattr__(self, name: str, value: Any) -> None:
        part = self._parts.get(name)
        if not isinstance(part, Cell) or part.write is None:
            written = [key for key, one in self._parts.items() if isinstance(one, Cell) and one.write]
            raise ArgumentError(
                f"{self._layer} assigns to {name!r}, which is no state of it.",
                expected=f"one of {', '.join(written)}" if written else "no assignment: it has no state",
                got=name,
                fix="Add a State of that name to specs().",
            )
        part.write(value)
