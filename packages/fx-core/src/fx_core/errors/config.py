"""Mistakes with flags."""

import difflib
from collections.abc import Iterable
from typing import Any

from fx_core.errors._base import FxError

__all__ = ["InvalidFlagValueError", "UnknownFlagError"]


class UnknownFlagError(FxError, AttributeError):
    """A flag of that name does not exist.

    Wrong::

        config.update("fix_rng_seperator", True)

    Right::

        config.update("fix_rng_separator", True)

    Args:
      name: the name that was asked for.
      known: the names that there are.
    """

    def __init__(self, name: str, known: Iterable[str]):
        names = sorted(known)
        near = difflib.get_close_matches(name, names, n=1, cutoff=0.5)
        fix = f"Did you mean {near[0]!r}?" if near else "Use one of the flags above."
        super().__init__(f"There is no flag {name!r}.", expected="one of " + ", ".join(names), got=name, fix=fix)


class InvalidFlagValueError(FxError, ValueError):
    """A flag, or the environment variable that sets it, has a value of the wrong kind.

    Wrong::

        FX_FIX_RNG_SEPARATOR=perhaps python train.py

    Right::

        FX_FIX_RNG_SEPARATOR=1 python train.py

    Args:
      name: the flag, or its environment variable.
      expected: which values it takes.
      got: the value that came.
    """

    def __init__(self, name: str, expected: str, got: Any):
        super().__init__(
            f"{name} cannot be {got!r}.", expected=expected, got=repr(got), fix=f"Give {name} one of the values above."
        )
