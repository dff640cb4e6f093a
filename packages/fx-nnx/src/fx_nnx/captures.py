"""Noticing the variables that a compiled function reads although they are none of its arguments.

Their values become constants of the program. Whoever keeps a program keeps its `Captures`, and asks before each call
whether these values still are what the variables hold; so a program never computes with old ones.

What plain `jax.jit`, `jax.lax.scan`, `jax.checkpoint` and the like keep is not ours to compile anew. Where they read
variables from outside, our own functions are traced without finding what is kept there, and whoever changes the
variables is logged.
"""

import dataclasses
import functools
import importlib.util
import itertools
import logging
import os
import threading
import weakref
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from typing import Any, Protocol

import jax
import jax.core
from fx_core.compat.jax import current_trace, entered_after, staged_after, traced_anew

from fx_nnx.locate import path_of

__all__ = ["Captures", "constants", "frames", "note", "note_all", "warn_of_constant"]

_log = logging.getLogger("fx.nnx.jit")


class _Valued(Protocol):
    _nnx_trace: Any
    _raw_value: Any


class _Holding(Protocol):
    def holds(self) -> bool: ...


@dataclasses.dataclass(slots=True, eq=False)
class Captures:
    """What one compiled function has read from outside.

    Attributes:
      found: by identity, variables and the values that were read. One that is gone has been replaced.
      seen: the modules that the function sees from outside.
      renewed: whether other values were read before.
    """

    found: dict[int, tuple[weakref.ref[Any], Any]] = dataclasses.field(default_factory=dict[int, Any])
    seen: list[_Holding] = dataclasses.field(default_factory=list[_Holding])
    renewed: bool = False

    @contextmanager
    def watching(self) -> Iterator[None]:
        """Records what is read in the block, which is traced."""
        here = current_trace()
        frame = _Frame(self, _local.top, here, here)
        _local.top = frame
        frames.append(frame)
        anew = traced_anew(next(_numbers)) if self.renewed or constants.ever else nullcontext()
        try:
            with anew:
                yield
        finally:
            frames.remove(frame)
            _local.top = frame.outer
            for key in [key for key, (variable, _) in self.found.items() if variable() is None]:
                del self.found[key]  # made and dropped while the function was traced

    def hold(self) -> bool:
        """Returns whether the variables still have the values that were read, and the modules are as they were."""
        for reference, value in self.found.values():
            variable = reference()
            if variable is None or variable._raw_value is not value:
                return False
        return all(module.holds() for module in self.seen)

    def clear(self) -> None:
        """Discards what was read."""
        self.renewed = self.renewed or bool(self.found or self.seen)
        self.found.clear()
        self.seen.clear()

    def note_again(self) -> None:
        """Informs the functions around, which are being traced, of a call that reads without being traced."""
        if frames:
            note_all(
                [variable for variable in [reference() for reference, _ in self.found.values()] if variable is not None]
            )


@dataclasses.dataclass(slots=True, eq=False)
class _Frame:
    """A function while it is traced.

    Attributes:
      captures: what it reads from outside.
      outer: the function around it that is traced, if any.
      token: of its trace.
      inside: of the trace, that one or another inside of it, of the last variable that it read.
    """

    captures: Captures
    outer: "_Frame | None"
    token: object
    inside: object


class _Local(threading.local):
    top: _Frame | None = None


_local = _Local()
frames: list[_Frame] = []
"""The functions that are being traced, in any thread: reading a variable costs next to nothing while there are none."""


def note(variable: _Valued) -> None:
    """Records that the value of a variable is read. To be called if there are any `frames`, or this is in a trace."""
    top = frame = _local.top
    token = variable._nnx_trace
    while frame is not None and token is not frame.inside and token != frame.token:
        if not entered_after(token, frame.token):
            frame.inside = token  # most reads that follow are of variables of the same trace
            break
        found = frame.captures.found.get(id(variable))
        if found is None or found[0]() is not variable:
            frame.captures.found[id(variable)] = weakref.ref(variable), variable._raw_value
        frame = frame.outer
    if isinstance(variable._raw_value, jax.core.Tracer | jax.Ref):
        return
    captured = top is not None and frame is not top
    stages = staged_after(top.token if top is not None and captured else token)
    by = next((stage for stage in stages if not any(path in stage for path in _inner())), None)
    if by is not None:
        constants.add(variable, None if captured else by)


@functools.cache
def _inner() -> tuple[str, ...]:
    """Where functions are that stand around those of users: ours are not kept by JAX, that of `jax.pmap` is no name."""
    specs = [importlib.util.find_spec(package) for package in ("fx_transforms", "fx_nnx", "jax")]
    return tuple(os.path.dirname(str(spec.origin)) for spec in specs if spec is not None)


def note_all(variables: list[Any]) -> None:
    """Records that the values of some variables are read."""
    for variable in variables:
        note(variable)


class _Constants(dict[int, tuple[Any, str]]):
    """Variables that functions compiled by plain JAX have read from outside, by identity, and these functions."""

    ever = False

    def add(self, variable: Any, by: str | None) -> None:
        self.ever = True
        key = id(variable)
        if by is not None and key not in self:
            self[key] = weakref.ref(variable, lambda _: self.pop(key, None)), by


constants = _Constants()
_numbers = itertools.count(1)


def warn_of_constant(variable: Any) -> None:
    """Notes that a variable among the `constants` changes."""
    found = constants.pop(id(variable), None)
    if found is not None:
        _log.warning(
            "%s changes, and %s has read it without getting it as an argument: what plain JAX has compiled or traced "
            "of that function computes with the old value for ever. Use nnx.jit and its like, or pass the state.",
            path_of(variable) or f"a {type(variable).__name__}",
            found[1],
        )
