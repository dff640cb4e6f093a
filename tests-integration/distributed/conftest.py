"""Ways to start `program.py`, and what it has to say on one device."""

import json
import os
import socket
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

PROGRAM = str(Path(__file__).with_name("program.py"))


@dataclass
class Outcome:
    """How a process, or a launcher of processes, ended."""

    code: int
    output: str
    errors: str

    @property
    def result(self):
        """What the program's first process printed at its end."""
        lines = [line for line in self.output.splitlines() if line.startswith("{")]
        assert lines, self.errors
        return json.loads(lines[-1])


class Starter:
    """Starts commands as users do: with an environment, from a shell."""

    program = PROGRAM

    def start(self, command, *, devices=2, **environment):
        """A process that runs."""
        own = {"JAX_PLATFORMS": "cpu", "JAX_NUM_CPU_DEVICES": str(devices), "XLA_FLAGS": ""}
        return subprocess.Popen(
            list(map(str, command)),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, **own, **environment},
        )

    def finish(self, *running):
        """Outcomes of processes, which must not take for ever."""
        try:
            ended = [(process, *process.communicate(timeout=180)) for process in running]
        finally:
            for process in running:
                process.kill()
                process.communicate()
        return [Outcome(process.returncode, output, errors) for process, output, errors in ended]

    def alone(self, *arguments, devices=8, **environment):
        """The program as one process."""
        (outcome,) = self.finish(self.start([sys.executable, PROGRAM, *arguments], devices=devices, **environment))
        return outcome

    def pods(self, count, *arguments, devices=2, **environment):
        """The program as the pods of an indexed job of Kubernetes, whose headless service leads to this machine."""
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        job = {"FX_COORDINATOR": f"localhost:{port}", "FX_PROCESS_COUNT": str(count), **environment}
        command = [sys.executable, PROGRAM, *arguments]
        return self.finish(
            *(self.start(command, devices=devices, JOB_COMPLETION_INDEX=str(index), **job) for index in range(count))
        )


@pytest.fixture(scope="session")
def starter():
    return Starter()


@pytest.fixture(scope="session")
def expected(starter, tmp_path_factory):
    """Losses on one device."""
    outcome = starter.alone(tmp_path_factory.mktemp("one"), "data:1", "data", 6, devices=1)
    assert outcome.code == 0, outcome.errors
    assert len(outcome.result["losses"]) == 6
    return outcome.result["losses"]
