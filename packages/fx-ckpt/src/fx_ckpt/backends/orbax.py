"""The Orbax backend: arrays in Orbax's format, sharded ones included.

Orbax stores arrays of common dtypes in nested dictionaries. What it cannot hold exactly (Python values, None, empty
containers and arrays, small dtypes) goes into a file beside its own, or to it as bytes.
"""

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import quote

import jax
import numpy as np
import orbax.checkpoint as ocp
from fx_core.stored_dtypes import NUMBERS

from fx_ckpt.errors import StructureError, UnsupportedLeafError

_ARRAYS, _LAYOUT = "arrays", "layout.json"
_NATIVE = frozenset(name for name, dtype in NUMBERS.items() if dtype.kind in "biufc") | {"bfloat16"}


class OrbaxBackend:
    """Stores a state dictionary with Orbax.

    Needs the extra ``fx-ckpt[orbax]``. The arrays lie below ``arrays/`` and can be opened with Orbax alone.
    """

    def save(self, directory: Path, state: Mapping[str, Any]) -> None:
        """Write the arrays with Orbax, and the layout of everything else."""
        arrays: dict[str, Any] = {}
        (directory / _LAYOUT).write_text(json.dumps(_lay_out(state, arrays)))
        if arrays:
            with _checkpointer() as checkpointer:
                checkpointer.save(directory / _ARRAYS, ocp.args.PyTreeSave(arrays))

    def restore(self, directory: Path, like: Mapping[str, Any] | None = None) -> dict[str, Any]:
        """Read everything; arrays go to the shardings in ``like``, others come back as NumPy arrays.

        Raises:
          StructureError: the layout is not what `save` wrote.
        """
        layout = json.loads((directory / _LAYOUT).read_text())
        wanted = _wanted(layout, like)
        arrays = {}
        if wanted:
            with _checkpointer() as checkpointer:
                args = ocp.args.PyTreeRestore(item=wanted, restore_args=wanted)
                arrays = checkpointer.restore(directory / _ARRAYS, args=args)
        return _assemble(layout, arrays)


def _checkpointer() -> ocp.Checkpointer:
    return ocp.Checkpointer(ocp.PyTreeCheckpointHandler(use_ocdbt=True, use_zarr3=False))


def _lay_out(value: Any, arrays: dict[str, Any], name: str = "") -> Any:
    """Describe a value as JSON; arrays that Orbax is to store are added to ``arrays`` under the value's name."""
    if isinstance(value, Mapping):
        below: dict[str, Any] = {}
        layout = {key: _lay_out(item, below, _escaped(key)) for key, item in value.items()}
        if below:
            arrays[name] = below
        if not name:
            arrays.update(arrays.pop(name, {}))
        return layout
    if isinstance(value, (jax.Array, np.ndarray, np.generic)):
        if math.prod(value.shape):
            arrays[name] = _storable(value)
        return ["array", value.dtype.name, list(value.shape)]
    if value is None or type(value) in (bool, int, str):
        return [type(value).__name__, value]
    if type(value) is float:
        return ["float", value.hex()]
    if type(value) is complex:
        return ["complex", [value.real.hex(), value.imag.hex()]]
    raise UnsupportedLeafError(name, f"an object of type {type(value).__name__}")


def _storable(array: Any) -> Any:
    if array.dtype.name not in NUMBERS:
        raise UnsupportedLeafError("", f"an array of dtype {array.dtype}", "Use another dtype.")
    if isinstance(array, jax.Array) and array.dtype.name in _NATIVE and len(array.sharding.device_set) > 1:
        return array
    array = np.asarray(array)
    return array if array.dtype.name in _NATIVE else array.view(np.uint8)


def _wanted(layout: Any, like: Any) -> dict[str, Any]:
    """Give how each stored array is to come back, nested as they were stored."""
    wanted: dict[str, Any] = {}
    for key, item in layout.items():
        placed = like.get(key) if isinstance(like, Mapping) else None
        if isinstance(item, dict):
            below = _wanted(item, placed)
            if below:
                wanted[_escaped(key)] = below
        elif item[0] == "array" and math.prod(item[2]):
            sharding = getattr(placed, "sharding", None) if item[1] in _NATIVE else None
            as_numpy = ocp.RestoreArgs(restore_type=np.ndarray)
            wanted[_escaped(key)] = as_numpy if sharding is None else ocp.ArrayRestoreArgs(sharding=sharding)
    return wanted


def _assemble(layout: Any, arrays: Any) -> Any:
    if isinstance(layout, dict):
        return {key: _assemble(item, _below(arrays, key)) for key, item in layout.items()}
    kind, *rest = layout
    if kind == "array":
        name, shape = rest
        dtype = NUMBERS.get(name)
        if dtype is None:
            raise StructureError("an array has an unknown dtype", name)
        if not math.prod(shape):
            return np.zeros(shape, dtype)
        return arrays if name in _NATIVE else np.asarray(arrays).view(dtype)
    (value,) = rest
    if kind == "float":
        return float.fromhex(value)
    return complex(*map(float.fromhex, value)) if kind == "complex" else value


def _below(arrays: Any, key: str) -> Any:
    return arrays.get(_escaped(key)) if isinstance(arrays, Mapping) else None


def _escaped(name: str) -> str:
    # Orbax joins names with dots and slashes; the empty name would vanish.
    return quote(name, safe=" ").replace(".", "%2E") or "%"
