"""The program behind `fx_ckpt.testing.crashes.killed_processes`: saves in child processes that get a signal.

Each child starts as a copy of a process that has imported everything, and does nothing but one save.
"""

import json
import os
import shutil
import signal
import sys
import traceback
import warnings
from pathlib import Path
from typing import Any

from fx_core.plugins import registry
from fx_core.testing.faults import Call, FaultyFileSystem

from fx_ckpt.testing.scenarios import Scenario


def main(arguments: dict[str, Any]) -> None:
    """Prints the indices of the calls at which a child died."""
    scenario, backend = Scenario(**arguments["scenario"]), arguments["backend"]
    work, number = Path(arguments["work"]), arguments["signal"]
    # JAX warns of forks because of its threads; there are none before the first use of it.
    warnings.simplefilter("ignore", RuntimeWarning)
    registry().checkpoint_backends[backend].load()
    assert _in_child(lambda: scenario.prepare(work / "old", backend)) == 0
    died: list[int] = []
    for index in range(0, 10_000, arguments["every"]):
        root = work / str(index)
        shutil.copytree(work / "old", root)
        status = _in_child(lambda root=root, index=index: _save(scenario, root, backend, index, number))
        if status == 0:
            break
        if not os.WIFSIGNALED(status):
            raise SystemExit(f"a child ended with {status} at call {index}")
        died.append(index)
    print(json.dumps(died))


def _save(scenario: Scenario, root: Path, backend: str, fatal: int, number: int) -> None:
    def before(call: Call) -> None:
        if call.index == fatal:
            os.kill(os.getpid(), number)

    with FaultyFileSystem(root, before=before):
        scenario.save(root, backend)


def _in_child(act: Any) -> int:
    child = os.fork()
    if child:
        return os.waitpid(child, 0)[1]
    try:
        signal.alarm(60)
        act()
    except BaseException:
        traceback.print_exc()
        os._exit(1)
    os._exit(0)


if __name__ == "__main__":
    main(json.loads(sys.argv[1]))
