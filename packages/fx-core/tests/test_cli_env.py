"""``fx env`` and ``fx --version``."""

import importlib.metadata
import json

import jax
import pytest
from click.testing import CliRunner
from fx_core.cli.app import fx


@pytest.fixture
def run(monkeypatch):
    monkeypatch.setenv("FX_SOMETHING", "a\x1b[31mb")
    monkeypatch.setenv("SECRET_TOKEN", "hidden")
    return lambda *arguments: CliRunner().invoke(fx, arguments, prog_name="fx")


def test_version_lists_every_installed_package_of_fx(run):
    lines = run("--version").output.splitlines()
    assert f"fx-core {importlib.metadata.version('fx-core')}" in lines
    assert lines == sorted(lines)


def test_env_tells_what_a_bug_report_needs(run):
    result = run("env")
    assert result.exit_code == 0
    for text in (f"jax: {jax.__version__}", "python:", "platform:", "fx-core", "cpu", "FX_SOMETHING"):
        assert text in result.output
    # Values of other variables stay where they are, and none of them commands the terminal.
    assert "hidden" not in result.output
    assert "\x1b" not in result.output


def test_env_for_programs(run):
    found = json.loads(run("env", "--json", "--no-devices").output)
    assert found["packages"]["jax"] == jax.__version__
    assert found["devices"] == {}
    assert set(found) == {"fx", "system", "packages", "plugins", "devices", "environment"}
