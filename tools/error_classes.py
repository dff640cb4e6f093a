"""Counts the classes of errors of each package, so that a new one is a decision: `python tools/error_classes.py`.

A class stands for a kind of mistake that a caller would catch; see Errors in CONTRIBUTING.md.
"""

import ast
import sys
from pathlib import Path

PACKAGES = Path(__file__).resolve().parents[1] / "packages"
MOST = {
    "fx-bridge": 3,
    "fx-ckpt": 8,
    "fx-compress": 7,
    "fx-core": 59,
    "fx-export": 11,
    "fx-flax": 4,
    "fx-linen": 2,
    "fx-nnx": 9,
    "fx-train": 9,
    "fx-transforms": 7,
}


def classes(package: str) -> list[str]:
    """Returns the names of the errors and warnings that a package defines."""
    trees = (ast.parse(file.read_text()) for file in sorted((PACKAGES / package / "src").rglob("*.py")))
    names = (node.name for tree in trees for node in ast.walk(tree) if isinstance(node, ast.ClassDef))
    return [name for name in names if name.endswith(("Error", "Warning", "NotFound"))]


def main() -> int:
    """Returns 1 if a package has more, or fewer, classes than are written down here."""
    wrong = 0
    for package in sorted(path.name for path in PACKAGES.iterdir() if (path / "src").is_dir()):
        found, most = classes(package), MOST.get(package, 0)
        if len(found) > most:
            wrong = 1
            print(f"{package}: {len(found)} classes of errors instead of {most}: use a kind (CONTRIBUTING.md, Errors).")
            print(f"  {', '.join(found)}")
        elif len(found) < most:
            wrong = 1
            print(f"{package}: {len(found)} classes of errors, fewer than {most}: lower the number in {__file__}.")
    return wrong


if __name__ == "__main__":
    sys.exit(main())
