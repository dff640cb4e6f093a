"""Timing of the sides of a case in turns."""

import dataclasses
import gc
import os
import random
import statistics
import time
from collections.abc import Callable, Mapping
from typing import Any

QUICK = bool(os.environ.get("FX_BENCH_QUICK"))
"""Whether fewer rounds will do."""
ONLY = os.environ.get("FX_BENCH_CASE", "")
"""Part of the names of the cases that are wanted."""


@dataclasses.dataclass(frozen=True)
class Ratio:
    """One line of the results.

    Attributes:
      case: what was measured.
      ours: median seconds of a library.
      raw: median seconds of what it is compared with, mostly hand-written JAX.
      aim: the ratio to stay under.
      note: another aim, or what there is to say, in words.
      library: which one.
      spread: lower and upper quartile of the seconds of the library.
      unit: of the two figures, ``"s"`` or another.
    """

    case: str
    ours: float
    raw: float
    aim: float | None = None
    note: str = ""
    library: str = "fx"
    spread: tuple[float, float] | None = None
    unit: str = "s"

    @property
    def ratio(self) -> float:
        return self.ours / self.raw if self.raw else float("nan")


def wanted(case: str) -> bool:
    """Whether a case was asked for."""
    return ONLY.lower() in case.lower()


def fewer(rounds: int) -> int:
    """How many rounds to make."""
    return max(3, rounds // 5) if QUICK else rounds


def in_turns(
    sides: Mapping[str, Callable[[], object]],
    rounds: int,
    prepare: Callable[[], object] = lambda: None,
    clock: Callable[[], float] = time.perf_counter,
) -> dict[str, list[float]]:
    """Give the seconds of functions called in turns, so that a busy machine disturbs all; the first calls do not count.

    The order changes from round to round: who comes after a large program finds the processor's caches full of it.

    Args:
      sides: the functions.
      rounds: calls of each.
      prepare: runs before each call, not timed.
      clock: `time.process_time` for work in Python, which other programs then disturb less.
    """
    times: dict[str, list[float]] = {name: [] for name in sides}
    for function in sides.values():
        prepare()
        function()
    turns, order = random.Random(0), list(sides.items())
    gc.collect()
    gc.disable()
    try:
        for _ in range(fewer(rounds)):
            turns.shuffle(order)
            for name, function in order:
                prepare()
                started = clock()
                function()
                times[name].append(clock() - started)
    finally:
        gc.enable()
    return times


def ratios(
    case: str, times: Mapping[str, list[float]], aims: Mapping[str, float] | None = None, **more: Any
) -> list[Ratio]:
    """Give a line for each library, over the one that is named ``raw``."""
    raw = statistics.median(times["raw"])
    return [
        Ratio(case, statistics.median(taken), raw, (aims or {}).get(name), library=name, spread=spread(taken), **more)
        for name, taken in times.items()
        if name != "raw"
    ]


def spread(taken: list[float]) -> tuple[float, float]:
    """Give the quartiles."""
    if len(taken) < 2:
        return taken[0], taken[0]
    low, _, high = statistics.quantiles(taken, n=4, method="inclusive")
    return low, high


def side_by_side(
    case: str,
    sides: Mapping[str, Callable[[], object]],
    *,
    rounds: int = 15,
    aims: Mapping[str, float] | None = None,
    prepare: Callable[[], object] = lambda: None,
    clock: Callable[[], float] = time.process_time,
) -> list[Ratio]:
    """Time all libraries and ``raw`` in turns."""
    return ratios(case, in_turns(sides, rounds, prepare, clock), aims)


def interleaved(
    case: str,
    ours: Callable[[], object],
    raw: Callable[[], object],
    *,
    rounds: int = 15,
    aim: float | None = None,
    prepare: Callable[[], object] = lambda: None,
    library: str = "fx",
) -> Ratio:
    """Time a library and hand-written JAX in turns."""
    times = in_turns({"ours": ours, "raw": raw}, rounds, prepare)
    (row,) = ratios(case, times)
    return dataclasses.replace(row, library=library, aim=aim)
