"""Notebooks of Jupyter: their code cells are one program."""

import json
import re
from collections.abc import Iterator
from typing import Any

from fx_flax.errors import UnreadableSourceError
from fx_flax.migration.source import Finding, Migrated, migrate_source

__all__ = ["migrate_notebook"]

_MARK = "# fx-migrate: cell "
_ASIDE = "# fx-migrate: aside "
_MAGIC = re.compile(r"^(\s*)([%!?]|\w[\w.]*\?{1,2}\s*$|.*=\s*[%!]\w)")


def migrate_notebook(text: bytes) -> Migrated:
    """Returns a notebook whose code imports fx where it imported Flax.

    Lines that are commands of IPython stay as they are. Lines of findings are counted in the code, the names begin with
    the number of the cell.

    Args:
      text: the file.

    Raises:
      UnreadableSourceError: it is no notebook of format 4, the code is no Python, or the file is not laid out as
        Jupyter writes it.
    """
    try:
        decoded = text.decode("utf-8")
        notebook = json.loads(decoded)
        cells = [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]
        sources = [_source(cell) for cell in cells]
    except (UnicodeDecodeError, ValueError, KeyError, TypeError) as error:
        raise UnreadableSourceError(f"no notebook of format 4: {error}") from error
    if not any("flax" in source for source in sources):
        return Migrated(text)
    joined = "".join(f"{_MARK}{number}\n{_without_magic(source)}\n" for number, source in enumerate(sources))
    done = migrate_source(joined.encode())
    findings = tuple(_placed(finding, joined) for finding in done.findings)
    if done.text == joined.encode():
        return Migrated(text, findings)
    write = _writer(decoded, notebook)
    for cell, source in zip(cells, _parts(done.text.decode()), strict=True):
        if source != _source(cell):
            cell["source"] = source.splitlines(keepends=True) if isinstance(cell["source"], list) else source
    return Migrated(write(notebook).encode(), findings, done.packages)


def _source(cell: dict[str, Any]) -> str:
    source = cell["source"]
    return "".join(source) if isinstance(source, list) else source


def _without_magic(source: str) -> str:
    """The code of a cell, with commands of IPython as comments."""
    if source.startswith("%%"):
        return "\n".join(_ASIDE + line for line in source.split("\n"))
    lines: list[str] = []
    for line in source.split("\n"):
        found = _MAGIC.match(line)
        # A statement in its place keeps a block that has nothing else in it.
        lines.append(f"{found[1]}pass  {_ASIDE}{line[len(found[1]) :]}" if found else line)
    return "\n".join(lines)


def _with_magic(source: str) -> str:
    lines = [re.sub(rf"^(\s*)(?:pass  )?{re.escape(_ASIDE)}", r"\1", line) for line in source.split("\n")]
    return "\n".join(lines)


def _parts(joined: str) -> Iterator[str]:
    """The sources of the cells."""
    for part in re.split(rf"^{re.escape(_MARK)}\d+\n", joined, flags=re.MULTILINE)[1:]:
        yield _with_magic(part.removesuffix("\n"))


def _placed(finding: Finding, joined: str) -> Finding:
    before = joined.split("\n")[: finding.line]
    marks = [number for number, line in enumerate(before) if line.startswith(_MARK)]
    cell, line = len(marks), finding.line - marks[-1] - 1
    return Finding(line, f"code cell {cell}: {finding.name}", finding.why, finding.kind)


def _writer(text: str, notebook: Any) -> Any:
    """The way to write a notebook that gives this text back."""
    for indent in (1, 2, 4, None, "\t"):
        for ascii_only in (False, True):
            for end in ("\n", ""):

                def write(content: Any, indent: Any = indent, ascii_only: bool = ascii_only, end: str = end) -> str:
                    return json.dumps(content, indent=indent, ensure_ascii=ascii_only) + end

                if write(notebook) == text:
                    return write
    raise UnreadableSourceError("the file is not laid out as Jupyter writes it; open and save it there first")
