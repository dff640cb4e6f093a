"""What fx-compress brings through the plugin door."""

from fx_core.plugins import CollectionEntry, CommandEntry, hookimpl

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


@hookimpl
def fx_collections() -> list[CollectionEntry]:
    """The collection of ranges of activations."""
    return [
        CollectionEntry(
            name="observers",
            target="fx_nnx:Observer",
            summary="Ranges of what weights are multiplied with, learned for static activations",
        )
    ]
