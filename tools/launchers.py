"""SLURM and Open MPI on this machine, for the tests that start programs by them.

    python tools/launchers.py

On Debian and its relatives the missing packages are installed, by root or by a user who may become root.
"""

import os
import shutil
import subprocess
import sys

PACKAGES = {
    "munged": "munge",
    "slurmctld": "slurmctld",
    "slurmd": "slurmd",
    "srun": "slurm-client",
    "mpirun": "openmpi-bin",
}
PLACES = os.pathsep.join([os.environ.get("PATH", os.defpath), "/usr/local/sbin", "/usr/sbin", "/sbin"])


def missing() -> dict[str, str]:
    """Commands that are not here, and the packages that bring them."""
    return {command: package for command, package in PACKAGES.items() if shutil.which(command, path=PLACES) is None}


def install() -> None:
    """Install what is missing.

    Raises:
      SystemExit: it cannot be installed; the text says what to do.
    """
    lacking = missing()
    if not lacking:
        return
    by_hand = f"Install {', '.join(lacking)} by hand (Debian: {' '.join(lacking.values())})."
    if shutil.which("apt-get") is None:
        raise SystemExit(f"The tests of launchers need SLURM and Open MPI, and there is no apt-get. {by_hand}")
    root = [] if os.geteuid() == 0 else ["sudo", "-n"]
    if root and shutil.which("sudo") is None:
        raise SystemExit(f"The tests of launchers need SLURM and Open MPI, which root has to install. {by_hand}")
    apt = [*root, "env", "DEBIAN_FRONTEND=noninteractive", "apt-get", "-q", "-y", "-o", "DPkg::Lock::Timeout=300"]
    for arguments in (["update"], ["install", "--no-install-recommends", *lacking.values()]):
        done = subprocess.run([*apt, *arguments], capture_output=True, text=True, check=False)
        if done.returncode:
            sys.stderr.write(done.stdout + done.stderr)
            raise SystemExit(
                f"The tests of launchers need SLURM and Open MPI; apt-get {arguments[0]} failed. {by_hand}"
            )
    lacking = missing()
    if lacking:
        raise SystemExit(f"apt-get went well, but there is still no {', '.join(lacking)}. {by_hand}")


if __name__ == "__main__":
    install()
