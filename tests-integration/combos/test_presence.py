"""What a combo installs imports; what it does not install is absent and says so; importing loads nothing heavy."""

import importlib
import importlib.metadata
import os
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

COMBOS = tomllib.loads((Path(__file__).parent / "combos.toml").read_text())
COMBO = os.environ["FX_COMBO"]
ALL = COMBOS["everything-plugin"]["packages"]
PRESENT = COMBOS[COMBO]["packages"]
ABSENT = [name for name in ALL if name not in PRESENT]
HEAVY = ["orbax", "tensorflow", "torch", "tensorstore", "safetensors", "onnx", "rich", "click", "flax", "sklearn"]


def module_of(package: str) -> str:
    return package.replace("-", "_")


@pytest.mark.parametrize("package", PRESENT)
def test_present_package_imports_from_its_wheel(package):
    module = importlib.import_module(module_of(package))
    assert "site-packages" in module.__file__, "the wheel is to be tested, not the checkout"


@pytest.mark.parametrize("package", [name for name in PRESENT if name != "fx-demo-plugin"])
def test_version_of_the_module_is_that_of_the_distribution(package):
    assert importlib.import_module(module_of(package)).__version__ == importlib.metadata.version(package)


@pytest.mark.parametrize("package", ABSENT or [None])
def test_absent_package_does_not_import(package):
    if package is None:
        assert sorted(PRESENT) == sorted(ALL)
        return
    with pytest.raises(ModuleNotFoundError, match=module_of(package)):
        importlib.import_module(module_of(package))
    with pytest.raises(importlib.metadata.PackageNotFoundError):
        importlib.metadata.version(package)


def test_imports_load_no_heavy_module_and_no_plugin():
    program = f"""
import sys
before = set(sys.modules)
{chr(10).join(f"import {module_of(p)}" for p in PRESENT)}
loaded = sorted({{name.split(".")[0] for name in set(sys.modules) - before}} & set({HEAVY!r}))
assert not loaded, loaded
assert "fx_core.plugins.builtin" not in sys.modules, "the registry was filled"
"""
    subprocess.run([sys.executable, "-c", program], check=True)


def test_plugin_listing_knows_exactly_the_installed_packages():
    from fx_core.plugins import registry

    mine = {entry.target.split(":")[0].split(".")[0] for entry in registry().loggers.values()}
    assert ("fx_train" in mine) == ("fx-train" in PRESENT)
    backends = set(registry().checkpoint_backends)
    assert ({"orbax", "msgpack"} <= backends) == ("fx-ckpt" in PRESENT)
    assert ("stablehlo" in registry().exporters) == ("fx-export" in PRESENT)
    assert {"params", "batch_stats"} <= set(registry().collections)
