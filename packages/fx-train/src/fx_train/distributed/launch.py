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
    """Run a command as several processes of one program.

    SIGINT and SIGTERM are passed on to all of them; a second one ends them.

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
        children = _start(command, processes, {**(environment or {}), "FX_ATTEMPT": str(attempt)})
        former = {number: signal.signal(number, _passing_on(children)) for number in (signal.SIGINT, signal.SIGTERM)}
        try:
            index, status = _first_failure(children)
        finally:
            for number, handler in former.items():
                signal.signal(number, handler)
            _end(children, grace)
        if index is None:
            return 0
        left = restarts - attempt
        print(
            f"Process {index} of {processes} {_what_happened(status)}; the others were ended, since they would wait "
            f"for it. {f'Starting all anew ({left} restarts left).' if left else 'Start all anew to go on.'} "
            "A run with checkpoints goes on from its last whole one.",
            file=sys.stderr,
            flush=True,
        )
        if not left:
            return status if status >= 0 else 128 - status
    return 0


def _start(command: Sequence[str], processes: int, environment: Mapping[str, str]) -> list[subprocess.Popen[bytes]]:
    address = f"127.0.0.1:{_free_port()}"
    children = []
    for index in range(processes):
        own = {"FX_COORDINATOR": address, "FX_PROCESS_COUNT": str(processes), "FX_PROCESS_INDEX": str(index)}
        children.append(subprocess.Popen(command, env={**os.environ, **environment, **own}))
    return children


def _free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def _first_failure(children: Sequence[subprocess.Popen[bytes]]) -> tuple[int | None, int]:
    """Wait until one has failed, or all have ended well."""
    while True:
        statuses = [child.poll() for child in children]
        failed = [(index, status) for index, status in enumerate(statuses) if status not in (None, 0)]
        # Who was killed died first; the runtime of the others aborts because of it.
        killed = [(index, status) for index, status in failed if status in (-signal.SIGKILL, -signal.SIGSEGV)]
        for index, status in killed or failed:
            return index, status or 0
        if all(status == 0 for status in statuses):
            return None, 0
        time.sleep(0.05)


def _end(children: Sequence[subprocess.Popen[bytes]], grace: float) -> None:
    for child in children:
        if child.poll() is None:
            child.terminate()
    deadline = time.monotonic() + grace
    for child in children:
        try:
            child.wait(max(0.0, deadline - time.monotonic()))
        except subprocess.TimeoutExpired:
            child.kill()
            child.wait()


def _passing_on(children: Sequence[subprocess.Popen[bytes]]):
    came = 0

    def handle(number: int, frame: object) -> None:
        nonlocal came
        came += 1
        for child in children:
            if child.poll() is None:
                # JAX takes SIGTERM without ending, where the program does not.
                child.send_signal(number if came == 1 else signal.SIGKILL)

    return handle


def _what_happened(status: int) -> str:
    return f"was killed by {signal.Signals(-status).name}" if status < 0 else f"failed with exit status {status}"


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line."""
    parser = argparse.ArgumentParser(
        prog="python -m fx_train.distributed.launch", description=(__doc__ or "").split("\n")[0]
    )
    parser.add_argument("--processes", type=int, required=True, help="how many processes")
    parser.add_argument("--restarts", type=int, default=0, help="how often to start all anew after one died")
    parser.add_argument("command", nargs=argparse.REMAINDER, help="a Python program and its arguments")
    options = parser.parse_args(arguments)
    if options.processes < 1 or options.restarts < 0 or not options.command:
        parser.error("needs at least one process and a program")
    return launch([sys.executable, *options.command], options.processes, restarts=options.restarts)


if __name__ == "__main__":
    raise SystemExit(main())
