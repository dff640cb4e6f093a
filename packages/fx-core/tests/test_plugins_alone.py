"""Plugin modules are loaded without the packages around them."""

import importlib.metadata
import sys

import pytest
from fx_core.plugins.sources import load

PLUGIN = "import dataclasses\n@dataclasses.dataclass\nclass Held:\n    x: int = 0\nfx_api_version = '1.0'\n"


@pytest.fixture
def package(tmp_path, monkeypatch):
    """Writes a package, and forgets it afterwards."""
    monkeypatch.syspath_prepend(tmp_path)

    def write(plugin=PLUGIN, **files):
        for name, text in {"__init__": "ran = True\n", **files, "plugin": plugin}.items():
            path = tmp_path / "acme_alone" / f"{name.replace('__of__', '/')}.py"
            path.parent.mkdir(exist_ok=True, parents=True)
            path.write_text(text)
        return importlib.metadata.EntryPoint("acme", "acme_alone.plugin", "fx")

    yield write
    for name in [name for name in sys.modules if name.partition(".")[0] == "acme_alone"]:
        del sys.modules[name]


def test_the_package_is_not_imported(package):
    plugin = load(package(__init__="raise RuntimeError('not now')\n"))
    assert (plugin.__name__, plugin.fx_api_version, plugin.Held().x) == ("acme_alone.plugin", "1.0", 0)
    assert not [name for name in sys.modules if name.startswith("acme_alone")]


def test_who_imports_it_later_gets_it_with_its_package(package):
    load(package())
    import acme_alone.plugin  # type: ignore[import-not-found]

    assert acme_alone.ran
    assert acme_alone.plugin.fx_api_version == "1.0"


def test_a_plugin_that_needs_its_package_gets_it(package):
    plugin = load(package("from acme_alone.names import fx_api_version\n", names="fx_api_version = '1.0'\n"))
    assert plugin.fx_api_version == "1.0"
    assert sys.modules["acme_alone"].ran
    for wrong in ("from . import ran\n", "import sys\nassert 'acme_alone' in sys.modules\n"):
        for name in [name for name in sys.modules if name.startswith("acme_alone")]:
            del sys.modules[name]
        load(package(wrong))
        assert "acme_alone" in sys.modules


def test_a_broken_plugin_is_reported_as_the_import_reports_it(package):
    with pytest.raises(ZeroDivisionError):
        load(package("1 / 0\n"))
    with pytest.raises(SyntaxError):
        load(package("def\n"))
    with pytest.raises(ModuleNotFoundError, match="acme_alone"):
        load(importlib.metadata.EntryPoint("acme", "acme_alone.absent", "fx"))
    with pytest.raises(ModuleNotFoundError, match="acme_absent"):
        load(importlib.metadata.EntryPoint("acme", "acme_absent.plugin", "fx"))


def test_an_attribute_is_loaded_with_its_package(package):
    package("class Plugin: pass\n")
    assert load(importlib.metadata.EntryPoint("acme", "acme_alone.plugin:Plugin", "fx")).__name__ == "Plugin"


def test_asking_the_registry_of_fx_imports_no_layers(package):
    import subprocess

    program = (
        "import sys; from fx_core.plugins import registry; tables = registry().tables(); "
        "print(sorted({n.partition('.')[0] for n in sys.modules if n.startswith('fx_')}))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "['fx_core']"
