"""A pytest plugin that runs the ``python`` blocks of Markdown files, in order, one namespace per file."""

from pathlib import Path

from sybil import Sybil
from sybil.parsers.myst import PythonCodeBlockParser, SkipParser

pytest_collect_file = Sybil(
    parsers=[PythonCodeBlockParser(), SkipParser()],
    path=str(Path(__file__).resolve().parent.parent),
    patterns=["*.md"],
    excludes=["**/changes/*", "**/CHANGELOG.md", "**/.nox/**"],
).pytest()
