"""What fx-ckpt brings through the plugin door."""

from collections.abc import Iterable

from fx_core.plugins import CheckpointBackendEntry, CommandEntry, hookimpl

fx_api_version = "1.0"


@hookimpl
def fx_checkpoint_backends() -> Iterable[CheckpointBackendEntry]:
    """Returns the backends of this package."""
    return [
        CheckpointBackendEntry(
            name="msgpack",
            target="fx_ckpt.backends.msgpack:MsgpackBackend",
            summary="One msgpack file, readable by Flax",
        ),
        CheckpointBackendEntry(
            name="safetensors",
            target="fx_ckpt.backends.safetensors:SafetensorsBackend",
            summary="Safetensors, in one file or several with an index",
        ),
        CheckpointBackendEntry(
            name="orbax",
            target="fx_ckpt.backends.orbax:OrbaxBackend",
            summary="Orbax: sharded arrays, several hosts",
            extra="orbax",
        ),
    ]


@hookimpl
def fx_commands() -> Iterable[CommandEntry]:
    """Returns the commands about checkpoints."""
    return [
        CommandEntry(
            name="ckpt",
            target="fx_ckpt.cli.commands:ckpt",
            summary="Look at checkpoints, check, compare and convert them",
        )
    ]
