"""Files and directories: what is looked at, the differences, and writing them."""

import dataclasses
import difflib
import os
import secrets
import shutil
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from fx_core import filesystem

from fx_flax.errors import UnreadableSourceError
from fx_flax.migration.dependencies import is_dependency_file, migrate_dependencies
from fx_flax.migration.notebook import migrate_notebook
from fx_flax.migration.source import Finding, Migrated, migrate_source

__all__ = ["MigratedFile", "candidates", "migrate_tree", "write"]

_SKIPPED = {"node_modules", "site-packages", "__pycache__", "build", "dist", "venv"}


@dataclasses.dataclass(frozen=True)
class MigratedFile:
    """A file that was looked at.

    Attributes:
      path: of the file.
      before: its content.
      after: its content as it is to be; the same if nothing changes.
      findings: what a person has to look at.
      unreadable: why the file was left alone; None if it was not.
    """

    path: Path
    before: bytes
    after: bytes
    findings: tuple[Finding, ...] = ()
    unreadable: str | None = None

    @property
    def changed(self) -> bool:
        """Whether the file is to change."""
        return self.before != self.after

    @property
    def done(self) -> bool:
        """Whether nothing is left to do by hand."""
        return self.unreadable is None and all(finding.kind == "note" for finding in self.findings)

    def diff(self) -> str:
        """Returns the difference in the form that `patch` takes."""
        before, after = (
            text.decode("utf-8", "replace").splitlines(keepends=True) for text in (self.before, self.after)
        )
        lines = difflib.unified_diff(before, after, f"a/{self.path}", f"b/{self.path}")
        return "".join(line if line.endswith("\n") else f"{line}\n\\ No newline at end of file\n" for line in lines)

    def as_dict(self) -> dict[str, Any]:
        """Returns what a report holds of the file."""
        return {
            "path": str(self.path),
            "changed": self.changed,
            "unreadable": self.unreadable,
            "findings": [dataclasses.asdict(finding) for finding in self.findings],
            "diff": self.diff(),
        }


def candidates(paths: Sequence[Path]) -> list[Path]:
    """Returns the files to look at: those named, and programs, notebooks and lists of dependencies below directories.

    Hidden directories, environments and what was built are left out; links are not followed out of a directory.

    Args:
      paths: files and directories.
    """
    found: dict[Path, None] = {}
    for path in paths:
        found |= dict.fromkeys(_below(path) if path.is_dir() else [path])
    return list(found)


def _below(directory: Path) -> Iterator[Path]:
    for root, directories, files in os.walk(directory):
        directories[:] = sorted(name for name in directories if not _is_skipped(Path(root, name)))
        for name in sorted(files):
            path = Path(root, name)
            if not path.is_symlink() and (_is_program(path) or _is_list(path)):
                yield path


def _is_skipped(directory: Path) -> bool:
    # `Path.exists` raises where the directory may not be looked into.
    is_environment = os.path.exists(directory / "pyvenv.cfg")
    return directory.name.startswith(".") or directory.name in _SKIPPED or is_environment


def _is_program(path: Path) -> bool:
    return path.suffix in (".py", ".pyi", ".ipynb")


def _is_list(path: Path) -> bool:
    in_requirements = path.parent.name == "requirements" and path.suffix in (".txt", ".in")
    return is_dependency_file(path.name) or in_requirements


def migrate_tree(
    paths: Sequence[Path], progress: Callable[[int, int], None] = lambda done, of: None
) -> list[MigratedFile]:
    """Returns the files that name Flax, as they are to be; nothing is written.

    Args:
      paths: files and directories.
      progress: is called after each file with the number of files done and of all files.
    """
    files = candidates(paths)
    # Lists of dependencies come last, since programs tell which packages of fx they need.
    files.sort(key=lambda path: _is_list(path) and not _is_program(path))
    results: list[MigratedFile] = []
    packages: set[str] = set()
    for number, path in enumerate(files, 1):
        result, needed = _migrated(path, packages)
        packages |= needed
        if result is not None:
            results.append(result)
        progress(number, len(files))
    return sorted(results, key=lambda result: result.path)


def _migrated(path: Path, packages: set[str]) -> tuple[MigratedFile | None, frozenset[str]]:
    try:
        before = path.read_bytes()
    except OSError as error:
        return MigratedFile(path, b"", b"", unreadable=error.strerror or str(error)), frozenset()
    if b"flax" not in before.lower():
        return None, frozenset()
    try:
        done = _rewritten(path, before, packages)
    except UnreadableSourceError as error:
        return MigratedFile(path, before, before, unreadable=str(error)), frozenset()
    if done.text == before and not done.findings:
        return None, frozenset()
    return MigratedFile(path, before, done.text, done.findings), done.packages


def _rewritten(path: Path, before: bytes, packages: set[str]) -> Migrated:
    if path.suffix == ".ipynb":
        return migrate_notebook(before)
    if _is_list(path):
        return migrate_dependencies(path.name, before, packages)
    return migrate_source(before)


def write(file: MigratedFile) -> None:
    """Writes a file as it is to be, so that no reader sees half of it; its permissions stay, links stay links.

    Args:
      file: from `migrate_tree`.

    Raises:
      OSError: it cannot be written, or has changed since it was read; the old content is there then.
    """
    target = Path(os.path.realpath(file.path))
    draft = target.with_name(f".{target.name}.fx-new-{secrets.token_hex(4)}")
    try:
        draft.write_bytes(file.after)
        shutil.copymode(target, draft)
        filesystem.flush_file(draft)
        if target.read_bytes() != file.before:
            raise OSError(f"{file.path} has changed in the meantime; it was left alone")
        os.replace(draft, target)
    finally:
        draft.unlink(missing_ok=True)
    filesystem.flush_directory(target.parent)
