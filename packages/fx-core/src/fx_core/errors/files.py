"""Mistakes and damage in what fx has written to disk."""

import errno
from collections.abc import Sequence
from pathlib import Path

from fx_core.errors._base import FxError

_SHOWN = 20
_FIXES = {
    **dict.fromkeys((errno.ENOSPC, errno.EDQUOT), "Free space there, or choose a directory on another disk"),
    errno.EROFS: "Choose a directory that can be written",
    errno.ENAMETOOLONG: "Choose a shorter path",
    errno.EFBIG: "Choose a file system without that limit",
}


class ManifestError(FxError):
    """A directory has no manifest, or one that cannot be trusted.

    The manifest is the last file that fx writes into a directory, and guards all others. It carries its own digest, so
    an edited or torn one is noticed.

    Args:
      path: the manifest.
      problem: what is wrong with it.
      expected: what should be there.
      got: what is there.
      fix: what to do.
    """

    def __init__(
        self,
        path: Path | str,
        problem: str,
        *,
        expected: object = None,
        got: object = None,
        fix: str = "Use another copy; this one was damaged, changed by hand, or not written by fx.",
    ):
        super().__init__(problem, path=str(path), expected=expected, got=got, fix=fix)


class DamagedFilesError(FxError):
    """Files differ from what was written: changed, cut, missing, or added.

    Args:
      path: the directory.
      problems: one line for each file.
    """

    problems: tuple[str, ...]

    def __init__(self, path: Path | str, problems: Sequence[str]):
        self.problems = tuple(problems)
        lines = [*self.problems[:_SHOWN]]
        if len(self.problems) > _SHOWN:
            lines.append(f"… and {len(self.problems) - _SHOWN} more")
        super().__init__(
            "Files are not as they were written.",
            path=str(path),
            expected="the sizes and digests in the manifest",
            got="".join(f"\n    {line}" for line in lines),
            fix="Use another copy, or an earlier step; nothing was loaded from this one.",
        )


class StorageError(FxError, OSError):
    """The system could not write: the disk is full, broken, mounted for reading, or the like.

    It has the ``errno``, ``strerror`` and ``filename`` of an `OSError`. Nothing half-written is left behind. Where
    Python has a class for the reason, such as `PermissionError`, that one is raised, as Python raises it.

    Args:
      path: what was to be written.
      code: number of the error.
      problem: what the system said.
    """

    # OSError would show its number and file instead.
    __str__ = Exception.__str__

    def __init__(self, path: Path | str, code: int | None, problem: str):
        super().__init__(
            "This cannot be written.",
            path=str(path),
            got=problem,
            fix=f"{_FIXES.get(code or 0, 'Check the disk, or choose another')}; nothing half-written is left behind.",
        )
        self.args = ("\n".join([self._what, *self._details()]),)  # which OSError sets by itself alone
        self.errno, self.strerror, self.filename = code, problem, str(path)
