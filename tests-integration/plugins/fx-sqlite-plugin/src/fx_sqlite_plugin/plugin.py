"""The hooks: what there is, by name."""

from collections.abc import Iterable

from fx_core.plugins import CheckpointBackendEntry, hookimpl

fx_api_version = "1.0"


@hookimpl
def fx_checkpoint_backends() -> Iterable[CheckpointBackendEntry]:
    """A database with a row per leaf."""
    return [
        CheckpointBackendEntry(
            name="sqlite.database",
            target="fx_sqlite_plugin.backend:SqliteBackend",
            summary="A SQLite database with a row per leaf",
        )
    ]
