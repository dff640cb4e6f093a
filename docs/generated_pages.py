"""Pages of the site that are written from the packages themselves, when Sphinx starts: see `conf.py`.

Nothing here is kept in git: reference and errors come from docstrings, changelogs from the fragments, the picture of
the family from the imports in the sources.
"""

import ast
import importlib
import inspect
import re
import textwrap
from collections.abc import Iterable
from pathlib import Path
from types import ModuleType

import plugin_pages
import workspace
from sphinx.ext.napoleon import GoogleDocstring

DOCS = Path(__file__).resolve().parent
# Kinds of changelog fragments, by the ending of the file's name.
_KINDS = {
    "+breaking": "Breaking",
    ".feature": "Added",
    ".bugfix": "Fixed",
    ".removal": "Removed",
    ".doc": "Documentation",
}


def write_all() -> None:
    """Write all pages."""
    packages = list(workspace.packages().values())
    _write_reference(packages)
    _write_errors(packages)
    _write_changelogs(packages)
    _write("generated/plugin_reference.md", plugin_pages.reference())
    _write("generated/family.svg", family_svg(packages))


def _write(name: str, text: str) -> None:
    # A file that stays the same keeps its time, so that a server that watches the directory comes to rest.
    path = DOCS / name
    path.parent.mkdir(exist_ok=True)
    if not path.exists() or path.read_text() != text:
        path.write_text(text)


def _write_reference(packages: Iterable[workspace.Package]) -> None:
    """One page per package; what a package passes on from one below is described there only."""
    described: set[int] = set()
    for package in packages:
        name = package.module
        module = importlib.import_module(name)
        members = {public: id(getattr(module, public)) for public in module.__all__}
        passed_on = ", ".join(public for public, identity in members.items() if identity in described)
        described |= set(members.values())
        # Docstrings are reStructuredText, the pages around them Markdown.
        options = f"   :members:\n   :imported-members:\n   :exclude-members: {passed_on}\n"
        _write(f"api/{name}.md", f"# {name}\n\n```{{eval-rst}}\n.. automodule:: {name}\n{options}```\n")


def _write_errors(packages: Iterable[workspace.Package]) -> None:
    """One page per family of errors: every class, with wrong and right code in its docstring."""
    for package in packages:
        parts = [f"# Errors of {package.name}\n"]
        for name in _error_modules(package):
            module = importlib.import_module(name)
            title = (module.__doc__ or name).strip().splitlines()[0].rstrip(".")
            parts.append(f"## {title}\n\n```{{eval-rst}}\n{_exceptions(module)}```\n")
        if len(parts) > 1:
            _write(f"errors/{package.module}.md", "\n".join(parts))


def _exceptions(module: ModuleType) -> str:
    """Returns the classes that a module defines, in order, as reStructuredText."""
    found = []
    for node in ast.parse(inspect.getsource(module)).body:
        value = getattr(module, node.name, None) if isinstance(node, ast.ClassDef) else None
        if inspect.isclass(value) and issubclass(value, BaseException) and not value.__name__.startswith("_"):
            text = str(GoogleDocstring(inspect.getdoc(value) or "", what="exception", name=value.__name__))
            found.append(f".. py:exception:: {_public_name(value)}\n\n{textwrap.indent(text, '   ')}\n")
    return "\n".join(found)


def _public_name(error: type) -> str:
    """Returns where programs find a class of errors: the package's ``errors`` where that has it."""
    package = f"{error.__module__.partition('.')[0]}.errors"
    inside = getattr(importlib.import_module(package), error.__name__, None) is not error
    return f"{error.__module__ if inside else package}.{error.__name__}"


def _error_modules(package: workspace.Package) -> list[str]:
    root = package.path / "src" / package.module
    files = [root / "errors.py"] if (root / "errors.py").exists() else sorted((root / "errors").glob("*.py"))
    named = {file: ".".join(file.relative_to(root.parent).with_suffix("").parts) for file in files}
    return [name.removesuffix(".__init__") for file, name in named.items() if "\nclass " in file.read_text()]


def _write_changelogs(packages: Iterable[workspace.Package]) -> None:
    """One page per package: released versions, and what the next one brings."""
    for package in packages:
        released = re.sub(r"^#.*\n|<!--.*?-->", "", (package.path / "CHANGELOG.md").read_text(), flags=re.S | re.M)
        fragments: dict[str, list[str]] = {}
        for file in sorted((package.path / "changes").glob("*.md")):
            kind = _KINDS.get(Path(file.stem).suffix, "Other")
            text = textwrap.indent(file.read_text().strip(), "  ").strip()  # lists in a fragment stay lists
            fragments.setdefault(kind, []).append(f"- {text}")
        coming = "\n".join(f"### {kind}\n\n" + "\n".join(lines) + "\n" for kind, lines in fragments.items())
        heading = f"# Changes of {package.name}\n\n## The next release\n\n"
        _write(f"changes/{package.module}.md", heading + (coming or "Nothing yet.\n") + "\n" + released.strip() + "\n")


def imports(package: workspace.Package, names: Iterable[str]) -> set[str]:
    """Returns the packages of fx that the modules of a package import when they are imported themselves."""
    found: set[str] = set()
    for file in (package.path / "src").rglob("*.py"):
        for node in ast.parse(file.read_text()).body:
            modules = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            modules += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            found |= {module.split(".")[0] for module in modules}
    return found & set(names) - {package.module}


def family_svg(packages: Iterable[workspace.Package]) -> str:
    """Returns the picture of the packages and what each imports; colors follow the theme of the page."""
    names = [package.module for package in packages]
    below = {package.module: imports(package, names) for package in packages}
    height = {name: _height(name, below) for name in names}
    rows = [[name for name in names if height[name] == level] for level in range(max(height.values()) + 1)]
    width, box, step = 860, (124, 40), 84
    place: dict[str, tuple[float, float]] = {}
    for level, row in enumerate(rows):
        for index, name in enumerate(row):
            place[name] = (width * (index + 0.5) / len(row), (len(rows) - level - 0.5) * step)
    size = f"0 0 {width} {len(rows) * step}"
    lines = [f'<div class="fx-family"><svg viewBox="{size}" role="img" aria-label="Packages of fx">']
    for name in names:
        for lower in _direct(below[name], below):
            (x, y), (x2, y2) = place[name], place[lower]
            lines.append(f'<line x1="{x:.0f}" y1="{y + box[1] / 2:.0f}" x2="{x2:.0f}" y2="{y2 - box[1] / 2:.0f}"/>')
    for name in names:
        x, y = place[name]
        rect = f'<rect x="{x - box[0] / 2:.0f}" y="{y - box[1] / 2:.0f}" width="{box[0]}" height="{box[1]}" rx="6"/>'
        text = f'<text x="{x:.0f}" y="{y + 5:.0f}">{name.replace("_", "-")}</text>'
        lines.append(f'<a href="api/{name}.html">{rect}{text}</a>')
    return "\n".join([*lines, "</svg></div>"]) + "\n"


def _height(name: str, below: dict[str, set[str]]) -> int:
    return 1 + max((_height(lower, below) for lower in below[name]), default=-1)


def _direct(lower: set[str], below: dict[str, set[str]]) -> list[str]:
    """Returns those of the packages that are not reached through another one of them."""
    through = {reached for name in lower for reached in below[name]}
    return sorted(lower - through)
