"""Saves that die, lose power, or meet a failing disk, at every call of the file system."""

import contextlib
import json
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

from fx_core.testing.disks import RecordedDisk
from fx_core.testing.faults import FaultyFileSystem, fail_at, fail_from, io_error, no_space, not_permitted, read_only

from fx_ckpt.testing.scenarios import Scenario, check, copy

__all__ = ["ERRORS", "failing_calls", "interrupted", "killed_processes", "power_losses"]

ERRORS = {"ENOSPC": no_space, "EIO": io_error, "EACCES": not_permitted, "EROFS": read_only}
"""What a disk answers when it is full, broken, forbidden or mounted for reading."""


def power_losses(scenario: Scenario, backend: str, work: Path, every: int = 1) -> Counter[str]:
    """Loses power after each call of a save: data torn, names reordered, in every way that the model of a disk has.

    Args:
      scenario: the save.
      backend: name of the backend.
      work: an empty directory.
      every: take every n-th state only.

    Returns:
      How often the old and the new step were found.

    Raises:
      AssertionError: something else was found.
    """
    scenario.prepare(work / "disk", backend)
    with RecordedDisk(work / "disk") as disk:
        scenario.save(work / "disk", backend)
    found: Counter[str] = Counter()
    for index, state in enumerate(disk.power_losses()):
        if index % every == 0:
            root = work / f"state-{index}"
            state.write(root)
            with _explained(f"after call {state.after} of {list(map(str, disk.calls))}: {state.what}"):
                found[check(scenario, root, backend)] += 1
    return found


def failing_calls(
    scenario: Scenario, backend: str, work: Path, error: Callable[[], OSError], lasting: bool = False, every: int = 1
) -> Counter[str]:
    """Fails each call of a save in turn, or all changes from it on.

    Returns:
      How often the save raised and the old or new step was found, or it did its work in spite of it.

    Raises:
      AssertionError: it raised nothing, and the new step is not there; or something else is wrong.
    """
    scenario.prepare(work / "old", backend)
    found: Counter[str] = Counter()
    for index in range(0, 10_000, every):
        root = copy(work / "old", work / f"{index}")
        with FaultyFileSystem(root, fail_from(index, error()) if lasting else fail_at(index, error())) as system:
            outcome = _outcome(scenario, root, backend)
        if index >= len(system.calls):
            break
        with _explained(f"{error().strerror} at {system.calls[index]}, then {outcome}"):
            which = check(scenario, root, backend)
            assert which == "new" or outcome == "raised", "the save succeeded, and nothing was saved"
        found[f"{outcome}, {which}"] += 1
    return found


def interrupted(
    scenario: Scenario, backend: str, work: Path, error: type[BaseException], every: int = 1
) -> Counter[str]:
    """Raises what a signal handler may raise, such as KeyboardInterrupt, at each call in turn.

    Returns:
      How often the old and the new step were found.
    """
    scenario.prepare(work / "old", backend)
    found: Counter[str] = Counter()
    for index in range(0, 10_000, every):
        root = copy(work / "old", work / f"{index}")
        with FaultyFileSystem(root, fail_at(index, error())) as system, contextlib.suppress(error):
            scenario.save(root, backend)
        if index >= len(system.calls):
            break
        with _explained(f"{error.__name__} at {system.calls[index]}"):
            found[check(scenario, root, backend)] += 1
    return found


def killed_processes(
    scenario: Scenario, backend: str, work: Path, number: int = signal.SIGKILL, every: int = 1
) -> Counter[str]:
    """Sends a real process a signal at each call of a save.

    Returns:
      How often the old and the new step were found.

    Raises:
      AssertionError: something else was found, or no process died.
    """
    arguments = {"scenario": scenario.__dict__, "backend": backend, "work": str(work), "signal": number, "every": every}
    program = [sys.executable, "-m", "fx_ckpt.testing.dying", json.dumps(arguments)]
    run = subprocess.run(program, capture_output=True, text=True, check=False)
    if run.returncode:
        raise AssertionError(run.stderr)
    died = json.loads(run.stdout.splitlines()[-1])
    assert len(died) > 5, "hardly any process died"
    found: Counter[str] = Counter()
    for index in died:
        with _explained(f"signal {number} at call {index}"):
            found[check(scenario, work / str(index), backend)] += 1
    return found


def _outcome(scenario: Scenario, root: Path, backend: str) -> str:
    try:
        scenario.save(root, backend)
    except Exception:
        return "raised"
    return "done"


@contextlib.contextmanager
def _explained(what: str) -> Iterator[None]:
    try:
        yield
    except Exception as error:
        raise AssertionError(f"{what}: {error}") from error
