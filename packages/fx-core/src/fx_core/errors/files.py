"""Mistakes and damage in what fx has written to disk."""

from collections.abc import Sequence
from pathlib import Path

from fx_core.errors._base import FxError

_SHOWN = 20


class PathTakenError(FxError):
    """There is something at the path already.

    Nothing is replaced unless asked for, and then only what fx wrote there, by its manifest::

        fx_ckpt.save("run/final", tree)
        fx_ckpt.save("run/final", tree)                  # raises
        fx_ckpt.save("run/final", tree, overwrite=True)  # replaces it, atomically
        fx_ckpt.save("home/me", tree, overwrite=True)    # raises: it holds other files

    Args:
      path: where something is.
      found: what is there, if it is not fx's to replace.
    """

    def __init__(self, path: Path | str, found: str | None = None):
        super().__init__(
            "There is something at this path already."
            if found is None
            else "There is something at this path already, and overwrite=True does not replace what is not its own.",
            path=str(path),
            got=found,
            fix="Choose another path, or pass overwrite=True to replace it."
            if found is None
            else "Choose another path, or move away what is there.",
        )


class PathError(FxError, ValueError):
    """A path cannot be used: it is the URL of another place, or no name that a file can have.

    Wrong, it would make a directory called ``gs:`` here::

        fx_ckpt.save("gs://bucket/run", tree)

    Args:
      path: the path.
      problem: what is wrong with it.
      expected: what would be right.
      got: what it has instead.
      fix: what to do.
    """

    def __init__(
        self, path: str, problem: str, *, expected: object = None, got: object = None, fix: str = "Use another name."
    ):
        super().__init__(problem, path=path, expected=expected, got=got, fix=fix)


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


class NotJsonError(FxError):
    """Something that has to be stored as JSON cannot be.

    Args:
      what: what it is, such as ``"metadata"``.
      problem: what JSON cannot hold.
    """

    def __init__(self, what: str, problem: str):
        super().__init__(
            f"The {what} cannot be stored as JSON: {problem}",
            expected="dicts with string keys, lists, strings, finite numbers, booleans, None",
            fix="Convert it before saving, or put arrays into the tree.",
        )
