"""The msgpack backend: one file that Flax reads too."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from fx_ckpt.msgpack_format import msgpack_restore, msgpack_serialize

_FILE = "state.msgpack"


class MsgpackBackend:
    """Stores a state dictionary as one msgpack file, for trees that fit into memory twice.

    The file is what `fx_ckpt.msgpack_serialize` gives; ``flax.serialization.msgpack_restore`` reads it.
    """

    def save(self, directory: Path, state: Mapping[str, Any]) -> None:
        """Write the file into the directory."""
        (directory / _FILE).write_bytes(msgpack_serialize(dict(state), in_place=True))

    def restore(self, directory: Path, like: Mapping[str, Any] | None = None) -> dict[str, Any]:
        """Read the file; arrays come back as NumPy arrays, which the caller places where ``like`` says.

        Raises:
          BytesError: the file is not what `save` wrote.
        """
        del like
        return msgpack_restore((directory / _FILE).read_bytes())
