"""Making variables outside of the trace in which the rest of a function is only recorded."""

import threading
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext

from fx_core._jax import current_trace, eval_context, tracing


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
    """The context in which a scope of ``trace`` makes its variables: computing if `recording`, else as it is."""
    return eval_context() if trace in _here.recorded else nullcontext()


def is_outside(trace: object) -> bool:
    """Whether this is such a context, entered from ``trace``."""
    return trace in _here.recorded and not tracing()
