"""Commands and groups that end with the text of an error of fx, not with its traceback."""

from typing import Any

import click

from fx_core.errors import FxError
from fx_core.terminal import plain

__all__ = ["GuardedCommand", "GuardedGroup"]


class _Guarded(click.Command):
    def invoke(self, ctx: click.Context) -> Any:
        """Runs the command.

        Raises:
          click.ClickException: an error of fx or of the operating system; control characters in it are escaped, since
            it may contain names and texts from files of other users.
        """
        try:
            return super().invoke(ctx)
        except (FxError, OSError) as error:
            raise click.ClickException(plain(str(error))) from error


class GuardedCommand(_Guarded):
    """A command that prints errors of fx, and of the operating system, as messages; its exit status is 1.

    >>> from click.testing import CliRunner
    >>> @click.command(cls=GuardedCommand)
    ... def fail() -> None:
    ...     raise FxError("There is no such run.")
    >>> print(CliRunner().invoke(fail).output)
    Error: There is no such run.
    """


class GuardedGroup(_Guarded, click.Group):
    """A group whose commands print errors of fx, and of the operating system, as messages; their exit status is 1."""
