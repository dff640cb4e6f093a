"""Fake distributions and processes for the tests of plugins that are broken, absent or in each other's way."""

import os
import subprocess
import sys
from pathlib import Path

import pytest


class Site:
    """A directory that is to a Python process what site-packages is: distributions are written into it."""

    def __init__(self, directory: Path):
        self.directory = directory
        directory.mkdir()

    def add(self, distribution: str, plugin: str, version: str = "1.0") -> None:
        """Install a distribution whose plugin module has the source ``plugin``."""
        module = distribution.replace("-", "_")
        (self.directory / f"{module}.py").write_text(plugin)
        info = self.directory / f"{module}-{version}.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {distribution}\nVersion: {version}\n")
        (info / "entry_points.txt").write_text(f"[fx]\n{distribution} = {module}\n")

    def python(self, *arguments: str, cwd: Path | None = None, **environment: str) -> subprocess.CompletedProcess[str]:
        """Run Python with these distributions beside the installed ones."""
        clean = {key: value for key, value in os.environ.items() if not key.startswith("FX_")}
        path = os.pathsep.join(filter(None, [str(self.directory), os.environ.get("PYTHONPATH")]))
        return subprocess.run(
            [sys.executable, *arguments],
            env={**clean, "PYTHONPATH": path, "COLUMNS": "300", **environment},
            cwd=cwd,
            capture_output=True,
            text=True,
            check=False,
        )

    def fx(self, *arguments: str, cwd: Path | None = None, **environment: str) -> subprocess.CompletedProcess[str]:
        """Run the command ``fx``."""
        return self.python("-c", "from fx_core.cli.main import main; main()", *arguments, cwd=cwd, **environment)


@pytest.fixture
def site(tmp_path: Path) -> Site:
    return Site(tmp_path / "site")
