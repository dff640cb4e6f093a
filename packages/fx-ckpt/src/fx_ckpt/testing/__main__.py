"""Print what was done to checkpoints and what came of it, as the tables of ``docs/reliability.md``.

python -m fx_ckpt.testing                           # everything, with each backend that is installed
python -m fx_ckpt.testing --backend msgpack --every 5
"""

import argparse
import json
import logging
import os
import signal
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

from fx_core.plugins import registry

from fx_ckpt.testing.crashes import ERRORS, failing_calls, interrupted, killed_processes, power_losses
from fx_ckpt.testing.damage import every_damage
from fx_ckpt.testing.foreign import WRITERS, left_alone
from fx_ckpt.testing.roundtrips import round_trips
from fx_ckpt.testing.scenarios import SCENARIOS, Scenario, tree_of


def main() -> None:
    """Reads the arguments, print the tables."""
    parser = argparse.ArgumentParser(prog="python -m fx_ckpt.testing", description=__doc__)
    parser.add_argument("--backend", action="append", help="name of a backend; may be repeated")
    parser.add_argument("--every", type=int, default=1, help="take every n-th call, state and byte only")
    parser.add_argument("--orbax-every", type=int, default=7, help="the same for Orbax, whose saves have more calls")
    parser.add_argument("--kill-every", type=int, default=1, help="the same, on top, for processes that are killed")
    parser.add_argument("--trees", type=int, default=500, help="how many random trees")
    options = parser.parse_args()
    os.environ.setdefault("JAX_PLATFORMS", "cpu")
    # Failures in the background are logged; here they are the purpose.
    logging.disable(logging.CRITICAL)
    backends = options.backend or ["msgpack", "safetensors", "orbax"]
    every = {name: options.orbax_every if name == "orbax" else options.every for name in backends}
    for name in backends:
        registry().checkpoint_backends[name].load()
    _table(
        "Faults injected into saves: how many, and which step was found",
        ["fault", *backends],
        _fault_rows(every, options.kill_every),
    )
    _table("Damage done to checkpoints", ["damage", "backend", "done", "noticed, with the name"], _damage_rows(every))
    _table("Things of others in the way of a save", ["thing", "functions", *backends], _foreign_rows(backends))
    rows = ([backend, *round_trips(backend, options.trees).values()] for backend in backends)
    _table("Random trees, restored with and without a target", ["backend", "trees", "leaves, to the bit"], rows)
    _table("Hostile checkpoints opened", ["backend", "opened", "refused", "ran or touched"], _hostile_rows(backends))


def _fault_rows(every: dict[str, int], kill_every: int) -> Iterator[list[object]]:
    for title, act in _faults(kill_every).items():
        row: list[object] = [title]
        for backend, step in every.items():
            found: Counter[str] = Counter()
            for scenario in SCENARIOS if backend != "orbax" else SCENARIOS[1:4:2]:
                with tempfile.TemporaryDirectory() as work:
                    found += act(scenario, backend, Path(work), step)
            # Whatever is neither the old nor the new step raises AssertionError.
            old = sum(count for name, count in found.items() if name.endswith("old"))
            row.append(f"{found.total():,}: {old:,} old, {found.total() - old:,} new")
        yield row


def _faults(kill_every: int) -> dict[str, Callable[[Scenario, str, Path, int], Counter[str]]]:
    faults: dict[str, Callable[[Scenario, str, Path, int], Counter[str]]] = {
        "`kill -9` of a process": lambda s, b, w, n: killed_processes(s, b, w, signal.SIGKILL, n * kill_every),
        "SIGTERM without a handler": lambda s, b, w, n: killed_processes(s, b, w, signal.SIGTERM, n * kill_every),
        "loss of power": power_losses,
        "an interrupt (Ctrl-C)": lambda s, b, w, n: interrupted(s, b, w, KeyboardInterrupt, n),
    }
    for name, error in ERRORS.items():
        faults[f"{name}, once"] = lambda s, b, w, n, e=error: failing_calls(s, b, w, e, False, n)
        faults[f"{name}, from then on"] = lambda s, b, w, n, e=error: failing_calls(s, b, w, e, True, n)
    return faults


def _damage_rows(every: dict[str, int]) -> Iterator[list[object]]:
    for backend, step in every.items():
        with tempfile.TemporaryDirectory() as work:
            done = every_damage(backend, (tree_of(1), tree_of(2)), Path(work), step)
        for what, count in done.items():
            yield [what, backend, count, count]


def _foreign_rows(backends: list[str]) -> Iterator[list[object]]:
    found: dict[str, list[int]] = {}
    for backend in backends:
        with tempfile.TemporaryDirectory() as work:
            for thing, count in left_alone(backend, Path(work)).items():
                found.setdefault(thing, []).append(count)
    for thing, counts in found.items():
        # What was not left as it was raises AssertionError.
        yield [thing, len(WRITERS), *(f"{count} left as it was" for count in counts)]


def _hostile_rows(backends: list[str]) -> Iterator[list[object]]:
    for backend in backends:
        with tempfile.TemporaryDirectory() as work:
            program = [sys.executable, "-m", "fx_ckpt.testing.watched", backend, work]
            run = subprocess.run(program, capture_output=True, text=True, check=True)
        outcomes = json.loads(run.stdout.splitlines()[-1])
        bait = outcomes.pop("the bait")
        assert bait["restore"] == "refused", "a module that a file names was imported"
        refused = sum(outcome["restore"] == "refused" for outcome in outcomes.values())
        yield [backend, len(outcomes), refused, sum(bool(outcome["seen"]) for outcome in outcomes.values())]


def _table(title: str, heads: list[str], rows: Iterator[list[object]]) -> None:
    print(f"\n{title}\n\n| {' | '.join(heads)} |\n|{'---|' * len(heads)}", flush=True)
    for row in rows:
        print(f"| {' | '.join(f'{cell:,}' if isinstance(cell, int) else str(cell) for cell in row)} |", flush=True)


if __name__ == "__main__":
    main()
