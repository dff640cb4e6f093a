"""What fx-flax brings through the plugin door."""

from fx_core.plugins import CommandEntry, hookimpl

fx_api_version = "1.0"


@hookimpl
def fx_commands() -> list[CommandEntry]:
    """Returns the commands that run programs, and that rewrite them."""
    return [
        CommandEntry(
            name="run-flax", target="fx_flax.command:run_flax", summary="Run a program that was written for Flax"
        ),
        CommandEntry(
            name="migrate",
            target="fx_flax.migration.command:migrate",
            summary="Rewrite programs that import Flax to import fx",
        ),
    ]
