"""Mistakes with state dictionaries."""

from typing import Any

from fx_core.errors._base import FxError

__all__ = ["AlreadyRegisteredError", "AmbiguousKeyError", "StateDictMismatchError"]


class StateDictMismatchError(FxError, ValueError):
    """A state dictionary does not have the structure of the target it is restored into.

    Wrong::

        from_state_dict({"kernel": k, "bias": b}, {"kernel": k})

    Right::

        from_state_dict({"kernel": k, "bias": b}, {"kernel": k, "bias": b})

    Args:
      what: what was being restored, such as ``"dict"`` or a class name.
      path: where in the tree.
      expected: the names of the target, or a kind of value.
      got: the names of the state dictionary, or the value that came.
      missing: names of the target that the state dictionary lacks.
      unknown: names of the state dictionary that the target lacks.
    """

    def __init__(
        self,
        what: str,
        path: str,
        expected: Any,
        got: Any,
        missing: tuple[str, ...] = (),
        unknown: tuple[str, ...] = (),
    ):
        self.missing, self.unknown = missing, unknown
        details = [f"missing {', '.join(map(repr, missing))}"] * bool(missing)
        details += [f"unknown {', '.join(map(repr, unknown))}"] * bool(unknown)
        super().__init__(
            f"The state dictionary does not fit the {what}" + (": " + "; ".join(details) if details else "") + ".",
            path=path,
            expected=expected,
            got=got,
            fix="Restore into a target with the structure that was saved, or rename the entries of the state "
            "dictionary first.",
        )


class AmbiguousKeyError(FxError, ValueError):
    """Two keys of a dictionary are the same once they are strings, so that one would overwrite the other.

    Wrong::

        to_state_dict({1: a, "1": b})

    Right::

        to_state_dict({1: a, 2: b})

    Args:
      keys: the keys that collide.
      path: where in the tree.
    """

    def __init__(self, keys: tuple[Any, ...], path: str):
        super().__init__(
            "State dictionaries have string keys, and several keys here become the same string.",
            path=path,
            expected="keys with distinct str(key)",
            got=", ".join(map(repr, keys)),
            fix="Rename one of the keys.",
        )


class AlreadyRegisteredError(FxError, ValueError):
    """A type has a pair of state dictionary functions already.

    Wrong::

        register_serialization_state(Point, to_dict, from_dict)
        register_serialization_state(Point, to_dict, from_dict)

    Right::

        register_serialization_state(Point, to_dict, from_dict, override=True)

    Args:
      type_name: the type.
    """

    def __init__(self, type_name: str):
        super().__init__(
            f"State dictionary functions for {type_name} are registered already.",
            got=type_name,
            fix="Register once, or pass override=True to replace them.",
        )
