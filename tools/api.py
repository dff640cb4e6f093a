"""The public names of each package, as one committed text file, so that a change of them is seen in review.

    python tools/api.py --write                    # after a wanted change: write packages/*/api.txt
    python tools/api.py --check                    # fail when a file is out of date
    python tools/api.py --check --against=fx-core-v0.1.0   # and when a name of that release broke

Sources are read, not imported (griffe).
"""

import argparse
import difflib
import sys
from collections.abc import Iterator

import griffe
import workspace


def public_lines(package: workspace.Package) -> list[str]:
    """One line for every name that a public module lists in ``__all__``, sorted."""
    root = griffe.load(
        package.module, search_paths=[package.path / "src"], resolve_aliases=True, resolve_external=False
    )
    assert isinstance(root, griffe.Module)
    return sorted({line for module in _public_modules(root) for line in _lines(module)})


def _public_modules(module: griffe.Module) -> Iterator[griffe.Module]:
    yield module
    for name, member in module.members.items():
        if not member.is_alias and isinstance(member, griffe.Module) and not name.startswith("_"):
            yield from _public_modules(member)


def _lines(module: griffe.Module) -> Iterator[str]:
    for export in module.exports or []:
        name = str(export)
        path = f"{module.path}.{name}"
        member = _definition(module, name)
        if member is None:
            yield path
            continue
        yield path + _signature(member)
        if isinstance(member, griffe.Class):
            for method_name, method in member.members.items():
                if not method_name.startswith("_") and not method.is_alias:
                    yield f"{path}.{method_name}{_signature(method)}"


def _definition(module: griffe.Module, name: str) -> griffe.Object | griffe.Alias | None:
    """What a name stands for, if this package defines it; names of other packages are theirs to describe."""
    member = module.members.get(name)
    if member is None or not member.is_alias:
        return member
    try:
        return member.final_target
    except griffe.AliasResolutionError:
        return None


def _signature(member: griffe.Object | griffe.Alias) -> str:
    if isinstance(member, griffe.Class):
        return _signature(member.members["__init__"]) if "__init__" in member.members else ""
    if isinstance(member, griffe.Function):
        parameters = (p for p in member.parameters if p.name not in ("self", "cls"))
        return "(" + ", ".join(f"{p.name}={p.default}" if p.default is not None else p.name for p in parameters) + ")"
    return ""


def stale(package: workspace.Package) -> list[str]:
    """The difference between a package's sources and its committed file; empty when there is none."""
    file = package.path / "api.txt"
    committed = file.read_text().splitlines() if file.exists() else []
    return list(difflib.unified_diff(committed, public_lines(package), "committed", "sources", lineterm="", n=0))


def broken_since(package: workspace.Package, tag: str) -> list[str]:
    """What the sources break of a tagged release of the package."""
    search = [str((package.path / "src").relative_to(workspace.ROOT))]
    old = griffe.load_git(package.module, ref=tag, repo=workspace.ROOT, search_paths=search)
    new = griffe.load(package.module, search_paths=[package.path / "src"])
    return [breakage.explain() for breakage in griffe.find_breaking_changes(old, new)]


def main() -> int:
    """Write or check the files."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--write", action="store_true")
    parser.add_argument("--check", action="store_true")
    parser.add_argument("--against", action="append", default=[], metavar="TAG")
    arguments = parser.parse_args()
    problems: list[str] = []
    for package in workspace.packages().values():
        if arguments.write:
            (package.path / "api.txt").write_text("\n".join(public_lines(package)) + "\n")
        if arguments.check and (difference := stale(package)):
            problems += [f"{package.name}/api.txt is out of date (python tools/api.py --write):", *difference]
        for tag in arguments.against:
            if tag.rpartition("-v")[0] == package.name:
                problems += broken_since(package, tag)
    print("\n".join(problems), file=sys.stderr)
    return 1 if problems else 0


if __name__ == "__main__":
    raise SystemExit(main())
