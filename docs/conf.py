"""Sphinx configuration; `nox -s docs` builds with warnings as errors."""

import dataclasses
import os
import sys
import urllib.request
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tools"))
sys.path.insert(0, str(Path(__file__).resolve().parent))
import generated_pages

project = "fx"
author = "The fx developers"
extensions = [
    "myst_parser",
    "sphinx.ext.autodoc",
    "sphinx.ext.intersphinx",
    "sphinx.ext.napoleon",
    "sphinx_design",
]
myst_enable_extensions = ["colon_fence", "deflist"]
myst_heading_anchors = 3
exclude_patterns = ["_build", "requirements.txt"]
html_theme = "furo"
html_title = "fx"
html_static_path = ["_static"]
html_css_files = ["fx.css"]
autodoc_typehints = "description"
autodoc_member_order = "bysource"
# Docstrings use Google style with plain double-backtick literals; single backticks name Python objects.
default_role = "py:obj"
napoleon_google_docstring = True
napoleon_use_ivar = True
# One class may be exported under two names.
suppress_warnings = ["ref.python"]

_INVENTORIES = {
    "jax": "https://docs.jax.dev/en/latest/",
    "optax": "https://optax.readthedocs.io/en/latest/",
    "orbax": "https://orbax.readthedocs.io/en/latest/",
    "python": "https://docs.python.org/3/",
}


def answers(url: str) -> bool:
    """Returns whether a site can be reached: without network, names of other projects are no links."""
    try:
        with urllib.request.urlopen(url + "objects.inv", timeout=3):
            return True
    except OSError:
        return False


# Off by default: a build must not depend on other sites. FX_DOCS_ONLINE=1 links to those that answer.
intersphinx_mapping = {
    name: (url, None) for name, url in _INVENTORIES.items() if os.environ.get("FX_DOCS_ONLINE") == "1" and answers(url)
}

generated_pages.write_all()


def fields_as_parameters(app: Any, what: str, name: str, obj: Any, options: Any, lines: list[str]) -> None:
    """The attributes of a dataclass are the arguments that make one: one list of them, instead of two."""
    if what in ("class", "exception") and dataclasses.is_dataclass(obj):
        lines[:] = ["Args:" if line == "Attributes:" else line for line in lines]


def setup(app: Any) -> None:
    """Called by Sphinx."""
    app.connect("autodoc-process-docstring", fields_as_parameters, priority=400)  # before napoleon reads them
