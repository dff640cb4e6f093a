"""Interleaved timing."""

import dataclasses
import gc
import statistics
import time
from collections.abc import Callable


@dataclasses.dataclass(frozen=True)
class Ratio:
    """One line of the table.

    Attributes:
      case: what was measured.
      ours: median seconds of fx.
      raw: median seconds of hand-written JAX.
      aim: the ratio to stay under.
      note: another aim, in words.
    """

    case: str
    ours: float
    raw: float
    aim: float | None = None
    note: str = ""

    @property
    def ratio(self) -> float:
        return self.ours / self.raw


def interleaved(
    case: str,
    ours: Callable[[], object],
    raw: Callable[[], object],
    *,
    rounds: int = 15,
    aim: float | None = None,
    prepare: Callable[[], object] = lambda: None,
) -> Ratio:
    """Time two functions in turns, after one call of each to warm up; ``prepare`` runs before each call, not timed."""
    times: dict[Callable[[], object], list[float]] = {ours: [], raw: []}
    for function in times:
        prepare()
        function()
    gc.collect()
    gc.disable()
    try:
        for _ in range(rounds):
            for function, taken in times.items():
                prepare()
                started = time.perf_counter()
                function()
                taken.append(time.perf_counter() - started)
    finally:
        gc.enable()
    return Ratio(case, statistics.median(times[ours]), statistics.median(times[raw]), aim)
