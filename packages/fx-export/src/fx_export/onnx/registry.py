"""Which function translates which primitive."""

from collections.abc import Callable
from typing import Any, cast

from fx_core.plugins import registry as plugins

from fx_export.onnx.builder import Translate

_OWN: dict[str, Translate] = {}
_ELEMENTWISE: set[str] = set()


class RefusedError(Exception):
    """A translation cannot do what an equation asks for; it is listed with the others.

    Args:
      reason: what about it.
    """


def primitive(*names: str, elementwise: bool = False) -> Callable[[Translate], Translate]:
    """Registers the translation of primitives.

    Args:
      *names: of the primitives.
      elementwise: whether each element of the output depends on the same element of the inputs only, so that
        constants are computed before they are broadcast.
    """

    def register(translate: Translate) -> Translate:
        _OWN.update(dict.fromkeys(names, translate))
        if elementwise:
            _ELEMENTWISE.update(names)
        return translate

    return register


def is_elementwise(name: str) -> bool:
    """Returns whether a primitive works element by element."""
    return name in _ELEMENTWISE


def own_primitives() -> dict[str, str]:
    """What is translated without plugins: a line about each primitive by name, sorted."""
    lines = {name: (translate.__doc__ or "").partition("\n")[0] for name, translate in _OWN.items()}
    return dict(sorted(lines.items()))


def translation_of(name: str, brought: dict[str, Any]) -> Translate | None:
    """Returns the translation of a primitive, None if there is none.

    Args:
      name: of the primitive.
      brought: those of plugins that were already asked for; filled in.
    """
    if name in _OWN:
        return _OWN[name]
    if not brought:
        brought.update({"": None, **{entry.primitive: entry for entry in plugins().onnx_primitives.values()}})
    entry: Any = brought.get(name)
    if entry is not None and not callable(entry):
        entry = brought[name] = entry.load()
    return cast("Translate | None", entry)
