"""Safetensors in a directory, as Hugging Face lays them out: one file, or numbered ones with an index."""

import contextlib
import json
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from fx_core import filesystem

from fx_ckpt.errors import DamagedDataError, unreadable
from fx_ckpt.formats.extents import Extent
from fx_ckpt.formats.safetensors_file import read_header, write_file

STEM = "model"
LARGEST_FILE = 5 * 10**9
"""Bytes of arrays per file, if not said otherwise; one array is never divided."""

_INDEX = f"{STEM}.safetensors.index.json"
_SHARD = re.compile(rf"{STEM}-\d{{5,}}-of-\d{{5,}}\.safetensors")
_LARGEST_INDEX = 100_000_000


def write_shards(
    directory: Path, arrays: Mapping[str, Any], metadata: Mapping[str, str] | None = None, largest: int = LARGEST_FILE
) -> dict[str, str]:
    """Writes arrays into a directory that has none of these files.

    Args:
      directory: where to write.
      arrays: arrays by name, of dtypes that the format has.
      metadata: text for the header of each file.
      largest: start another file before one has more bytes than this.

    Returns:
      Digests of the files of arrays, by name.
    """
    groups = _divided(arrays, largest)
    if len(groups) == 1:
        return {f"{STEM}.safetensors": write_file(directory / f"{STEM}.safetensors", groups[0], metadata)}
    digests, files = {}, {}
    for number, group in enumerate(groups, start=1):
        name = f"{STEM}-{number:05d}-of-{len(groups):05d}.safetensors"
        digests[name] = write_file(directory / name, group, metadata)
        files.update(dict.fromkeys(group, name))
    index = {"metadata": {"total_size": sum(array.nbytes for array in arrays.values())}, "weight_map": files}
    (directory / _INDEX).write_text(json.dumps(index, indent=2, sort_keys=True), encoding="utf-8")
    return digests


def read_headers(directory: Path, follow_links: bool = False) -> tuple[dict[str, tuple[Path, Extent]], dict[str, str]]:
    """Returns file and place of each array in a directory, and the metadata of the first file.

    Args:
      directory: what `write_shards` or Hugging Face's tools wrote.
      follow_links: whether the files may be links, as in the cache of Hugging Face.

    Raises:
      DamagedDataError: the index and the files do not agree, or one of them is cut, changed or hostile.
    """
    index = directory / _INDEX
    if not index.exists():
        path = directory / f"{STEM}.safetensors"
        _check_place(path, follow_links)
        header, metadata = read_header(path)
        return {name: (path, extent) for name, extent in header.items()}, metadata
    _check_place(index, follow_links)
    files = _weight_map(index)
    found: dict[str, tuple[Path, Extent]] = {}
    metadata: dict[str, str] | None = None
    for file in sorted(set(files.values())):
        path = directory / file
        _check_place(path, follow_links)
        header, own = read_header(path)
        metadata = own if metadata is None else metadata
        for name, extent in header.items():
            if files.get(name) != file:
                raise unreadable(f"{file} has an array that the index has elsewhere.", got=name[:80])
            found[name] = (path, extent)
    missing = sorted(files.keys() - found.keys())
    if missing:
        raise unreadable("arrays of the index are in no file.", got=", ".join(missing[:5])[:200])
    return found, metadata or {}


def put_in_place(hidden: Path, directory: Path, alone: str | None = None) -> None:
    """Moves what `write_shards` wrote into a directory, in place of what an earlier save left there, in any layout.

    Until everything is there a reader finds the old arrays, or an error, never a mixture of old and new ones.

    Args:
      hidden: where they were written, on the same file system.
      directory: where they go.
      alone: the name for the only file, where it is not ``model.safetensors``.
    """
    new = {alone or file.name: file for file in hidden.iterdir()}
    if alone not in (None, f"{STEM}.safetensors"):
        os.replace(new[alone], directory / alone)
        return
    old = {file for file in _old_shards(directory) if file not in new}
    if _INDEX in new and any((directory / name).exists() for name in new.keys() - {_INDEX}):
        # Shards of the same names are replaced one after the other: until all are, nothing may call them a whole.
        for whole in (_INDEX, f"{STEM}.safetensors"):
            (directory / whole).unlink(missing_ok=True)
        filesystem.flush_directory(directory)
    for name in sorted(new, key=lambda name: name == _INDEX):
        os.replace(new[name], directory / name)
    filesystem.flush_directory(directory)
    # The index goes first: it decides what is read.
    for name in sorted(old, key=lambda name: name != _INDEX):
        (directory / name).unlink(missing_ok=True)
        filesystem.flush_directory(directory)


def _old_shards(directory: Path) -> set[str]:
    """Names of what an earlier save left, by its own index; files that others put there are not among them."""
    names = {name for name in (_INDEX, f"{STEM}.safetensors") if os.path.lexists(directory / name)}
    if _INDEX in names:
        # What is no index names no files of ours.
        with contextlib.suppress(DamagedDataError, OSError):
            named = set(_weight_map(directory / _INDEX).values())
            names |= {name for name in named if _SHARD.fullmatch(name) and (directory / name).is_file()}
    return names


def _divided(arrays: Mapping[str, Any], largest: int) -> list[dict[str, Any]]:
    groups: list[dict[str, Any]] = [{}]
    size = 0
    for name, array in arrays.items():
        if groups[-1] and size + array.nbytes > largest:
            groups.append({})
            size = 0
        groups[-1][name] = array
        size += array.nbytes
    return groups


def _weight_map(index: Path) -> dict[str, str]:
    size = index.stat().st_size
    if size > _LARGEST_INDEX:
        raise unreadable("the index is too large.", expected=f"≤ {_LARGEST_INDEX} bytes", got=size)
    with open(index, "rb") as file:
        # Python makes room for as much as is asked for.
        text = file.read(size)
    try:
        files = json.loads(text)["weight_map"]
    except (ValueError, RecursionError, KeyError, TypeError) as error:
        raise unreadable(f"the index is not one: {type(error).__name__}: {error}") from None
    if not isinstance(files, dict) or not files:
        raise unreadable("the index names no files.")
    for file in files.values():
        if type(file) is not str or not file.endswith(".safetensors") or any(char in file for char in "/\\\0:"):
            raise unreadable("the index names a file outside of its directory.", got=repr(file)[:80])
    return files


def _check_place(path: Path, follow_links: bool) -> None:
    if not path.exists():
        raise unreadable("a file is missing.", expected=path.name)
    if not path.is_file() or (path.is_symlink() and not follow_links):
        raise unreadable("a file is a link, or no file.", expected=f"a regular file {path.name}")
