"""A checkpoint backend: one zip of .npy files."""

import io
import json
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

_FILE = "state.zip"


class ZipBackend:
    """Stores ``structure.json`` and a .npy file per array in one zip.

    Arrays are stored as bytes and viewed as their dtype on the way back, since .npy does not know those of JAX.
    """

    def save(self, directory: Path, state: Mapping[str, Any]) -> None:
        """Write ``state`` into ``directory``."""
        with zipfile.ZipFile(directory / _FILE, "x") as archive:
            arrays: list[np.ndarray] = []
            archive.writestr("structure.json", json.dumps(_encode(state, arrays)))
            for index, array in enumerate(arrays):
                buffer = io.BytesIO()
                np.save(buffer, np.frombuffer(array.tobytes(), np.uint8), allow_pickle=False)
                archive.writestr(f"{index}.npy", buffer.getvalue())

    def restore(self, directory: Path, like: Mapping[str, Any] | None = None) -> dict[str, Any]:
        """Read the state back; arrays go where the shardings of ``like`` say."""
        with zipfile.ZipFile(directory / _FILE) as archive:
            return _decode(json.loads(archive.read("structure.json")), archive, like)


def _encode(node: Any, arrays: list[np.ndarray]) -> dict[str, Any]:
    if isinstance(node, Mapping):
        return {"dict": {key: _encode(value, arrays) for key, value in node.items()}}
    if isinstance(node, (np.ndarray, jax.Array)):
        arrays.append(np.asarray(node))
        return {"array": len(arrays) - 1, "dtype": arrays[-1].dtype.name, "shape": arrays[-1].shape}
    if node is None or isinstance(node, (bool, int, float, str)):
        return {"value": node}
    raise TypeError(f"ZipBackend stores arrays, numbers, text and None, not {node!r} ({type(node).__name__}).")


def _decode(node: dict[str, Any], archive: zipfile.ZipFile, like: Any) -> Any:
    if "dict" in node:
        inner = like if isinstance(like, Mapping) else {}
        return {key: _decode(value, archive, inner.get(key)) for key, value in node["dict"].items()}
    if "value" in node:
        return node["value"]
    stored = np.load(io.BytesIO(archive.read(f"{node['array']}.npy")), allow_pickle=False)
    array = stored.view(jnp.dtype(node["dtype"])).reshape(node["shape"])
    sharding = getattr(like, "sharding", None)
    return array if sharding is None else jax.device_put(array, sharding)
