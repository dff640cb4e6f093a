"""What fx-flax brings through the plugin door."""

from fx_core.plugins import CommandEntry, hookimpl

fx_api_version = "1.0"


@hookimpl
def fx_commands() -> list[CommandEntry]:
    """Returns the command that runs programs."""
    return [
        CommandEntry(
            name="run-flax", target="fx_flax.command:run_flax", summary="Run a program that was written for Flax"
        )
    ]
