"""What Orbax's files say about arrays, looked at before Orbax makes room for them."""

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import tensorstore

from fx_ckpt.errors import unreadable

_LARGEST = 2**16
_COMPRESSORS = (None, "zstd", "blosc", "zlib", "gzip")


def check_declared(directory: Path, declared: Mapping[str, tuple[np.dtype, tuple[int, ...]]]) -> None:
    """Compares the shapes and dtypes in the files with those that were declared.

    Args:
      directory: what Orbax wrote.
      declared: dtype and shape of arrays, by their names in the files.

    Raises:
      DamagedDataError: an array is missing, or is not the declared one.
    """
    where = {"driver": "file", "path": f"{directory}/"}
    try:
        store = tensorstore.KvStore.open({"driver": "ocdbt", "base": where}).result()
        answers = {name: store.read(f"{name}/.zarray") for name in declared}
        texts = {name: answer.result().value for name, answer in answers.items()}
    except (ValueError, OSError) as error:
        raise unreadable(f"Orbax's files cannot be opened: {error}"[:500]) from None
    for name, (dtype, shape) in declared.items():
        _check(name, texts[name], dtype, shape)


def _check(name: str, text: bytes, dtype: np.dtype, shape: tuple[int, ...]) -> None:
    if not text:
        raise unreadable("an array is missing in Orbax's files.", expected=name[:200])
    try:
        found = json.loads(text) if len(text) <= _LARGEST else None
    except (ValueError, RecursionError):
        found = None
    if not isinstance(found, dict):
        raise unreadable(f"the description of {name[:80]!r} in Orbax's files is not one.", got=text[:80])
    expected = {"shape": list(shape), "dtype": _code(dtype), "filters": None, "order": "C", "zarr_format": 2}
    got = {field: found.get(field) for field in expected}
    if got != expected or not _fits(found.get("chunks"), shape) or not _known(found.get("compressor")):
        raise unreadable(f"{name[:80]!r} in Orbax's files is not the declared array.", expected=expected, got=got)


def _code(dtype: np.dtype) -> str:
    return dtype.str if dtype.isbuiltin == 1 else dtype.name


def _fits(chunks: Any, shape: tuple[int, ...]) -> bool:
    # A piece that is larger than its array would be made whole before a part of it is used.
    if not (isinstance(chunks, list) and len(chunks) == len(shape) and all(type(n) is int and n > 0 for n in chunks)):
        return False
    return math.prod(chunks) <= math.prod(shape)


def _known(compressor: Any) -> bool:
    return compressor is None or (isinstance(compressor, dict) and compressor.get("id") in _COMPRESSORS)
