"""A SLURM of one node, in a directory, for as long as a test needs it."""

import os
import shutil
import socket
import subprocess
import time
from contextlib import contextmanager
from getpass import getuser
from pathlib import Path

# Its first job starts at a number from which JAX makes a port that is free here; see `free_job_number`.
CONFIGURATION = """\
ClusterName=fx
SlurmctldHost=localhost
SlurmctldPort={ports[0]}
SlurmdPort={ports[1]}
SlurmUser={user}
SlurmdUser={user}
AuthType=auth/munge
AuthInfo=socket={directory}/munge.socket
StateSaveLocation={directory}/state
SlurmdSpoolDir={directory}/spool
SlurmctldPidFile={directory}/slurmctld.pid
SlurmdPidFile={directory}/slurmd.pid
SlurmdParameters=config_overrides
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
MpiDefault=none
SchedulerType=sched/builtin
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
ReturnToService=2
FirstJobId={job}
NodeName=localhost NodeAddr=127.0.0.1 CPUs=4 State=UNKNOWN
PartitionName=all Nodes=localhost Default=YES MaxTime=INFINITE State=UP
"""

SYSTEM = os.pathsep.join([os.environ.get("PATH", os.defpath), "/usr/local/sbin", "/usr/sbin", "/sbin"])


def command(name):
    """Where a program of SLURM, MUNGE or Open MPI is."""
    found = shutil.which(name, path=SYSTEM)
    assert found, f"There is no {name} here. Run python tools/launchers.py, which installs it on Debian."
    return found


def free_ports(count):
    sockets = [socket.socket() for _ in range(count)]
    try:
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [one.getsockname()[1] for one in sockets]
    finally:
        for one in sockets:
            one.close()


def free_job_number():
    """A number of a job whose coordinator's port is free: JAX takes 61440 plus the number's last 12 bits."""
    for number in range(1000 + os.getpid() % 1000, 4000):
        with socket.socket() as trial:
            try:
                trial.bind(("0.0.0.0", 61440 + number % 4096))
            except OSError:
                continue
        return number
    raise AssertionError("All ports from 62440 on are taken.")


@contextmanager
def running_slurm(directory: Path):
    """Run munged, slurmctld and slurmd until the block ends; gives the environment for srun and its relatives."""
    for name in ("state", "spool"):
        (directory / name).mkdir()
    key = directory / "munge.key"
    key.write_bytes(os.urandom(1024))
    key.chmod(0o400)
    configuration = directory / "slurm.conf"
    configuration.write_text(
        CONFIGURATION.format(ports=free_ports(2), user=getuser(), directory=directory, job=free_job_number())
    )
    environment = {"SLURM_CONF": str(configuration)}
    files = {"key-file": key.name, "socket": "munge.socket", "pid-file": "munged.pid", "log-file": "munged.log"}
    options = [f"--{option}={directory / name}" for option, name in {**files, "seed-file": "munged.seed"}.items()]
    daemons = [
        [command("munged"), "--foreground", "--force", *options],
        [command("slurmctld"), "-D", "-c"],
        [command("slurmd"), "-D", "-N", "localhost"],
    ]
    started = []
    try:
        for daemon in daemons:
            log = (directory / f"{Path(daemon[0]).name}.out").open("w")
            child = subprocess.Popen(daemon, stdout=log, stderr=log, env={**os.environ, **environment})
            started.append((child, log))
            if daemon is daemons[0]:
                wait_until((directory / "munge.socket").exists, directory)
        wait_until(lambda: node_state(environment) == "idle", directory)
        yield environment
    finally:
        for child, log in reversed(started):
            child.terminate()
            try:
                child.wait(10)
            except subprocess.TimeoutExpired:
                child.kill()
                child.wait()
            log.close()


def node_state(environment):
    asked = [command("sinfo"), "--noheader", "--format=%t"]
    done = subprocess.run(asked, capture_output=True, text=True, env={**os.environ, **environment}, check=False)
    return done.stdout.strip()


def wait_until(condition, directory, seconds=60):
    deadline = time.monotonic() + seconds
    while not condition():
        logs = {path.name: path.read_text()[-2000:] for path in directory.glob("*.out")}
        assert time.monotonic() < deadline, f"SLURM did not start: {logs}"
        time.sleep(0.1)
