"""What the documentation has, in numbers: printed by `nox -s docs` after the site was built.

    python tools/docs_counts.py docs/_build/html

Links inside of the site are followed; exit code 1 if one of them leads nowhere, or a public name has no example.
"""

import html.parser
import importlib
import inspect
import re
import sys
import urllib.parse
from collections.abc import Iterator
from pathlib import Path

import workspace


class _Page(html.parser.HTMLParser):
    """The links of a page, and the places in it that links may lead to."""

    def __init__(self, text: str):
        super().__init__()
        self.links: list[str] = []
        self.anchors: set[str] = set()
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Notes links and names."""
        found = dict(attrs)
        self.anchors |= {value for name in ("id", "name") if (value := found.get(name))}
        if tag == "a" and found.get("href"):
            self.links.append(str(found["href"]))


def broken_links(site: Path) -> list[str]:
    """Returns the links between pages of a built site that lead nowhere, with the page that has them."""
    pages = {path.resolve(): _Page(path.read_text()) for path in site.rglob("*.html")}
    broken: list[str] = []
    for path, page in pages.items():
        for link in page.links:
            parts = urllib.parse.urlsplit(link)
            if parts.scheme or parts.netloc:
                continue
            target = (path.parent / urllib.parse.unquote(parts.path)).resolve() if parts.path else path
            there = pages.get(target)
            if not target.exists() or (there and parts.fragment and parts.fragment not in there.anchors):
                broken.append(f"{path.relative_to(site.resolve())}: {link}")
    return broken


def public_names() -> Iterator[tuple[str, str]]:
    """Yields the public functions and classes of the packages, each once, with their docstrings."""
    seen: set[int] = set()
    for package in workspace.packages().values():
        module = importlib.import_module(package.module)
        for name in module.__all__:
            value = getattr(module, name)
            if (inspect.isclass(value) or inspect.isroutine(value)) and id(value) not in seen:
                seen.add(id(value))
                if (getattr(value, "__module__", "") or "").startswith("fx_"):
                    yield f"{package.module}.{name}", inspect.getdoc(value) or ""


def main() -> int:
    """Print the numbers."""
    site = Path(sys.argv[1])
    chapters = [*(workspace.ROOT / "docs").glob("*.md"), workspace.ROOT / "README.md"]
    chapters += [package.path / "README.md" for package in workspace.packages().values()]
    blocks = sum(len(re.findall(r"^ *```python$", page.read_text(), re.MULTILINE)) for page in chapters)
    sources = [file for p in workspace.packages().values() for file in (p.path / "src").rglob("*.py")]
    doctests = sum(len(re.findall(r"^ *>>> ", file.read_text(), re.MULTILINE)) for file in sources)
    names = list(public_names())
    documented = [name for name, text in names if text]
    # Classes of errors show wrong and right code instead.
    bare = [name for name, text in names if ">>> " not in text and "::\n" not in text]
    shown = len(names) - len(bare)
    broken = broken_links(site)
    print(f"{len(list(site.rglob('*.html')))} pages, {blocks} code blocks run, {doctests} lines of doctests")
    print(f"{len(names)} public functions and classes: {len(documented)} documented, {shown} with an example")
    print(f"{len(broken)} broken links")
    print("\n".join([*broken, *(f"{name}: write an example in its docstring" for name in bare)]))
    return 1 if broken or bare else 0


if __name__ == "__main__":
    raise SystemExit(main())
