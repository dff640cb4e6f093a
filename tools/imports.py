"""Rules about imports that import-linter does not know: no private doors, no circles.

    python tools/imports.py

- A module whose name begins with an underscore is imported in its own package only.
- A name that begins with an underscore is not imported from another module.
- The modules of a package import each other without circles. What is imported inside of functions counts as well, but
  for the methods that are listed below; what is imported for type checkers only does not.
"""

import ast
import graphlib
from collections.abc import Iterator
from pathlib import Path

import workspace

# A method that users find on a low class and that does its work above it; nothing is imported before it is called.
UPWARDS = {("fx_linen.module._paths", "fx_linen.summary")}


def main() -> int:
    """Print what breaks a rule; the exit status says whether anything does."""
    modules = {name: path for package in workspace.packages().values() for name, path in _modules(package)}
    found, arrows = [], dict[str, set[str]]()
    for module, path in modules.items():
        arrows[module] = set()
        for line, target, name in _imports(ast.parse(path.read_text())):
            place = f"{path.relative_to(workspace.ROOT)}:{line}"
            full = f"{target}.{name}"
            imported = full if full in modules else target
            outside = module.partition(".")[0] != imported.partition(".")[0]
            if outside and any(part.startswith("_") for part in imported.split(".")):
                found.append(f"{place}: {imported} is private to its package")
            if full not in modules and name.startswith("_") and not name.startswith("__"):
                found.append(f"{place}: {name} is private to {target}")
            if imported in modules and not outside and (module, imported) not in UPWARDS:
                arrows[module].add(imported)
    try:
        graphlib.TopologicalSorter(arrows).prepare()
    except graphlib.CycleError as error:
        found.append("a circle of imports: " + " → ".join(reversed(error.args[1])))
    print(*found, sep="\n", end="\n" if found else "")
    return 1 if found else 0


def _modules(package: workspace.Package) -> Iterator[tuple[str, Path]]:
    source = package.path / "src"
    for path in sorted((source / package.module).rglob("*.py")):
        parts = path.relative_to(source).with_suffix("").parts
        yield ".".join(parts[:-1] if parts[-1] == "__init__" else parts), path


def _imports(tree: ast.AST) -> Iterator[tuple[int, str, str]]:
    """Line, module and name of each import from fx; the name is empty where a module is imported."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            continue
        if isinstance(node, ast.ImportFrom) and node.module and node.module.startswith("fx_"):
            for alias in node.names:
                yield node.lineno, node.module, alias.name
        elif isinstance(node, ast.Import):
            for alias in node.names:
                if alias.name.startswith("fx_"):
                    yield node.lineno, alias.name, ""
        else:
            yield from _imports(node)


if __name__ == "__main__":
    raise SystemExit(main())
