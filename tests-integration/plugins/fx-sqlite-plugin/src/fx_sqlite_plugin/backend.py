"""A checkpoint backend on SQLite."""

import contextlib
import json
import sqlite3
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

_FILE = "state.sqlite"
_SCHEMA = "create table leaves (path text primary key, kind text, dtype text, shape text, content blob) without rowid"
_INSERT = "insert into leaves values (?, ?, ?, ?, ?)"
# Databases keep at most a gigabyte in a value.
_MOST = 1_000_000_000


class SqliteBackend:
    """Stores a row per leaf: its path as JSON, what it is, dtype and shape of arrays, and the content."""

    def save(self, directory: Path, state: Mapping[str, Any]) -> None:
        """Write ``state`` into ``directory``."""
        with contextlib.closing(sqlite3.connect(directory / _FILE)) as database, database:
            # Whoever calls syncs the file and makes it visible at once, so no journal has to lie beside it.
            database.execute("pragma journal_mode = off")
            database.execute(_SCHEMA)
            database.executemany(_INSERT, _rows(state, ()))

    def restore(self, directory: Path, like: Mapping[str, Any] | None = None) -> dict[str, Any]:
        """Read the state back; arrays go where the shardings of ``like`` say."""
        state: dict[str, Any] = {}
        address = f"{(directory / _FILE).absolute().as_uri()}?mode=ro"
        with contextlib.closing(sqlite3.connect(address, uri=True)) as database:
            for path, kind, *stored in database.execute("select * from leaves order by path"):
                *parents, name = json.loads(path) or [None]
                node = state
                for parent in parents:
                    node = node.setdefault(parent, {})
                if name is not None and kind == "dict":
                    node.setdefault(name, {})
                elif name is not None:
                    node[name] = _leaf(kind, *stored, _at(like, [*parents, name]))
        return state


def _rows(node: Any, path: tuple[str, ...]) -> Iterator[tuple[Any, ...]]:
    key = json.dumps(path, ensure_ascii=True)
    if isinstance(node, Mapping):
        yield key, "dict", None, None, None
        for name, value in node.items():
            yield from _rows(value, (*path, name))
    elif isinstance(node, (np.ndarray, jax.Array)):
        array = np.asarray(node)
        if array.nbytes > _MOST:
            raise ValueError(f"{key} has {array.nbytes} bytes; SQLite keeps at most {_MOST} in a value.")
        yield key, "array", array.dtype.name, json.dumps(array.shape), array.tobytes()
    elif node is None or isinstance(node, (bool, int, float, str)):
        yield key, "value", None, None, json.dumps(node)
    else:
        raise TypeError(f"SqliteBackend stores arrays, numbers, text and None, not {node!r} ({type(node).__name__}).")


def _leaf(kind: str, dtype: str, shape: str, content: Any, like: Any) -> Any:
    if kind == "value":
        return json.loads(content)
    array = np.frombuffer(content, jnp.dtype(dtype)).reshape(json.loads(shape)).copy()
    sharding = getattr(like, "sharding", None)
    return array if sharding is None else jax.device_put(array, sharding)


def _at(like: Any, path: list[str]) -> Any:
    for name in path:
        like = like.get(name) if isinstance(like, Mapping) else None
    return like
