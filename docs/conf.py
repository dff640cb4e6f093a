"""Sphinx configuration; `nox -s docs` builds with warnings as errors."""

import importlib
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tools"))
import workspace

project = "fx"
author = "The fx developers"
extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon", "sphinx.ext.viewcode"]
myst_enable_extensions = ["colon_fence", "deflist"]
myst_heading_anchors = 3
exclude_patterns = ["_build", "requirements.txt"]
html_theme = "furo"
html_title = "fx"
autodoc_typehints = "description"
autodoc_member_order = "bysource"
# Docstrings use Google style with plain double-backtick literals; single backticks name Python objects.
default_role = "py:obj"
napoleon_google_docstring = True
napoleon_use_ivar = True
# One class may be exported under two names.
suppress_warnings = ["ref.python"]


def write_api_pages() -> None:
    """One page per package, from the package graph, so that no list of packages is kept here.

    What a package passes on from one below is described there only.
    """
    directory = Path(__file__).parent / "api"
    directory.mkdir(exist_ok=True)
    described: set[int] = set()
    for package in workspace.packages().values():
        name = package.module
        module = importlib.import_module(name)
        members = {public: id(getattr(module, public)) for public in module.__all__}
        passed_on = ", ".join(public for public, identity in members.items() if identity in described)
        described |= set(members.values())
        # Docstrings are reStructuredText, the pages around them Markdown.
        options = f"   :members:\n   :imported-members:\n   :exclude-members: {passed_on}\n"
        page = f"# {name}\n\n```{{eval-rst}}\n.. automodule:: {name}\n{options}```\n"
        (directory / f"{name}.md").write_text(page)


write_api_pages()
