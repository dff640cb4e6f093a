"""Noticing the variables that a compiled function reads although they are none of its arguments.

Their values become constants of the program. Whoever keeps a program keeps its `Captures`, and asks before each call
whether these values still are what the variables hold; so a program never computes with old ones.
"""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Protocol

from fx_core._jax import current_trace, entered_after

__all__ = ["Captures", "frames", "note", "note_all"]


class _Valued(Protocol):
    _nnx_trace: object
    _raw_value: Any


class _Record(Protocol):
    alive: bool

    def holds(self) -> bool: ...


class Captures:
    """What one compiled function has read from outside.

    Attributes:
      found: by identity, variables and the values that were read.
      records: of the structures of modules that the function sees from outside.
    """

    __slots__ = ("found", "records")

    def __init__(self) -> None:
        self.found: dict[int, tuple[Any, Any]] = {}
        self.records: list[_Record] = []

    @contextmanager
    def watching(self) -> Iterator[None]:
        """Note what is read in the block, which is traced."""
        frame = _Frame(self, _local.top)
        _local.top = frame
        frames.append(frame)
        try:
            yield
        finally:
            frames.remove(frame)
            _local.top = frame.outer

    def hold(self) -> bool:
        """Whether the variables still have the values that were read, and the modules their structure."""
        return all(variable._raw_value is value for variable, value in self.found.values()) and all(
            record.alive and record.holds() for record in self.records
        )

    def clear(self) -> None:
        """Forget what was read."""
        self.found.clear()
        self.records.clear()

    def note_again(self) -> None:
        """Tell the functions around, which are being traced, of a call that reads without being traced."""
        if frames:
            note_all([variable for variable, _ in self.found.values()])


class _Frame:
    """A function while it is traced."""

    __slots__ = ("captures", "inside", "outer", "token")

    def __init__(self, captures: Captures, outer: "_Frame | None"):
        self.captures, self.outer = captures, outer
        self.token = self.inside = current_trace()

    def is_outside(self, token: object) -> bool:
        """Whether the trace of the function was entered after that of a token."""
        if token is self.inside or token == self.token:
            return False
        if entered_after(token, self.token):
            return True
        self.inside = token  # most reads that follow are of variables of the same trace
        return False


class _Local(threading.local):
    top: _Frame | None = None


_local = _Local()
frames: list[_Frame] = []
"""The functions that are being traced, in any thread: reading a variable costs next to nothing while there are none."""


def note(variable: _Valued) -> None:
    """Note that the value of a variable is read. To be called if there are any `frames`."""
    frame = _local.top
    while frame is not None and frame.is_outside(variable._nnx_trace):
        frame.captures.found.setdefault(id(variable), (variable, variable._raw_value))
        frame = frame.outer


def note_all(variables: list[Any]) -> None:
    """Note that the values of some variables are read."""
    for variable in variables:
        note(variable)
