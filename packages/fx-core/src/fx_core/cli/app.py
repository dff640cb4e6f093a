"""The group ``fx``: its sub-commands are entries like all others, also those of fx-core."""

import dataclasses
import warnings

import click

from fx_core.cli.versions import versions_of_fx
from fx_core.errors import FxError
from fx_core.plugins.entries import CommandEntry
from fx_core.plugins.registry import Registry, registry
from fx_core.plugins.switches import Switches


def quiet_registry() -> Registry:
    """Returns a registry that neither warns nor raises about broken plugins, for commands that report on them."""
    return Registry(switches=dataclasses.replace(Switches.from_environment(), strict=False))


class EntryGroup(click.Group):
    """A group whose commands come from the registry and are imported when they are run, not to be listed."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Returns names of all commands, those of plugins included."""
        return sorted(_entries(ctx).commands)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Loads the command of that name; None lets click say that there is none."""
        found = _entries(ctx)
        try:
            entry = found.commands.get(cmd_name)
            if entry is None:
                return None
            if found.switches.strict and not _is_own(entry):
                # A broken plugin then stops every command but those that tell what is broken.
                found.complain()
            command = entry.load()
        except FxError as error:
            raise click.ClickException(str(error)) from error
        if not isinstance(command, click.Command):
            owner = entry.origin.owner if entry.origin else "an unknown package"
            raise click.ClickException(f"The command {cmd_name!r} of {owner} is no click command: {entry.target}")
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Lists the commands by their entries, so that a broken one cannot break the help."""
        table = _entries(ctx).commands
        with formatter.section("Commands"):
            formatter.write_dl([(name, table[name].summary) for name in sorted(table)])
        for clash in table.clashes.values():
            formatter.write_text(str(clash))


@click.group(cls=EntryGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.option(
    "--version",
    is_flag=True,
    is_eager=True,
    expose_value=False,
    callback=lambda c, p, v: _version(c, v),
    help="Show the versions of all packages of fx that are installed.",
)
@click.pass_context
def fx(ctx: click.Context) -> None:
    """Neural networks for JAX."""
    ctx.ensure_object(dict)


def _version(ctx: click.Context, wanted: bool) -> None:
    """Print the versions of all packages of fx that are installed, and end."""
    if wanted and not ctx.resilient_parsing:
        for name, version in versions_of_fx().items():
            click.echo(f"{name} {version}")
        ctx.exit()


def _entries(ctx: click.Context) -> Registry:
    """Load plugins once per run, with a line instead of Python's warnings for what is broken."""
    found = ctx.meta.get(__name__)
    if found is None:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            try:
                found = registry()
                found.load()
            except FxError:
                found = _without_complaints()
        for warning in caught:
            click.echo(f"warning: {warning.message}", err=True)
        ctx.meta[__name__] = found
    return found


def _without_complaints() -> Registry:
    try:
        return Registry()
    except FxError as error:  # a switch in the environment, which is neither on nor off
        raise click.ClickException(str(error)) from error


def _is_own(entry: CommandEntry) -> bool:
    return entry.origin is not None and entry.origin.distribution == "fx-core"
