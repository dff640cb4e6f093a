"""Sphinx configuration; `nox -s docs` builds with warnings as errors."""

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


def write_api_pages() -> None:
    """One page per package, from the package graph, so that no list of packages is kept here."""
    directory = Path(__file__).parent / "api"
    directory.mkdir(exist_ok=True)
    for package in workspace.packages().values():
        lines = [
            f"# {package.module}",
            "",
            f"```{{automodule}} {package.module}",
            ":members:",
            ":imported-members:",
            "```",
        ]
        (directory / f"{package.module}.md").write_text("\n".join(lines) + "\n")


write_api_pages()
