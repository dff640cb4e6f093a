"""Checking the files of a bundle while it is loaded."""

from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from fx_core.errors import DamagedFilesError
from fx_core.files import digest_file, verify_files

_WORTH_A_THREAD = 2**20


@contextmanager
def files_are_as_written(directory: Path, manifest: Mapping[str, Any], arrays: Sequence[str]) -> Iterator[None]:
    """Compares the files of a bundle with its manifest: most of them before the block, large arrays beside it.

    Arrays are not run, so that they may be read while another thread computes their digest. What the block made is to
    be thrown away if this raises.

    Args:
      directory: the bundle.
      manifest: its manifest.
      arrays: files of numbers alone.

    Raises:
      DamagedFilesError: files differ from what was written; it lists all of them.
    """
    waiting: dict[str, Future[bool]] = {}
    beside = {directory / name: name for name in arrays}

    def matches(path: Path, digest: str) -> bool:
        if path not in beside or path.stat().st_size < _WORTH_A_THREAD:
            return digest_file(path) == digest
        waiting[beside[path]] = pool.submit(lambda: digest_file(path) == digest)
        return True

    with ThreadPoolExecutor(1, "fx-export-digest") as pool:
        try:
            verify_files(directory, manifest, matches=matches)
            yield
        except DamagedFilesError as error:
            raise DamagedFilesError(directory, [*error.problems, *_changed(waiting)]) from error
        except Exception as error:
            # What is damaged explains it better.
            _check(directory, waiting, error)
            raise
        _check(directory, waiting)


def _check(directory: Path, waiting: Mapping[str, Future[bool]], cause: Exception | None = None) -> None:
    if changed := _changed(waiting):
        raise DamagedFilesError(directory, changed) from cause


def _changed(waiting: Mapping[str, Future[bool]]) -> list[str]:
    found: list[str] = []
    for name, future in waiting.items():
        try:
            if not future.result():
                found.append(f"{name}: the content has changed")
        except OSError as error:
            found.append(f"{name}: cannot be read: {error.strerror}")
    return found
