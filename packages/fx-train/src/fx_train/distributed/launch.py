"""Starts the processes of a program on this machine, watches them, and starts them again.

    python -m fx_train.distributed.launch --processes 2 --restarts 3 train.py --steps 1000

Each process gets what `fx_train.distributed.initialize` looks for. When one dies, the others could only wait for it:
they are ended, the death is reported, and with ``--restarts`` all are started anew, so that a run goes on from its last
whole checkpoint. On several machines SLURM, MPI or Kubernetes start and restart processes; see the documentation.
"""

import argparse
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence

__all__ = ["launch", "main"]


def launch(
    command: Sequence[str],
    processes: int,
    *,
    restarts: int = 0,
    environment: Mapping[str, str] | None = None,
    grace: float = 10.0,
) -> int:
    """Runs a command as several processes of one program.

    SIGINT and SIGTERM are passed on to all of them, which are then not started anew; a second one ends them.

    Args:
      command: what to run.
      processes: how many.
      restarts: how often to start all of them anew after one died.
      environment: more environment variables.
      grace: seconds between asking processes to end and ending them.

    Returns:
      0, or the exit status of the process that failed first; 128 plus the signal's number for one that was killed.
    """
    for attempt in range(restarts + 1):
        group = _Group(command, processes, {**(environment or {}), "FX_ATTEMPT": str(attempt)})
        former = {number: signal.signal(number, group.pass_on) for number in (signal.SIGINT, signal.SIGTERM)}
        try:
            group.start()
            index, status = group.first_failure()
        finally:
            group.end(grace)
            for number, handler in former.items():
                signal.signal(number, handler)
        if index is None:
            return 0
        left = restarts - attempt if group.asked is None else 0
        print(_report(group, index, status, left), file=sys.stderr, flush=True)
        if not left:
            return status if status >= 0 else 128 - status
    return 0


class _Group:
    """The processes of one try.

    Attributes:
      children: those that were started.
      asked: the signal that asked them to end, if one did.
    """

    def __init__(self, command: Sequence[str], processes: int, environment: Mapping[str, str]):
        self.children: list[subprocess.Popen[bytes]] = []
        self.asked: int | None = None
        self.command, self.processes = command, processes
        self._environment = {**os.environ, **environment}

    def start(self) -> None:
        address = f"127.0.0.1:{_free_port()}"
        for index in range(self.processes):
            own = {"FX_COORDINATOR": address, "FX_PROCESS_COUNT": str(self.processes), "FX_PROCESS_INDEX": str(index)}
            # A session of their own, or Ctrl-C would reach them from the terminal and from here.
            child = subprocess.Popen(self.command, env={**self._environment, **own}, start_new_session=True)
            self.children.append(child)
            if self.asked is not None:
                child.send_signal(self.asked)

    def pass_on(self, number: int, frame: object) -> None:
        first, self.asked = self.asked is None, self.asked or number
        for child in self.children:
            if child.poll() is None:
                # JAX takes SIGTERM without ending, where the program does not.
                child.send_signal(number if first else signal.SIGKILL)

    def first_failure(self) -> tuple[int | None, int]:
        """Wait until one has failed, or all have ended; who was asked to end has the time that it needs."""
        while True:
            statuses = [child.poll() for child in self.children]
            failed = [(index, status) for index, status in enumerate(statuses) if status]
            # Who was killed died first; the runtime of the others aborts because of it.
            killed = [(index, status) for index, status in failed if status in (-signal.SIGKILL, -signal.SIGSEGV)]
            ended = None not in statuses
            if failed and (ended or self.asked is None):
                return (killed or failed)[0]
            if ended:
                return None, 0
            time.sleep(0.05)

    def end(self, grace: float) -> None:
        for child in self.children:
            if child.poll() is None:
                child.terminate()
        deadline = time.monotonic() + grace
        for child in self.children:
            try:
                child.wait(max(0.0, deadline - time.monotonic()))
            except subprocess.TimeoutExpired:
                child.kill()
                child.wait()


def _report(group: _Group, index: int, status: int, left: int) -> str:
    happened = f"was killed by {signal.Signals(-status).name}" if status < 0 else f"failed with exit status {status}"
    if group.asked is not None:
        name = signal.Signals(group.asked).name
        cause = f"All were asked to end by {name}, and process {index} of {group.processes} {happened}. Start all anew"
        return f"{cause} to go on. A run with checkpoints goes on from its last whole one."
    then = f"Starting all anew ({left} restarts left)." if left else "Start all anew to go on."
    return (
        f"Process {index} of {group.processes} {happened}; the others were ended, since they would wait for it. {then} "
        "A run with checkpoints goes on from its last whole one."
    )


def _free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def main(arguments: Sequence[str] | None = None) -> int:
    """Returns the command line."""
    parser = argparse.ArgumentParser(
        prog="python -m fx_train.distributed.launch", description=(__doc__ or "").split("\n")[0]
    )
    parser.add_argument("--processes", type=int, required=True, help="how many processes")
    parser.add_argument("--restarts", type=int, default=0, help="how often to start all anew after one died")
    parser.add_argument("-m", action="store_true", dest="module", help="the program is a module, as in python -m")
    parser.add_argument("command", nargs=argparse.REMAINDER, metavar="program ...", help="a program and its arguments")
    options = parser.parse_args(arguments)
    command = options.command[1:] if options.command[:1] == ["--"] else options.command
    if options.processes < 1 or options.restarts < 0 or not command:
        parser.error("needs at least one process and a program")
    python = [sys.executable, "-m"] if options.module else [sys.executable]
    return launch([*python, *command], options.processes, restarts=options.restarts)


if __name__ == "__main__":
    raise SystemExit(main())
