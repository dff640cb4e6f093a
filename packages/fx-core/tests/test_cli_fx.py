"""The command fx, with the plugins of fx-core and fake ones."""

import importlib.util
import json
import sys
import types

import click
import pytest
from click.testing import CliRunner
from fx_core import plugins
from fx_core.cli.app import fx
from fx_core.cli.main import main
from fx_core.plugins import CollectionEntry, CommandEntry
from fx_core.plugins.hooks import API_VERSION
from fx_core.plugins.sources import installed_sources
from fx_core.testing.fakes import fake_plugin, fake_source


@click.command()
def greet():
    click.echo("hello from acme")


OWN = [source for source in installed_sources() if source.origin.distribution == "fx-core"]
GREET = CommandEntry(name="greet", target="acme_commands:greet", summary="Say hello")
MISSING = CommandEntry(name="missing", target="acme_absent.cli:missing", summary="Not importable")
WRONG = CommandEntry(name="wrong", target="os.path:join", summary="Not a command")
ACME = fake_source(fake_plugin(fx_commands=[GREET, MISSING, WRONG]), "acme", version="4.5")
BROKEN = fake_source(ImportError("No module named 'torch'"), "broken")
GOOD = fake_source(fake_plugin(fx_collections=[CollectionEntry(name="a.a", target="a:A", summary="A")]), "first")
SAME = fake_source(fake_plugin(fx_collections=[CollectionEntry(name="a.a", target="b:A", summary="A")]), "second")


@pytest.fixture
def run(monkeypatch):
    def run(*arguments, sources=(), **environment):
        # By its name, since the attribute `registry` of the package is the function.
        module = sys.modules["fx_core.plugins.registry"]
        monkeypatch.setattr(module, "installed_sources", lambda: [*OWN, *sources])
        monkeypatch.setitem(sys.modules, "acme_commands", types.SimpleNamespace(greet=greet))
        plugins.reset()
        return CliRunner().invoke(fx, arguments, prog_name="fx", env={"COLUMNS": "200", **environment})

    yield run
    plugins.reset()


def test_help_lists_the_commands_of_fx_and_of_plugins(run):
    result = run("--help", sources=[ACME])
    assert result.exit_code == 0
    for text in ("plugins", "new-plugin", "greet", "Say hello", "missing"):
        assert text in result.output


def test_a_command_of_a_plugin_runs(run):
    assert run("greet", sources=[ACME]).output == "hello from acme\n"


def test_a_command_that_cannot_be_loaded_says_why(run):
    result = run("missing", sources=[ACME])
    assert result.exit_code == 1
    assert "No module named 'acme_absent'" in result.output
    assert "'acme'" in result.output


def test_a_command_that_is_none_says_so(run):
    result = run("wrong", sources=[ACME])
    assert result.exit_code == 1
    assert "The command 'wrong' of acme is no click command: os.path:join" in result.output


def test_an_unknown_command_is_a_usage_error(run):
    assert run("nothing").exit_code == 2


def test_a_broken_plugin_is_one_line_and_breaks_no_other_command(run):
    result = run("greet", sources=[ACME, BROKEN])
    assert result.exit_code == 0
    assert result.stdout == "hello from acme\n"
    assert result.stderr.startswith("warning: Plugin 'broken' of distribution 'broken' failed to import")


def test_strict_stops_the_commands_of_others_but_not_those_that_explain(run):
    strict = {"FX_STRICT_PLUGINS": "1"}
    result = run("greet", sources=[ACME, BROKEN], **strict)
    assert result.exit_code == 1
    assert "Plugin 'broken'" in result.output
    listed = run("plugins", sources=[ACME, BROKEN], **strict)
    assert listed.exit_code == 0
    assert "failed" in listed.output


def test_plugins_shows_what_is_there_from_where_and_which_version(run):
    result = run("plugins", sources=[ACME, BROKEN], FX_DISABLE_PLUGINS="acme")
    assert result.exit_code == 0
    for text in ("fx-core", "loaded", "params", "acme", "4.5", "disabled by FX_DISABLE_PLUGINS", "broken", "failed"):
        assert text in result.output


def test_plugins_as_json(run):
    result = run("plugins", "--json", sources=[ACME, BROKEN, GOOD, SAME])
    report = json.loads(result.stdout)
    assert report["api_version"] == ".".join(map(str, API_VERSION))
    by_name = {plugin["plugin"]: plugin for plugin in report["plugins"]}
    assert by_name["acme"]["version"] == "4.5"
    assert by_name["acme"]["entries"][0] == {
        "kind": "command",
        "name": "greet",
        "target": "acme_commands:greet",
        "summary": "Say hello",
    }
    assert by_name["broken"]["state"] == "failed"
    params = next(entry for entry in by_name["fx-core"]["entries"] if entry["name"] == "params")
    assert (params["kind"], params["differentiable"], params["vmap_slot"]) == ("collection", True, 0)
    assert "broken" in report["problems"][0]
    assert "'a.a' is registered 2 times" in report["clashes"][0]


def test_plugins_shows_clashes(run):
    assert "'a.a' is registered 2 times" in run("plugins", sources=[GOOD, SAME]).output


def test_the_doctor_finds_what_is_broken(run):
    result = run("plugins", "doctor", sources=[ACME, BROKEN, GOOD, SAME])
    assert result.exit_code == 1
    for text in (
        "plugin 'broken' of broken",
        "command 'missing' of acme",
        "is no click command",
        "collection 'a.a' of first, second",
        "problems.",
    ):
        assert text in result.output


def test_the_doctor_as_json(run):
    result = run("plugins", "doctor", "--json", sources=[BROKEN])
    report = json.loads(result.stdout)
    assert (result.exit_code, report["healthy"]) == (1, False)
    assert [f["owner"] for f in report["findings"] if f["level"] == "problem"] == ["broken"]


def test_the_doctor_is_content_with_fx_core(run):
    result = run("plugins", "doctor")
    assert result.exit_code == 0, result.output
    assert "9 entries: all well." in result.output


@pytest.mark.parametrize("absent", [["click"], ["rich"], ["click", "rich"]])
def test_without_its_extra_the_command_says_how_to_get_it(monkeypatch, absent):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name in absent else object())
    with pytest.raises(SystemExit, match=rf"needs {' and '.join(absent)}, .*: pip install 'fx-core\[cli\]'"):
        main()


def test_the_console_script_starts(monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["fx", "--version"])
    with pytest.raises(SystemExit) as caught:
        main()
    assert caught.value.code == 0
    assert "fx-core " in capsys.readouterr().out


@pytest.mark.parametrize("command", [("env",), ("plugins",), ("plugins", "doctor"), ("--help",)])
def test_a_switch_that_is_neither_on_nor_off_is_said_without_a_traceback(run, command):
    result = run(*command, FX_STRICT_PLUGINS="maybe")
    assert (result.exit_code, type(result.exception)) == (1, SystemExit)
    assert "FX_STRICT_PLUGINS='maybe' is neither on nor off." in result.output
