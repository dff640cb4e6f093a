"""What all commands of fx have in common."""

import json

import click
import pytest
from click.testing import CliRunner
from fx_core.cli.app import fx

# The output of the one is the program's, and the other prints JSON only.
WITHOUT = {"run-flax", "plugins schema"}


def commands(group, names=()):
    """Yields every command below a group, with the words that call it."""
    context = click.Context(group, info_name="fx")
    for name in group.list_commands(context):
        command = group.get_command(context, name)
        words = (*names, name)
        if isinstance(command, click.Group):
            yield from commands(command, words)
        if not isinstance(command, click.Group) or command.invoke_without_command:
            yield " ".join(words), command


def test_every_command_prints_json_too():
    found = dict(commands(fx))
    assert {"ckpt ls", "compress report", "export renew", "migrate", "plugins", "report"} <= found.keys()
    options = {words: {name for option in command.params for name in option.opts} for words, command in found.items()}
    assert {words for words, names in options.items() if "--json" not in names} == WITHOUT


# run-flax passes --help on to the program.
@pytest.mark.parametrize("words", sorted(dict(commands(fx)).keys() - {"run-flax"}))
def test_help_fits_eighty_columns(words):
    shown = CliRunner().invoke(fx, [*words.split(), "--help"], terminal_width=80, prog_name="fx")
    assert shown.exit_code == 0, shown.output
    assert max(map(len, shown.output.splitlines())) <= 80


@pytest.mark.parametrize(
    "words", ["", *sorted({words.partition(" ")[0] for words in dict(commands(fx)) if " " in words})]
)
def test_lists_of_commands_say_whole_sentences(words):
    shown = CliRunner().invoke(fx, [*words.split(), "--help"], terminal_width=80, prog_name="fx")
    listed = shown.output.partition("Commands:\n")[2].splitlines()
    assert listed
    assert [line for line in listed if line.endswith("...")] == []


@pytest.mark.parametrize("words", ["plugins", "plugins doctor", "env", "export formats"])
def test_tables_fit_eighty_columns_and_json_is_json(words):
    shown = CliRunner(env={"COLUMNS": "80"}).invoke(fx, words.split())
    assert shown.exit_code in (0, 1)
    assert max(map(len, shown.output.splitlines())) <= 80, shown.output
    json.loads(CliRunner().invoke(fx, [*words.split(), "--json"]).output)
