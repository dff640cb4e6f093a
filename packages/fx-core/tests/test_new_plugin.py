"""What fx new-plugin writes; that it installs and passes is tested where all packages are, in tests-integration."""

import ast
import os
import re
import subprocess
import sys
import tomllib

import pytest
from click.testing import CliRunner
from fx_core.cli.app import fx
from fx_core.cli.new_plugin import write_plugin
from fx_core.errors import ArgumentError


def test_writes_a_package_that_is_whole(tmp_path):
    written = write_plugin("Acme.Layers", tmp_path)
    assert written == tmp_path / "acme-layers"
    files = {str(path.relative_to(written)) for path in written.rglob("*") if path.is_file()}
    assert files == {
        "pyproject.toml",
        "README.md",
        "CHANGELOG.md",
        "noxfile.py",
        "docs/usage.md",
        ".github/workflows/ci.yml",
        *(f"src/acme_layers/{name}.py" for name in ("__init__", "plugin", "layers", "variables", "backends")),
        *(f"tests/test_{name}.py" for name in ("plugin", "layer", "backend")),
    }
    for path in written.rglob("*.py"):
        ast.parse(path.read_text())
    for path in written.rglob("*"):
        assert path.is_dir() or not re.search(r"\$\w", path.read_text()), path
    project = tomllib.loads((written / "pyproject.toml").read_text())["project"]
    assert project["name"] == "acme-layers"
    assert project["entry-points"]["fx"] == {"acme-layers": "acme_layers.plugin"}
    assert any(re.fullmatch(r"fx-core>=\d+\.\d+,<\d+\.\d+", requirement) for requirement in project["dependencies"])


@pytest.mark.slow
def test_its_backend_passes_the_suite(tmp_path):
    written = write_plugin("acme", tmp_path)
    environment = {**os.environ, "PYTHONPATH": str(written / "src")}
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "tests/test_backend.py"]
    run = subprocess.run(command, cwd=written, env=environment, capture_output=True, text=True)
    assert run.returncode == 0, run.stdout + run.stderr


@pytest.mark.parametrize(
    "name", ["", "3d", "class", "a b", "-a", "a/b", "../a", "naïve", "fx-core", "FX_linen", "a-", "json"]
)
def test_names_that_no_plugin_can_have(tmp_path, name):
    with pytest.raises(ArgumentError, match="A plugin cannot be called"):
        write_plugin(name, tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_nothing_is_overwritten(tmp_path):
    (tmp_path / "acme").mkdir()
    (tmp_path / "acme" / "precious.txt").write_text("mine")
    with pytest.raises(ArgumentError, match="would overwrite files"):
        write_plugin("acme", tmp_path)
    assert [path.name for path in (tmp_path / "acme").iterdir()] == ["precious.txt"]


def test_the_command_says_what_to_do_next(tmp_path):
    result = CliRunner().invoke(fx, ["new-plugin", "acme", "--directory", str(tmp_path)])
    assert result.exit_code == 0
    assert "pip install -e . 'fx-core[testing]'" in result.output
    assert (tmp_path / "acme" / "pyproject.toml").is_file()
    again = CliRunner().invoke(fx, ["new-plugin", "acme", "--directory", str(tmp_path)])
    assert again.exit_code == 1
    assert "would overwrite files" in again.output
