"""State dictionaries in files: safetensors both ways, and what `torch.save` wrote."""

import json
import os
import secrets
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from fx_core import filesystem
from fx_core.errors import MissingPackageError
from fx_core.files import local_path, make_directory
from fx_core.stored_dtypes import NUMBERS

from fx_export.torch.archive import read_pt
from fx_export.torch.errors import unreadable_torch_file

_DTYPES = {
    "BOOL": "bool", "U8": "uint8", "I8": "int8", "U16": "uint16", "I16": "int16", "U32": "uint32", "I32": "int32",
    "U64": "uint64", "I64": "int64", "F16": "float16", "BF16": "bfloat16", "F32": "float32", "F64": "float64",
}  # fmt: skip


def read_state(path: str | os.PathLike[str]) -> Any:
    """Reads a file of weights: safetensors, or a zip of `torch.save`; the content decides which.

    Raises:
      BundleError: it is damaged, hostile, or neither.
      MissingPackageError: it is safetensors, and the library is missing.
      FileNotFoundError: there is nothing at the path.
      ArgumentError: the path is the URL of another place.
    """
    source = local_path(path)
    with open(source, "rb") as file:
        start = file.read(9)
    # A header of JSON after its length.
    return _read_safetensors(source) if start[8:] == b"{" else read_pt(source)


def write_state(path: str | os.PathLike[str], state: Mapping[str, np.ndarray]) -> Path:
    """Writes safetensors, which appear whole or not at all; a file at the path is replaced.

    Raises:
      BundleError: safetensors have no such dtype.
      MissingPackageError: the library is missing.
      ArgumentError: the path is the URL of another place.
      OSError: the disk is full, and the like; nothing is left behind.
    """
    save = _library("safetensors.numpy").save
    target = local_path(path)
    wrong = sorted(name for name, array in state.items() if array.dtype.name not in _DTYPES.values())
    if wrong:
        got = ", ".join(f"{name} {state[name].dtype}" for name in wrong[:5])
        raise unreadable_torch_file(str(target), "safetensors have no such dtype.", got, "Cast it.")
    make_directory(target.parent)
    hidden = target.with_name(f".{target.name}.{secrets.token_hex(4)}")
    try:
        # What is not contiguous would be written in another order.
        arrays = {name: np.require(array, requirements="C") for name, array in state.items()}
        hidden.write_bytes(save(arrays, {"format": "pt"}))
        filesystem.flush_file(hidden)
        os.replace(hidden, target)
    finally:
        hidden.unlink(missing_ok=True)
    filesystem.flush_directory(target.parent)
    return target


def _read_safetensors(path: Path) -> dict[str, np.ndarray]:
    library = _library("safetensors")
    content = path.read_bytes()
    try:
        entries = library.deserialize(content)
        _check_names(content)
        return {name: _array(name, **entry) for name, entry in entries}
    except (library.SafetensorError, ValueError) as error:
        raise unreadable_torch_file(str(path), "it is no safetensors.", got=error, fix="Use another copy.") from error


def _check_names(content: bytes) -> None:
    """The library takes the last of several tensors of one name."""

    def once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        found = dict(pairs)
        if len(found) != len(pairs):
            raise ValueError("the header has several entries of one name")
        return found

    json.loads(content[8 : 8 + int.from_bytes(content[:8], "little")], object_pairs_hook=once)


def _array(name: str, dtype: str, shape: list[int], data: bytes) -> np.ndarray:
    if dtype not in _DTYPES:
        raise ValueError(f"the tensor {name!r} has the dtype {dtype}, which is not read: cast it")
    if dtype == "BOOL" and any(data.strip(b"\0\1")):
        raise ValueError(f"the booleans {name!r} hold other numbers than 0 and 1")
    return np.frombuffer(data, NUMBERS[_DTYPES[dtype]]).reshape(shape)


def _library(name: str) -> Any:
    # Who reads zips only does not need it.
    import importlib

    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        raise MissingPackageError(
            "Files of safetensors need the library.", fix="pip install 'fx-export[torch]'"
        ) from error
