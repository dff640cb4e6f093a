"""The package graph of the workspace, read from the `pyproject.toml` files.

Nothing about packages is written down twice: nox, CI and the docs ask here. It needs only the standard library, so
that it runs before anything is installed.

    python tools/workspace.py            # the packages and what each needs of the others
    python tools/workspace.py --json     # the same for programs, such as the CI matrix
    python tools/workspace.py --changed main   # packages that a change since `main` can affect
"""

import argparse
import dataclasses
import functools
import json
import re
import subprocess
import tomllib
from collections.abc import Iterable
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
# Extras of gigabytes, which sessions of their own install instead of all.
HEAVY = {"ray", "tf", "litert"}


@dataclasses.dataclass(frozen=True)
class Package:
    """One distribution of the workspace.

    Attributes:
      name: distribution name, such as ``fx-core``.
      path: its directory.
      requirements: the requirement lines of its dependencies.
      needs: distributions of the workspace among them.
      extras: its extras, in order, without those that bring other packages of the workspace, and without heavy ones.
      test_requirements: what its tests need beyond the package itself.
    """

    name: str
    path: Path
    requirements: tuple[str, ...]
    needs: tuple[str, ...]
    extras: tuple[str, ...]
    test_requirements: tuple[str, ...]

    @property
    def module(self) -> str:
        """Import name."""
        return self.name.replace("-", "_")

    @property
    def requirement(self) -> str:
        """The package from its directory with all of its extras, as installers take it."""
        return f"{self.path}[{','.join(self.extras)}]" if self.extras else str(self.path)


def _read(directory: Path) -> Package:
    content = tomllib.loads((directory / "pyproject.toml").read_text())
    project, extras = content["project"], content["project"].get("optional-dependencies", {})
    return Package(
        name=project["name"],
        path=directory,
        requirements=tuple(project.get("dependencies", [])),
        needs=_ours(project.get("dependencies", [])),
        extras=tuple(name for name, required in extras.items() if not _ours(required) and name not in HEAVY),
        test_requirements=tuple(content.get("dependency-groups", {}).get("test", [])),
    )


def _ours(requirements: Iterable[str]) -> tuple[str, ...]:
    """Names of the workspace's packages among requirement lines."""
    names = (re.split(r"[\s\[<>=!~;]", line, maxsplit=1)[0] for line in requirements)
    return tuple(name for name in names if (ROOT / "packages" / name).is_dir())


@functools.cache
def packages() -> dict[str, Package]:
    """All packages by name, those that others need first."""
    found = {p.name: p for p in map(_read, sorted((ROOT / "packages").glob("fx-*")))}
    return {name: found[name] for name in _ordered(found, found)}


def _ordered(found: dict[str, Package], names: Iterable[str]) -> list[str]:
    order: list[str] = []

    def visit(name: str) -> None:
        if name not in order:
            for needed in found[name].needs:
                visit(needed)
            order.append(name)

    for name in names:
        visit(name)
    return order


def closure(names: Iterable[str]) -> list[Package]:
    """The named packages and everything of the workspace that they need, lowest first."""
    return [packages()[name] for name in _ordered(packages(), names)]


def affected(changed: Iterable[Path]) -> list[Package]:
    """Packages that have to be tested when these files change: their own and all that stand on them."""
    touched: set[str] = set()
    for file in changed:
        parts = file.parts
        if parts[:1] == ("packages",) and len(parts) > 1 and parts[1] in packages():
            touched.add(parts[1])
        elif parts[:1] not in (("docs",), ("examples",), ("benchmarks",)) and file.suffix != ".md":
            return list(packages().values())
    return [p for p in packages().values() if touched & {q.name for q in closure([p.name])}]


def _affected_since(revision: str) -> list[Package]:
    command = ["git", "diff", "--name-only", f"{revision}...HEAD"]
    found = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    if found.returncode:  # the first push of a branch names a revision that does not exist
        return list(packages().values())
    return affected(map(Path, found.stdout.splitlines()))


def main() -> None:
    """Print the packages."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true", help="a JSON list of names")
    parser.add_argument("--changed", metavar="REVISION", help="only those affected by changes since a revision")
    arguments = parser.parse_args()
    chosen = _affected_since(arguments.changed) if arguments.changed else list(packages().values())
    if arguments.json:
        print(json.dumps([p.name for p in chosen]))
        return
    for package in chosen:
        print(f"{package.name:15} needs {', '.join(package.needs) or 'nothing of ours'}")


if __name__ == "__main__":
    main()
