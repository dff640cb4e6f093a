"""Where a computation happens: the traces around it, and what they record."""

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from typing import Any

import jax
import jax.core
from jax._src.core import (
    eval_trace,
    get_opaque_trace_state,
    set_current_trace,
    trace_ctx,
    trace_state_strong_ref,
)
from jax._src.interpreters.batching import BatchTracer
from jax.interpreters.partial_eval import DynamicJaxprTracer

__all__ = [
    "at_top_level",
    "belongs_to",
    "current_trace",
    "entered_after",
    "has_taken",
    "in_trace",
    "inlined_at_once",
    "is_current",
    "is_of_current",
    "is_recorded",
    "staged_after",
    "traced_anew",
    "traces_within",
    "tracing",
]


current_trace: Callable[[], object] = get_opaque_trace_state
"""Token of the innermost trace: equal tokens mean the same trace, the absence of one included."""


def is_current(token: Any) -> bool:
    """Returns whether ``token == current_trace()``, in a fifth of the time: each trace has one reference to itself."""
    return token._trace_ref is trace_state_strong_ref.value._weakref


def traces_within(token: Any) -> list[Any] | None:
    """Returns the traces around this place that were entered after the one of the token, or None if that one is not
    around.
    """
    home, trace, inner = token._trace_ref(), trace_ctx.trace, list[Any]()
    while trace is not None and trace is not home:
        inner.append(trace)
        trace = getattr(trace, "parent_trace", None)
    return None if trace is None else inner


at_top_level: Callable[[], bool] = trace_ctx.is_top_level
"""Whether operations are computed here, rather than recorded by a transform."""


def entered_after(token: Any, inner: Any) -> bool:
    """Returns whether the trace of ``token`` is around this place, and that of ``inner`` was entered after it.

    Some transforms, such as `jax.pmap`, trace as if nothing were around them; that counts as inside of ``inner``.
    """
    home, mark, trace, met = token._trace_ref(), inner._trace_ref(), trace_ctx.trace, False
    while trace is not None and trace is not home:
        met = met or trace is mark
        trace = getattr(trace, "parent_trace", None)
    if not met and mark is not eval_trace and home is eval_trace:
        return not _is_around(mark)
    return trace is not None and met


def _is_around(mark: Any) -> bool:
    trace = trace_ctx.trace
    while trace is not None and trace is not mark:
        trace = getattr(trace, "parent_trace", None)
    return trace is not None


def staged_after(token: Any) -> list[str]:
    """Returns the functions, as texts with their places, whose programs are recorded here since the trace of the token.

    Innermost first. These programs are kept, unlike what `jax.grad` and `jax.vmap` record.
    """
    infos = [getattr(getattr(trace, "frame", None), "debug_info", None) for trace in traces_within(token) or ()]
    return [str(info.func_src_info) for info in infos if info is not None]


inlined_at_once: Any = getattr(jax, "Inline").JAX_EARLY if hasattr(jax, "Inline") else True  # noqa: B009
"""The argument ``inline`` of `jax.jit` that leaves no call where operations are recorded. ``True`` leaves it until they
are lowered, in JAX 0.12."""


def is_recorded(value: Any) -> bool:
    """Returns whether `jax.jit` records what is done with a value, and no more: for it alone, or for a batch of them by
    `jax.vmap`.
    """
    while isinstance(value, BatchTracer):
        value = value.val
    return isinstance(value, DynamicJaxprTracer)


_traced_in: Any = jax.make_user_context(default_value=None)  # at import, since JAX asks for it before threads


def traced_anew(number: int) -> AbstractContextManager[Any]:
    """Returns the context in which nothing is found that was traced outside of it, or in that of another number."""
    return _traced_in(number)


def in_trace(token: Any) -> AbstractContextManager[Any]:
    """Returns the context in which operations belong to a trace around this place (see `traces_within`)."""
    return set_current_trace(token._trace_ref())


def belongs_to(value: Any, traces: Sequence[Any]) -> bool:
    """Returns whether a value is known only in one of the traces."""
    return isinstance(value, jax.core.Tracer) and any(value._trace is trace for trace in traces)


def is_of_current(value: Any) -> bool:
    """Returns whether a value was made by the innermost trace, which is not that of computing."""
    return isinstance(value, jax.core.Tracer) and value._trace is trace_ctx.trace


def has_taken(token: Any, inner: Sequence[Any]) -> bool:
    """Returns whether the trace of the token, or one around it, took a value of one of ``inner`` for a constant.

    JAX would find it much later, when it lowers the program, or never.
    """
    trace = token._trace_ref()
    while trace is not None:
        constants = getattr(getattr(trace, "frame", None), "constvar_to_val", {})
        if any(belongs_to(value, inner) for value in constants.values()):
            return True
        trace = getattr(trace, "parent_trace", None)
    return False


def tracing() -> bool:
    """Returns whether operations are recorded by a transform, rather than computed; never inside of
    ``eval_context()``.
    """
    return trace_ctx.trace is not eval_trace
