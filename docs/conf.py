"""Sphinx configuration; `nox -s docs` builds with warnings as errors."""

import dataclasses
import inspect
import re
import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tools"))
sys.path.insert(0, str(Path(__file__).resolve().parent))
import generated_pages
import inventories

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

intersphinx_mapping = inventories.mapping()

generated_pages.write_all()


def fields_as_parameters(app: Any, what: str, name: str, obj: Any, options: Any, lines: list[str]) -> None:
    """The attributes of a dataclass are the arguments that make one: one list of them, instead of two."""
    if what in ("class", "exception") and dataclasses.is_dataclass(obj):
        lines[:] = ["Args:" if line == "Attributes:" else line for line in lines]


def plain_defaults(
    app: Any, what: str, name: str, obj: Any, options: Any, signature: str | None, result: str | None
) -> tuple[str | None, str | None]:
    """Default values that Python shows as ``<class 'jax.numpy.float32'>`` are written as in a program."""
    if signature:
        signature = re.sub(r"<(?:class|function) '?([\w.]+)'?(?: at 0x[0-9a-f]+)?>", r"\1", signature)
        signature = re.sub(r"(?:mappingproxy|FrozenDict)\((\{[^}]*\})\)", r"\1", re.sub(r"\s+", " ", signature))
    return signature, result


def is_default(app: Any, what: str, name: str, obj: Any, skip: bool, options: Any) -> bool | None:
    """Leaves out default values of fields that have a docstring of their own: functions and types of elsewhere."""
    function = inspect.isfunction(obj) and "." not in obj.__qualname__
    return True if what == "class" and (function or (isinstance(obj, type) and obj.__name__ != name)) else None


def setup(app: Any) -> None:
    """Called by Sphinx."""
    app.connect("autodoc-skip-member", is_default)
    app.connect("autodoc-process-signature", plain_defaults)
    app.connect("autodoc-process-docstring", fields_as_parameters, priority=400)  # before napoleon reads them
