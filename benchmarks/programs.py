"""Cases that need new processes: what they print is a row of figures."""

import json
import os
import statistics
import subprocess
import sys
import textwrap
from collections.abc import Mapping
from typing import Any

from benchmarks.measure import Ratio, fewer, spread


def figures(program: str, *arguments: str, **environment: str) -> Any:
    """Give the last line that a program of its own process prints, read as JSON."""
    variables = {key: value for key, value in os.environ.items() if key != "PYTHONDONTWRITEBYTECODE"}
    command = [sys.executable, "-c", textwrap.dedent(program), *arguments]
    answer = subprocess.check_output(command, text=True, env={**variables, **environment})
    return json.loads(answer.splitlines()[-1])


def rows(
    case: str,
    programs: Mapping[str, tuple[str, ...]],
    rounds: int,
    aims: Mapping[str, float] | None = None,
    unit: str = "s",
    environment: Mapping[str, str] | None = None,
) -> list[Ratio]:
    """Give a row for each side, over the one named ``raw``, of programs that take turns and print one figure.

    Args:
      case: what is measured.
      programs: for each library the program and its arguments.
      rounds: processes of each; a first one, which warms the disk, does not count where there are several.
      aims: ratios to stay under.
      unit: of the figures.
      environment: variables of the processes.
    """
    rounds = min(rounds, fewer(rounds))
    taken: dict[str, list[float]] = {name: [] for name in programs}
    for number in range(rounds + (rounds > 2)):
        for name, (program, *arguments) in programs.items():
            value = figures(program, *arguments, **(environment or {}))
            if number or rounds <= 2:
                taken[name].append(value)
    raw = statistics.median(taken["raw"])
    return [
        Ratio(
            case,
            statistics.median(times),
            raw,
            (aims or {}).get(name),
            library=name,
            spread=spread(times),
            unit=unit,
        )
        for name, times in taken.items()
        if name != "raw"
    ]
