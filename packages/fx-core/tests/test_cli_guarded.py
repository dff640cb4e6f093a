"""Commands end with the text of an error, and with what a terminal obeys written as escapes."""

import click
import pytest
from click.testing import CliRunner
from fx_core.cli.guarded import GuardedCommand, GuardedGroup
from fx_core.errors import FxError

ERRORS = {"fx": FxError("no \x1b[31mrun"), "system": FileNotFoundError(2, "No such file", "a\x1b[31m")}


def fail(which):
    raise ERRORS.get(which, KeyError(which))


@click.group(cls=GuardedGroup)
def group():
    """Commands."""


group.command("fail")(click.argument("which")(fail))
single = click.command(cls=GuardedCommand)(click.argument("which")(fail))


@pytest.mark.parametrize("command", [["fail"], []], ids=["group", "command"])
@pytest.mark.parametrize("which", ERRORS)
def test_errors_are_messages(command, which):
    result = CliRunner().invoke(group if command else single, [*command, which])
    assert result.exit_code == 1
    assert result.output.startswith("Error: ")
    assert "\x1b" not in result.output
    assert "\\x1b" in result.output


def test_mistakes_in_the_program_keep_their_traceback():
    assert isinstance(CliRunner().invoke(group, ["fail", "other"]).exception, KeyError)
