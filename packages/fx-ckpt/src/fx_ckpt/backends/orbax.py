"""The Orbax backend: arrays in Orbax's format, sharded ones and those of several hosts included.

Orbax stores arrays of common dtypes in nested dictionaries. What it cannot hold exactly (Python values, None, empty
containers and arrays, small dtypes) goes into a file beside its own, or to it as bytes.
"""

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np
import orbax.checkpoint as ocp
from fx_core.errors import FxError
from fx_core.stored_dtypes import NUMBERS

from fx_ckpt.backends.layout import Names, assemble, escaped, lay_out
from fx_ckpt.backends.zarr import check_declared
from fx_ckpt.errors import invalid_structure, unreadable, unsupported_leaf
from fx_ckpt.formats.orbax_trees import errors_of_the_disk
from fx_ckpt.running import processes

_ARRAYS, _LAYOUT = "arrays", "layout.json"
_MOST_AXES = 32  # of tensorstore
_LONGEST_NAME = 60_000  # keys of OCDBT have 65,535 bytes at most
_CHUNK = 8 * 2**20  # measured: larger pieces are read by fewer threads, smaller ones cost more than they bring
_NATIVE = frozenset(name for name, dtype in NUMBERS.items() if dtype.kind in "biufc") | {"bfloat16"}


class OrbaxBackend:
    """Stores a state dictionary with Orbax.

    Needs the extra ``fx-ckpt[orbax]``. The arrays lie below ``arrays/`` and can be opened with Orbax alone.
    """

    def save(self, directory: Path, state: Mapping[str, Any]) -> None:
        """Writes the arrays with Orbax, and the layout of everything else; with several processes, all call this.

        Raises:
          UnsupportedLeafError: Orbax cannot hold an array of several hosts, or a name.
          OSError: the disk is full, or the like.
          DamagedDataError: Orbax has not written everything, though it said nothing.
        """
        arrays: dict[str, Any] = {}
        declared: dict[str, tuple[np.dtype, tuple[int, ...]]] = {}

        def take(names: Names, array: Any) -> None:
            if len(_name(names)) > _LONGEST_NAME:
                where, fix = "/".join(names)[:80] + "…", "Use shorter keys, or another backend."
                raise unsupported_leaf(where, f"keys of {len(_name(names))} bytes together", fix)
            declared[_name(names)] = _stored_as(np.dtype(array.dtype), array.shape)
            _put(arrays, names, _storable(array))

        layout = lay_out(state, take)
        if processes.index() == 0:
            (directory / _LAYOUT).write_text(json.dumps(layout))
        if arrays:
            with _checkpointer() as checkpointer, errors_of_the_disk(directory):
                chunks = jax.tree.map(lambda _: ocp.SaveArgs(chunk_byte_size=_CHUNK), arrays)
                checkpointer.save(directory / _ARRAYS, ocp.args.PyTreeSave(arrays, save_args=chunks))
            if processes.index() == 0:
                # Orbax passes over directories that it cannot list, and then says that all was saved.
                check_declared(directory / _ARRAYS, declared)

    def restore(self, directory: Path, like: Mapping[str, Any] | None = None) -> dict[str, Any]:
        """Reads everything, or what ``like`` has; arrays go to the shardings in it, others come back as NumPy arrays.

        Raises:
          DamagedDataError: the layout is not what `save` wrote.
          DamagedDataError: Orbax's files hold other arrays than the layout.
        """
        try:
            layout = json.loads((directory / _LAYOUT).read_text())
        except (ValueError, RecursionError) as error:
            raise invalid_structure("the layout is no JSON", error) from None
        if not isinstance(layout, dict):
            raise invalid_structure("the layout is no dictionary", layout)
        wanted: dict[str, Any] = {}
        declared: dict[str, tuple[np.dtype, tuple[int, ...]]] = {}

        def want(names: Names, dtype: np.dtype, shape: tuple[int, ...]) -> None:
            declared[_name(names)] = _stored_as(dtype, shape)
            _put(wanted, names, _restore_args(_below(like, names), dtype, shape))

        assemble(layout, like, want)
        arrays = {}
        if wanted:
            check_declared(directory / _ARRAYS, declared)
            args = ocp.args.PyTreeRestore(item=wanted, restore_args=wanted, partial_restore=like is not None)
            try:
                with _checkpointer() as checkpointer:
                    arrays = checkpointer.restore(directory / _ARRAYS, args=args)
            except (FxError, OSError):
                raise
            # Its parsers raise whatever they stumble upon.
            except Exception as error:
                raise unreadable(f"Orbax cannot read its files: {type(error).__name__}: {error}"[:500]) from error
        return assemble(
            layout, like, lambda names, dtype, shape: _restored(_below(arrays, names, escaped), dtype, shape)
        )


def _checkpointer() -> ocp.Checkpointer:
    # Weights hardly get smaller: compression takes longer than the disk. Without OCDBT each array has files of its own,
    # of which trees of many arrays have too many.
    handler = ocp.PyTreeCheckpointHandler(use_ocdbt=True, use_zarr3=False, use_compression=False)
    return ocp.Checkpointer(handler)


def _storable(array: Any) -> Any:
    if isinstance(array, jax.Array) and len(array.sharding.device_set) > 1:
        if _holds(array.dtype, array.shape):
            return array
        if not array.is_fully_addressable:
            got = f"{array.ndim} axes of {array.dtype} on several hosts"
            raise unsupported_leaf("", got, f"Use a dtype that Orbax stores, and at most {_MOST_AXES} axes.")
    array = np.asarray(array)
    array = array if array.ndim <= _MOST_AXES else array.reshape(-1)
    return array if array.dtype.name in _NATIVE else array.view(np.uint8)


def _holds(dtype: np.dtype, shape: tuple[int, ...]) -> bool:
    return dtype.name in _NATIVE and len(shape) <= _MOST_AXES


def _restore_args(placed: Any, dtype: np.dtype, shape: tuple[int, ...]) -> ocp.RestoreArgs:
    sharding = getattr(placed, "sharding", None) if _holds(dtype, shape) else None
    if sharding is None:
        return ocp.RestoreArgs(restore_type=np.ndarray)
    return ocp.ArrayRestoreArgs(sharding=sharding)


def _stored_as(dtype: np.dtype, shape: tuple[int, ...]) -> tuple[np.dtype, tuple[int, ...]]:
    shape = shape if len(shape) <= _MOST_AXES else (math.prod(shape),)
    if dtype.name in _NATIVE:
        return dtype, shape
    return np.dtype(np.uint8), (*shape[:-1], shape[-1] * dtype.itemsize) if shape else ()


def _restored(array: Any, dtype: np.dtype, shape: tuple[int, ...]) -> Any:
    array = array if dtype.name in _NATIVE else np.asarray(array).view(dtype)
    return array if len(shape) <= _MOST_AXES else array.reshape(shape)


def _name(names: Names) -> str:
    return ".".join(map(escaped, names))


def _put(tree: dict[str, Any], names: Names, value: Any) -> None:
    for name in names[:-1]:
        tree = tree.setdefault(escaped(name), {})
    tree[escaped(names[-1])] = value


def _below(tree: Any, names: Names, spelled: Any = str) -> Any:
    for name in names:
        tree = tree.get(spelled(name)) if isinstance(tree, Mapping) else None
    return tree
