"""The demo plugin is not there, or kept out by a switch: fx works, and says what is missing."""

import sysconfig
from pathlib import Path

USE = """
from fx_core.plugins import registry
from fx_core.errors import UnknownEntryError
assert "demo.usage" not in registry().collections
assert "params" in registry().collections and "msgpack" in registry().checkpoint_backends
try:
    registry().get("checkpoint_backend", "demo.zip")
except UnknownEntryError as error:
    print(error)
"""


def site_without_demo(directory: Path) -> None:
    """Link everything that is installed into ``directory``, but for the demo plugin."""
    for path in Path(sysconfig.get_path("purelib")).iterdir():
        if "fx_demo_plugin" not in path.name and path.name != "__pycache__":
            (directory / path.name).symlink_to(path)


def test_where_it_is_not_installed_its_names_are_unknown(site):
    site_without_demo(site.directory)
    # Without -S Python would add the real site-packages; PYTHONPATH may name more.
    run = f"import site; site.addsitedir({str(site.directory)!r})\n"
    check = "import importlib.util; assert importlib.util.find_spec('fx_demo_plugin') is None\n"
    result = site.python("-S", "-I", "-W", "error", "-c", run + check + USE)
    assert result.returncode == 0, result.stderr
    assert "There is no checkpoint backend 'demo.zip'" in result.stdout
    assert "Install the plugin that brings it" in result.stdout


def test_disabled_it_is_as_if_absent_and_the_error_says_so(site):
    result = site.python("-W", "error", "-c", USE, FX_DISABLE_PLUGINS="fx_demo_plugin")
    assert result.returncode == 0, result.stderr
    assert "fx-demo-plugin is disabled by FX_DISABLE_PLUGINS" in result.stdout


def test_without_autoload_only_the_packages_of_fx_are_there(site):
    result = site.python("-W", "error", "-c", USE, FX_PLUGIN_AUTOLOAD="0")
    assert result.returncode == 0, result.stderr
    assert "fx-demo-plugin is left out by FX_PLUGIN_AUTOLOAD=0" in result.stdout
