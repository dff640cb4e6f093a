"""What variables are like unless their maker says otherwise."""

import contextlib
import contextvars
import dataclasses
from collections.abc import Iterator
from typing import Any

__all__ = ["VarDefaults", "current_defaults", "default_options", "use_defaults"]


@dataclasses.dataclass(frozen=True)
class VarDefaults:
    """Options of new variables.

    Attributes:
      hijax: accepted for compatibility.
      ref: whether values live in `jax.Ref`.
      eager_sharding: whether values are placed on the mesh when they are made.
    """

    hijax: bool = False
    ref: bool = False
    eager_sharding: bool = True


_FIRST = VarDefaults()
_current: contextvars.ContextVar[VarDefaults] = contextvars.ContextVar("fx_nnx_var_defaults", default=_FIRST)


def current_defaults() -> VarDefaults:
    """Give the options that apply now."""
    return _current.get()


def default_options(given: dict[str, bool | None]) -> dict[str, Any]:
    """Fill the options that were not given."""
    defaults = _current.get()
    return {name: getattr(defaults, name) if value is None else value for name, value in given.items()}


@contextlib.contextmanager
def use_defaults(**changes: bool | None) -> Iterator[VarDefaults]:
    """Change the options of variables that are made in the block.

    >>> with use_defaults(eager_sharding=False) as options:
    ...     options.eager_sharding
    False
    """
    new = dataclasses.replace(_current.get(), **{k: v for k, v in changes.items() if v is not None})
    token = _current.set(new)
    try:
        yield new
    finally:
        _current.reset(token)
