"""Counts the lines of source by package: `python tools/source_lines.py [REVISION ...]`.

Without a revision, of the files as they are; lines without text and lines of comments do not count, docstrings do.
"""

import re
import subprocess
import sys
from collections import Counter
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
_ERROR = re.compile(r"^class \w+(Error|Warning|NotFound)\b", re.MULTILINE)


def _git(*command: str) -> str:
    return subprocess.run(["git", *command], cwd=ROOT, capture_output=True, text=True, check=True).stdout


def texts(revision: str | None) -> list[tuple[str, str]]:
    """Returns package and text of each source file, of a revision or as they are."""
    if revision is None:
        paths = sorted(ROOT.glob("packages/*/src/**/*.py"))
        return [(path.relative_to(ROOT).parts[1], path.read_text()) for path in paths]
    names = _git("ls-tree", "-r", "--name-only", revision, "packages").splitlines()
    names = [name for name in names if "/src/" in name and name.endswith(".py")]
    return [(name.split("/")[1], _git("show", f"{revision}:{name}")) for name in names]


def lines_of(text: str) -> int:
    """Returns how many lines have text that is no comment."""
    return sum(bool(line.strip()) and not line.lstrip().startswith("#") for line in text.splitlines())


def main(revisions: list[str]) -> None:
    """Prints a table: a row per package, a column per revision, and classes of errors at the end."""
    columns: list[Counter[str]] = []
    for revision in revisions or (None,):
        found = texts(revision)
        columns.append(Counter())
        for package, text in found:
            columns[-1][package] += lines_of(text)
        columns[-1]["all packages"] = columns[-1].total()
        columns[-1]["classes of errors"] = sum(len(_ERROR.findall(text)) for _, text in found)
        columns[-1]["files"] = len(found)
    names = sorted({name for column in columns for name in column if name.startswith("fx-")})
    print(f"{'':20}" + "".join(f"{(revision or 'now')[:12]:>13}" for revision in revisions or ["now"]))
    for name in (*names, "all packages", "files", "classes of errors"):
        print(f"{name:20}" + "".join(f"{column[name]:13,}" for column in columns))


if __name__ == "__main__":
    main(sys.argv[1:])
