"""Readable ``repr`` for modules, variables and states."""

from collections.abc import Mapping
from typing import Any

import jax
from fx_core.summary import show_size, size_and_bytes
from jax.core import Tracer

__all__ = ["Representable", "show_fields", "show_value", "size_note"]

_SMALL = 6
# Objects being shown, for cycles. Only a repr that runs in two threads at once may show "(...)" too early.
_showing: list["Representable"] = []


class Representable:
    """Gives a class a ``repr`` made by its method ``_show``."""

    __slots__ = ()
    _shows_numbers = False
    """Whether big arrays are shown as JAX shows them when this is shown by itself, not as a part of something else."""

    def __repr__(self) -> str:
        if any(other is self for other in _showing):
            return f"{type(self).__name__}(...)"
        _showing.append(self)
        try:
            return self._show()
        finally:
            _showing.pop()

    def _show(self) -> str:
        return object.__repr__(self)

    def _fields(self) -> Any:
        """What is to be unfolded in a notebook: a mapping for attributes, a list or dict for items; None for none."""
        return None

    def _note(self) -> str:
        """What is remarked beside it."""
        return ""

    def _outermost(self) -> bool:
        """Whether nothing that it belongs to is being shown."""
        return len(_showing) == 1

    def __treescope_repr__(self, path: str | None, subtree_renderer: Any) -> Any:
        """Renders as a page to fold and unfold; treescope asks for it."""
        from treescope import rendering_parts as parts
        from treescope import repr_lib

        fields, options = self._fields(), {"path": path, "subtree_renderer": subtree_renderer}
        if fields is None:
            return NotImplemented
        if type(fields) is list:
            made = repr_lib.render_list_wrapper(type(self), fields, **options)
        elif type(fields) is dict:
            made = repr_lib.render_dictionary_wrapper(type(self), fields, **options)
        else:
            made = repr_lib.render_object_constructor(type(self), fields, **options)
        note = self._note()
        if not note:
            return made
        return parts.siblings_with_annotations(made, extra_annotations=[parts.comment_color(parts.text(f" # {note}"))])


def show_value(value: Any) -> str:
    """Shows one value: big arrays by shape and dtype in models, objects that are being shown already by their type."""
    numbers = _showing and _showing[0]._shows_numbers
    if isinstance(value, jax.Array) and not isinstance(value, Tracer) and value.size > _SMALL and not numbers:
        return f"Array(shape={value.shape}, dtype={value.dtype})"
    if isinstance(value, Representable):
        return repr(value)
    if isinstance(value, type) or callable(value):
        return getattr(value, "__name__", None) or repr(value)
    return repr(value)


def show_fields(name: str, fields: Mapping[Any, Any], note: str = "") -> str:
    """Shows a named thing with fields, one per line, indented.

    >>> print(show_fields("Point", {"x": 1, "y": 2}))
    Point(
      x=1,
      y=2
    )
    """
    head = f"{name}( # {note}" if note else f"{name}("
    if not fields:
        return f"{name}()"
    lines = [
        f"{key}={show_value(value)}" if isinstance(key, str) else show_value(value) for key, value in fields.items()
    ]
    body = ",\n".join(lines).replace("\n", "\n  ")
    return f"{head}\n  {body}\n)"


def size_note(value: Any) -> str:
    """Returns how many numbers there are in a value, and their bytes; nothing if there are no arrays."""
    has_arrays = any(hasattr(leaf, "dtype") for leaf in jax.tree.leaves(value))
    return show_size(*size_and_bytes(value)) if has_arrays else ""
