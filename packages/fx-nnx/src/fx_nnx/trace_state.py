"""The trace that an object was made in, as programs that look at it or change it see it."""

from typing import Any

from fx_core.compat.jax import current_trace
from fx_core.errors import FxError, ImmutableVariableError

from fx_nnx.errors import TraceLevelError
from fx_nnx.links import announce
from fx_nnx.locate import calling_line, path_of

__all__ = ["ReadingOnly", "TraceState", "cannot_change", "current_jax_trace"]

current_jax_trace = current_trace


class _Moment:
    """Stands for an object that is made now."""

    __slots__ = ("_nnx_links", "_nnx_trace")

    _nnx_links: Any

    def __init__(self):
        self._nnx_links = None
        self._nnx_trace = current_trace()


class TraceState:
    """The trace of an object, which is the only one in which the object may be changed.

    >>> TraceState().is_valid()
    True

    Args:
      owner: a module, another object, or a variable; without one, the present trace.
    """

    __slots__ = ("_owner",)

    def __init__(self, owner: Any = None):
        self._owner = _Moment() if owner is None else owner

    @property
    def jax_trace(self) -> object:
        """Token of the trace; equal ones mean the same trace."""
        return self._owner._nnx_trace

    @property
    def _jax_trace(self) -> object:
        return self._owner._nnx_trace

    @_jax_trace.setter
    def _jax_trace(self, token: object) -> None:
        # Keras makes layers while it infers shapes, and lets them belong to the trace around that.
        object.__setattr__(self._owner, "_nnx_trace", token)
        announce(self._owner)

    def is_valid(self) -> bool:
        """Returns whether the trace is the one that runs."""
        return self.jax_trace == current_trace()

    def __eq__(self, other: object) -> bool:
        return isinstance(other, TraceState) and self.jax_trace == other.jax_trace

    def __hash__(self) -> int:
        return hash(TraceState)

    def __repr__(self) -> str:
        return f"TraceState(is_valid={self.is_valid()})"

    def __reduce__(self) -> tuple[Any, ...]:
        return TraceState, ()


class ReadingOnly:
    """The trace of a variable that plain JAX has passed into a function, where writing would be lost: equal to none."""

    __hash__ = None  # type: ignore[assignment]

    def __init__(self) -> None:
        self._trace_ref = current_trace()._trace_ref  # type: ignore[attr-defined]

    def __eq__(self, other: object) -> bool:
        return False


def cannot_change(variable: Any) -> FxError:
    """Creates the error of who changes a variable in another trace than its own."""
    kind = type(variable).__name__
    if type(variable._nnx_trace) is not ReadingOnly:
        return TraceLevelError(kind, path_of(variable), calling_line())
    return ImmutableVariableError(
        f"Cannot write to a {kind} with hijax=True that came through a transform of plain JAX: nothing comes back.",
        fix="nnx.jit and its like, or ref=True, whose writes arrive; or return the new value.",
    )
