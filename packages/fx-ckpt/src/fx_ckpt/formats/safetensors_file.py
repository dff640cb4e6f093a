"""The safetensors format: a header of JSON, then the bytes of the arrays, one after the other.

Written without copies; read without trust: the header has a limit, names and fields are what they may be and come once,
and the arrays fill the file exactly, without overlap or hole.
"""

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from fx_core.stored_dtypes import NUMBERS

from fx_ckpt.errors import unreadable
from fx_ckpt.formats.extents import DigestingFile, Extent, MappedFile
from fx_ckpt.running.parallel import as_bytes
from fx_ckpt.tree.dtypes import possible_shape

LARGEST_HEADER = 100_000_000
"""Bytes that a header may have, as in the reference implementation."""

_METADATA = "__metadata__"
_ALIGNMENT = 64

_NAMES = {
    "bool": "BOOL", "uint8": "U8", "int8": "I8", "uint16": "U16", "int16": "I16", "uint32": "U32", "int32": "I32",
    "uint64": "U64", "int64": "I64", "float16": "F16", "bfloat16": "BF16", "float32": "F32", "float64": "F64",
    "float8_e4m3fn": "F8_E4M3", "float8_e5m2": "F8_E5M2",
}  # fmt: skip
_DTYPES = {name: NUMBERS[dtype] for dtype, name in _NAMES.items()}


def has_dtype(name: str) -> bool:
    """Returns whether the format has a dtype; arrays of others have to be stored as bytes."""
    return name in _NAMES


def write_file(path: Path, arrays: Mapping[str, Any], metadata: Mapping[str, str] | None = None) -> str:
    """Writes a new file.

    Args:
      path: the file, which must not exist.
      arrays: arrays by name, of dtypes that the format has.
      metadata: text to keep in the header.

    Returns:
      The digest of the file.
    """
    # Large items first, so that each array starts at a multiple of its own.
    names = sorted(arrays, key=lambda name: (-arrays[name].dtype.itemsize, name))
    with DigestingFile(path) as file:
        file.write(_header(names, arrays, metadata))
        for name in names:
            file.write(as_bytes(np.asarray(arrays[name])))
    return file.digest


def read_header(path: Path) -> tuple[dict[str, Extent], dict[str, str]]:
    """Returns where each array of a file is, and the metadata.

    Raises:
      DamagedDataError: the file is cut, changed, hostile, or something else.
    """
    with MappedFile(path) as data:
        size = len(data)
        length = int.from_bytes(data[:8], "little")
        if size < 8 or length > min(LARGEST_HEADER, size - 8):
            raise unreadable("the header is longer than it may be.", expected=f"≤ {size - 8} bytes", got=length)
        text = bytes(data[8 : 8 + length])
    header = _parsed(text)
    metadata = header.pop(_METADATA, {})
    if not (isinstance(metadata, dict) and all(type(value) is str for value in metadata.values())):
        raise unreadable("the metadata is not text by name.", got=str(metadata)[:80])
    extents = {name: _extent(name, entry, 8 + length) for name, entry in header.items()}
    _check_cover(extents, 8 + length, size)
    return extents, metadata


def _header(names: list[str], arrays: Mapping[str, Any], metadata: Mapping[str, str] | None) -> bytes:
    entries: dict[str, Any] = {} if metadata is None else {_METADATA: dict(metadata)}
    end = 0
    for name in names:
        array, start = arrays[name], end
        end += array.nbytes
        entries[name] = {"dtype": _NAMES[array.dtype.name], "shape": list(array.shape), "data_offsets": [start, end]}
    text = json.dumps(entries, separators=(",", ":"), ensure_ascii=False).encode()
    text += b" " * (-(len(text) + 8) % _ALIGNMENT)
    if len(text) > LARGEST_HEADER:
        raise unreadable("the header would be longer than readers accept.", expected=LARGEST_HEADER, got=len(text))
    return len(text).to_bytes(8, "little") + text


def _parsed(text: bytes) -> dict[str, Any]:
    try:
        header = json.loads(text.decode(), object_pairs_hook=_once) if text[:1] == b"{" else None
    except (ValueError, RecursionError) as error:
        raise unreadable(f"the header is no JSON: {error}") from None
    if not isinstance(header, dict):
        raise unreadable("the header is no JSON object.", got=repr(text[:40]))
    return header


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    mapping = dict(pairs)
    if len(mapping) != len(pairs):
        raise unreadable("the header has a name twice.")
    return mapping


def _extent(name: str, entry: Any, start: int) -> Extent:
    if not isinstance(entry, dict) or entry.keys() != {"dtype", "shape", "data_offsets"}:
        raise unreadable(f"the entry of {name[:80]!r} has wrong fields.", got=str(entry)[:80])
    dtype, shape, offsets = entry["dtype"], entry["shape"], entry["data_offsets"]
    if type(dtype) is not str or dtype not in _DTYPES:
        raise unreadable(f"{name[:80]!r} has an unknown dtype.", expected=", ".join(_DTYPES), got=str(dtype)[:80])
    if not possible_shape(shape):
        raise unreadable(f"{name[:80]!r} has an impossible shape.", got=str(shape)[:80])
    if not _naturals(offsets) or len(offsets) != 2:
        raise unreadable(f"{name[:80]!r} has impossible offsets.", got=str(offsets)[:80])
    begin, end = offsets
    size = math.prod(shape) * _DTYPES[dtype].itemsize
    if end - begin != size:
        raise unreadable(f"{name[:80]!r} has another size than its shape says.", expected=size, got=end - begin)
    return Extent(_DTYPES[dtype], tuple(shape), ((start + begin, size),))


def _naturals(numbers: Any) -> bool:
    return isinstance(numbers, list) and all(type(number) is int and 0 <= number < 2**48 for number in numbers)


def _check_cover(extents: Mapping[str, Extent], start: int, size: int) -> None:
    for name, extent in sorted(extents.items(), key=lambda item: (item[1].pieces[0], item[0])):
        ((offset, length),) = extent.pieces
        if offset != start:
            problem = "overlaps another array" if offset < start else "has a hole before it"
            raise unreadable(f"{name[:80]!r} {problem}.", expected=f"offset {start}", got=offset)
        start += length
    if start != size:
        raise unreadable("the arrays do not fill the file.", expected=f"{start} bytes", got=size)
