"""``fx new-plugin``: writes the package of a new plugin, which installs and passes its tests at once."""

import importlib.resources
import json
import keyword
import re
import string
import sys
from pathlib import Path

import click

from fx_core._version import __version__
from fx_core.cli.guarded import GuardedCommand
from fx_core.errors.kinds import ArgumentError
from fx_core.plugins.hooks import API_VERSION
from fx_core.plugins.known import FAMILY
from fx_core.plugins.switches import normalize

_FILES = {
    "pyproject.toml": "pyproject.toml",
    "README.md": "README.md",
    "init.py": "src/{module}/__init__.py",
    "plugin.py": "src/{module}/plugin.py",
    "layers.py": "src/{module}/layers.py",
    "variables.py": "src/{module}/variables.py",
    "backends.py": "src/{module}/backends.py",
    "test_plugin.py": "tests/test_plugin.py",
    "test_layer.py": "tests/test_layer.py",
    "test_backend.py": "tests/test_backend.py",
    "noxfile.py": "noxfile.py",
    "ci.yml": ".github/workflows/ci.yml",
    "usage.md": "docs/usage.md",
    "CHANGELOG.md": "CHANGELOG.md",
}
"""Template → file that it becomes."""


def write_plugin(name: str, parent: Path) -> Path:
    """Writes the package of a new plugin with a layer, a collection and a checkpoint backend.

    Args:
      name: name of the distribution, such as ``"acme-layers"``; entries are called ``acme_layers.…``.
      parent: directory in which the package's own directory is made.

    Returns:
      The directory of the package.

    Raises:
      ArgumentError: the name is no distribution name, or makes no module name, or is one of fx's.
      ArgumentError: the directory exists and holds something.
    """
    values = _values(name)
    directory = parent / values["name"]
    if directory.exists() and (not directory.is_dir() or any(directory.iterdir())):
        raise ArgumentError(
            "The new plugin would overwrite files.",
            expected="a directory that is empty or does not exist",
            got=str(directory),
            fix="Choose another name, or another place with --directory.",
        )
    templates = importlib.resources.files("fx_core.cli") / "templates"
    for template, destination in _FILES.items():
        path = directory / destination.format(**values)
        path.parent.mkdir(parents=True, exist_ok=True)
        text = (templates / f"{template}.tmpl").read_text(encoding="utf-8")
        path.write_text(string.Template(text).substitute(values), encoding="utf-8")
    return directory


def _values(name: str) -> dict[str, str]:
    distribution = normalize(name)
    module = distribution.replace("-", "_")
    plausible = re.fullmatch(r"[A-Za-z0-9]+([-_.]+[A-Za-z0-9]+)*", name, re.ASCII)
    taken = keyword.iskeyword(module) or module in sys.stdlib_module_names or distribution in FAMILY
    if not plausible or not module.isidentifier() or taken:
        raise ArgumentError(
            f"A plugin cannot be called {name!r}.",
            expected="letters, digits and dashes, first a letter; no keyword or module of Python, no package of fx",
            got=name,
            fix="Choose a name like 'acme-layers'.",
        )
    major, minor = map(int, __version__.split(".")[:2])
    return {
        "name": distribution,
        "module": module,
        "fx_range": f">={major}.{minor},<{major}.{minor + 1}",
        "api_version": ".".join(map(str, API_VERSION)),
    }


@click.command(cls=GuardedCommand)
@click.argument("name")
@click.option(
    "--directory",
    type=click.Path(file_okay=False, path_type=Path),
    default=Path("."),
    help="Where the package's directory is made; by default here.",
)
@click.option("--json", "as_json", is_flag=True, help="Machine-readable output.")
def new_plugin(name: str, directory: Path, as_json: bool) -> None:
    """Write a package NAME with a layer, a collection, a checkpoint backend and their tests."""
    written = write_plugin(name, directory)
    if as_json:
        click.echo(json.dumps({"directory": str(written)}))
        return
    click.echo(f"Wrote {written}. Next:\n  cd {written}\n  pip install -e . 'fx-core[testing]'\n  pytest")
