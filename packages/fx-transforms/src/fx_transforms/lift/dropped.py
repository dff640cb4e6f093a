"""Arguments of the reference API that JAX has dropped: they may be there, and must ask for nothing."""

from typing import Any

from fx_core.errors import UnsupportedOperationError

__all__ = ["refuse_dropped"]

_FIXES = {
    "reduce_axes": "sum the derivatives with jax.lax.psum",
    "concrete": "name the Python arguments in static_argnums",
}


def refuse_dropped(transform: str, argument: str, value: Any) -> None:
    """Raises where an argument asks for what JAX does no more.

    >>> refuse_dropped("grad", "reduce_axes", ())

    Args:
      transform: the transform, for the message.
      argument: ``"reduce_axes"`` or ``"concrete"``.
      value: what it was given.

    Raises:
      UnsupportedOperationError: it asks for something.
    """
    if value:
        raise UnsupportedOperationError(
            f"{transform} got {argument}, which JAX has dropped.",
            expected=f"no {argument}",
            got=repr(value),
            fix=_FIXES[argument],
        )
