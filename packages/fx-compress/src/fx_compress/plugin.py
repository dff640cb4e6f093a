"""What fx-compress brings through the plugin door."""

from fx_core.plugins import CommandEntry, hookimpl

fx_api_version = "1.0"


@hookimpl
def fx_commands() -> list[CommandEntry]:
    """The commands about compressed models."""
    return [
        CommandEntry(
            name="compress",
            target="fx_compress.command:compress",
            summary="Show what compression did to models: bytes, errors, accuracies",
        )
    ]
