"""What fx new-plugin writes installs, passes its tests and is seen by fx, at once."""

import importlib.util
import json
import shutil
import subprocess
import sys

import pytest


def installer():
    """A command that installs a directory into another one, whichever tool the environment has."""
    if importlib.util.find_spec("pip"):
        return [sys.executable, "-m", "pip", "install", "--disable-pip-version-check"]
    uv = shutil.which("uv")
    assert uv, "neither pip nor uv is there to install with"
    return [uv, "pip", "install", "--python", sys.executable]


@pytest.mark.slow
def test_it_installs_and_passes_at_once(site, tmp_path):
    written = site.fx("new-plugin", "acme-layers", "--directory", str(tmp_path))
    assert written.returncode == 0, written.stderr
    package = tmp_path / "acme-layers"
    command = [*installer(), "-q", "--no-deps", "--target", str(site.directory), str(package)]
    installed = subprocess.run(command, capture_output=True, text=True, check=False)
    assert installed.returncode == 0, installed.stdout + installed.stderr
    tested = site.python(
        "-m", "pytest", "-q", "-W", "error", "-p", "no:cacheprovider", "--rootdir", str(package), str(package)
    )
    assert tested.returncode == 0, tested.stdout + tested.stderr
    assert json.loads(site.fx("plugins", "doctor", "--json").stdout)["healthy"]
