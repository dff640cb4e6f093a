"""Notebooks from chapters of the documentation, so that what they say is written once.

python tools/notebooks.py --write    # after a change of a chapter: write docs/notebooks/*.ipynb
python tools/notebooks.py --check    # fail when one is out of date
python tools/notebooks.py --run      # run the cells of each, top to bottom
"""

import argparse
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

DOCS = Path(__file__).resolve().parent.parent / "docs"
# Name of the notebook: chapter, and which of its tabs.
NOTEBOOKS = {
    "digits_linen": ("tutorial_digits.md", "Linen"),
    "digits_nnx": ("tutorial_digits.md", "NNX"),
    "quickstart": ("quickstart.md", ""),
}


def cells(text: str, tab: str) -> Iterator[tuple[str, str]]:
    """Yields kind (``"code"`` or ``"markdown"``) and source of each cell of a chapter."""
    kind, lines, shown = "markdown", [], True
    for line in text.splitlines():
        if line.startswith(":::"):
            if "{tab-item}" in line:
                shown = line.endswith(f" {tab}")
            elif line.strip(":") == "":
                shown = True
        elif line == "```python" or (line == "```" and kind == "code"):
            if shown and "".join(lines).strip():
                yield kind, "\n".join(lines).strip()
            kind, lines = ("code" if line == "```python" else "markdown"), []
        elif shown and not line.startswith((":sync:", "As a notebook:")):
            lines.append(line)
    if "".join(lines).strip():
        yield kind, "\n".join(lines).strip()


def notebook(name: str) -> dict[str, Any]:
    """Returns the content of a notebook."""
    chapter, tab = NOTEBOOKS[name]
    found = []
    for number, (kind, source) in enumerate(cells((DOCS / chapter).read_text(), tab)):
        cell = {"cell_type": kind, "id": f"cell-{number}", "metadata": {}, "source": source.splitlines(keepends=True)}
        found.append(cell | ({"execution_count": None, "outputs": []} if kind == "code" else {}))
    kernel = {"display_name": "Python 3", "language": "python", "name": "python3"}
    return {"cells": found, "metadata": {"kernelspec": kernel}, "nbformat": 4, "nbformat_minor": 5}


def run(name: str) -> None:
    """Runs the code cells of a notebook in order, in one namespace."""
    namespace: dict[str, Any] = {"__name__": "__main__"}
    content = json.loads((DOCS / "notebooks" / f"{name}.ipynb").read_text())
    for number, cell in enumerate(content["cells"]):
        if cell["cell_type"] == "code":
            exec(compile("".join(cell["source"]), f"{name}.ipynb, cell {number}", "exec"), namespace)
    print(f"{name}: {sum(cell['cell_type'] == 'code' for cell in content['cells'])} cells run")


def main() -> int:
    """Write, check or run the notebooks."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for option in ("--write", "--check", "--run"):
        parser.add_argument(option, action="store_true")
    arguments = parser.parse_args()
    stale = []
    for name in NOTEBOOKS:
        file = DOCS / "notebooks" / f"{name}.ipynb"
        text = json.dumps(notebook(name), indent=1, ensure_ascii=False) + "\n"
        if arguments.write:
            file.parent.mkdir(exist_ok=True)
            file.write_text(text)
        if arguments.check and (not file.exists() or file.read_text() != text):
            stale.append(f"{file.name} is out of date (python tools/notebooks.py --write)")
        if arguments.run:
            run(name)
    print("\n".join(stale), file=sys.stderr)
    return 1 if stale else 0


if __name__ == "__main__":
    raise SystemExit(main())
