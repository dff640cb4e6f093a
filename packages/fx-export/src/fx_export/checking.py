"""Checking the files of a bundle while it is loaded."""

import errno
import os
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from fx_core.errors import DamagedFilesError
from fx_core.files import verify_files

from fx_export.contents import Content, Read, threads


@contextmanager
def files_are_as_written(
    directory: Path, manifest: Mapping[str, Any], arrays: Collection[str], *, mapped: bool = False
) -> Iterator[Read]:
    """Compares the files of a bundle with its manifest: most of them before the block, those of arrays beside it.

    Arrays are not run, so that they may be used while other threads compute their digest. What the block made is to be
    thrown away if this raises.

    Args:
      directory: the bundle.
      manifest: its manifest.
      arrays: files of numbers alone.
      mapped: map those in place of reading them.

    Yields:
      A function that gives the bytes that are compared, by the path of a file.

    Raises:
      DamagedFilesError: files differ from what was written; it lists all of them.
    """
    contents: dict[Path, Content] = {}
    answers: dict[Path, Callable[[], bool]] = {}
    beside: dict[Path, str] = {}
    names = {directory / name: name for name in arrays}

    def matches(path: Path, digest: str) -> bool:
        if path in names:
            beside[path] = digest
            return True
        return started(path, digest)()

    def started(path: Path, digest: str) -> Callable[[], bool]:
        contents[path] = Content(path, pool, mapped=mapped and path in names)
        return contents[path].has(digest)

    def read(path: Path) -> np.ndarray:
        if path not in contents:
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), os.fspath(path))
        return contents[path].array()

    def changed() -> Iterator[str]:
        for path, digest in beside.items():
            try:
                answer = answers.get(path) or started(path, digest)
                if not answer():
                    yield f"{names[path]}: the content has changed"
            except OSError as error:
                yield f"{names[path]}: cannot be read: {error.strerror}"

    with threads() as pool:
        try:
            verify_files(directory, manifest, matches=matches)
            answers.update({path: started(path, digest) for path, digest in beside.items()})
            yield read
        except DamagedFilesError as error:
            raise DamagedFilesError(directory, [*error.problems, *changed()]) from error
        except Exception as error:
            # What is damaged explains it better.
            if found := list(changed()):
                raise DamagedFilesError(directory, found) from error
            raise
        if found := list(changed()):
            raise DamagedFilesError(directory, found)
