"""The Orbax backend: arrays in Orbax's format, sharded ones and those of several hosts included.

Orbax stores arrays of common dtypes in nested dictionaries. What it cannot hold exactly (Python values, None, empty
containers and arrays, small dtypes) goes into a file beside its own, or to it as bytes.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np
import orbax.checkpoint as ocp
from fx_core.stored_dtypes import NUMBERS

from fx_ckpt import processes
from fx_ckpt.backends.layout import Names, assemble, escaped, lay_out
from fx_ckpt.backends.zarr import check_declared
from fx_ckpt.errors import StructureError, UnsupportedLeafError

_ARRAYS, _LAYOUT = "arrays", "layout.json"
_CHUNK = 8 * 2**20  # measured: larger pieces are read by fewer threads, smaller ones cost more than they bring
_NATIVE = frozenset(name for name, dtype in NUMBERS.items() if dtype.kind in "biufc") | {"bfloat16"}


class OrbaxBackend:
    """Stores a state dictionary with Orbax.

    Needs the extra ``fx-ckpt[orbax]``. The arrays lie below ``arrays/`` and can be opened with Orbax alone.
    """

    def save(self, directory: Path, state: Mapping[str, Any]) -> None:
        """Write the arrays with Orbax, and the layout of everything else; with several processes, all call this."""
        arrays: dict[str, Any] = {}
        layout = lay_out(state, lambda names, array: _put(arrays, names, _storable(array)))
        if processes.index() == 0:
            (directory / _LAYOUT).write_text(json.dumps(layout))
        if arrays:
            with _checkpointer() as checkpointer:
                chunks = jax.tree.map(lambda _: ocp.SaveArgs(chunk_byte_size=_CHUNK), arrays)
                checkpointer.save(directory / _ARRAYS, ocp.args.PyTreeSave(arrays, save_args=chunks))

    def restore(self, directory: Path, like: Mapping[str, Any] | None = None) -> dict[str, Any]:
        """Read everything, or what ``like`` has; arrays go to the shardings in it, others come back as NumPy arrays.

        Raises:
          StructureError: the layout is not what `save` wrote.
          BytesError: Orbax's files hold other arrays than the layout.
        """
        try:
            layout = json.loads((directory / _LAYOUT).read_text())
        except (ValueError, RecursionError) as error:
            raise StructureError("the layout is no JSON", error) from None
        if not isinstance(layout, dict):
            raise StructureError("the layout is no dictionary", layout)
        wanted: dict[str, Any] = {}
        declared: dict[str, tuple[np.dtype, tuple[int, ...]]] = {}

        def want(names: Names, dtype: np.dtype, shape: tuple[int, ...]) -> None:
            declared[".".join(map(escaped, names))] = _stored_as(dtype, shape)
            _put(wanted, names, _restore_args(_below(like, names), dtype))

        assemble(layout, like, want)
        arrays = {}
        if wanted:
            check_declared(directory / _ARRAYS, declared)
            with _checkpointer() as checkpointer:
                args = ocp.args.PyTreeRestore(item=wanted, restore_args=wanted, partial_restore=like is not None)
                arrays = checkpointer.restore(directory / _ARRAYS, args=args)
        return assemble(layout, like, lambda names, dtype, _: _restored(_below(arrays, names, escaped), dtype))


def _checkpointer() -> ocp.Checkpointer:
    # Weights hardly get smaller: compression takes longer than the disk. Without OCDBT each array has files of its own,
    # of which trees of many arrays have too many.
    handler = ocp.PyTreeCheckpointHandler(use_ocdbt=True, use_zarr3=False, use_compression=False)
    return ocp.Checkpointer(handler)


def _storable(array: Any) -> Any:
    if isinstance(array, jax.Array) and len(array.sharding.device_set) > 1:
        if array.dtype.name in _NATIVE:
            return array
        if not array.is_fully_addressable:
            raise UnsupportedLeafError("", f"{array.dtype} on several hosts", "Use a dtype that Orbax stores.")
    array = np.asarray(array)
    return array if array.dtype.name in _NATIVE else array.view(np.uint8)


def _restore_args(placed: Any, dtype: np.dtype) -> ocp.RestoreArgs:
    sharding = getattr(placed, "sharding", None) if dtype.name in _NATIVE else None
    if sharding is None:
        return ocp.RestoreArgs(restore_type=np.ndarray)
    return ocp.ArrayRestoreArgs(sharding=sharding)


def _stored_as(dtype: np.dtype, shape: tuple[int, ...]) -> tuple[np.dtype, tuple[int, ...]]:
    if dtype.name in _NATIVE:
        return dtype, shape
    return np.dtype(np.uint8), (*shape[:-1], shape[-1] * dtype.itemsize) if shape else ()


def _restored(array: Any, dtype: np.dtype) -> Any:
    return array if dtype.name in _NATIVE else np.asarray(array).view(dtype)


def _put(tree: dict[str, Any], names: Names, value: Any) -> None:
    for name in names[:-1]:
        tree = tree.setdefault(escaped(name), {})
    tree[escaped(names[-1])] = value


def _below(tree: Any, names: Names, spelled: Any = str) -> Any:
    for name in names:
        tree = tree.get(spelled(name)) if isinstance(tree, Mapping) else None
    return tree
