"""Mistakes with state dictionaries."""

from typing import Any

from fx_core.errors._base import FxError


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
