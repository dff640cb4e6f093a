"""Making variables outside of the trace in which a function runs: computing, where the rest is only recorded, or in
the trace that a scope belongs to, where the function is inside of a transform that knows nothing of scopes."""

import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

import jax

from fx_core.compat.jax import belongs_to, current_trace, eval_context, has_taken, in_trace, traces_within, tracing


class _Here(threading.local):
    recorded: tuple[object, ...] = ()


_here = _Here()


@contextmanager
def recording() -> Iterator[None]:
    """Within this block, scopes of the current trace make their variables outside of it."""
    before = _here.recorded
    _here.recorded = (*before, current_trace())
    try:
        yield
    finally:
        _here.recorded = before


def outside(trace: object) -> AbstractContextManager[object]:
    """Returns the context in which a scope of ``trace`` makes its variables: computing if `recording`, else as
    it is.
    """
    return eval_context() if trace in _here.recorded else nullcontext()


def is_outside(trace: object) -> bool:
    """Returns whether this is such a context, entered from ``trace``."""
    return trace in _here.recorded and not tracing()


class NotThereError(Exception):
    """The trace is not around this place, or what is made depends on values of a trace inside of it.

    Attributes:
      values: whether it is the second.
    """

    def __init__(self, values: bool):
        self.values = values
        super().__init__("values" if values else "trace")


def made_in(trace: object, make: Callable[[], Any]) -> Any:
    """Calls ``make()`` as a scope of ``trace`` makes its variables. It may be called twice.

    Raises:
      NotThereError: it cannot.
    """
    if trace == current_trace() or is_outside(trace):
        try:
            with outside(trace):
                return make()
        except jax.errors.UnexpectedTracerError:
            if trace != current_trace() or trace not in _here.recorded:
                raise
            return make()  # from recorded values; whether they are known is found out when all is recorded
    inner = traces_within(trace)
    if inner is None:
        raise NotThereError(values=False)
    try:
        with eval_context() if trace in _here.recorded else in_trace(trace):
            value = make()
    except jax.errors.UnexpectedTracerError as error:
        raise NotThereError(values=True) from error
    if any(belongs_to(leaf, inner) for leaf in jax.tree_util.tree_leaves(value)) or has_taken(trace, inner):
        raise NotThereError(values=True)
    return value
