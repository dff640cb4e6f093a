"""Mistakes and damage in what fx has written to disk."""

from collections.abc import Sequence
from pathlib import Path

from fx_core.errors._base import FxError

_SHOWN = 20


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
