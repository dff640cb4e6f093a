"""Putting fx in the place of Flax: when, what is refused, what is asked of the metadata."""

import importlib.metadata
import subprocess
import sys
import types
import warnings

import fx_flax
import pytest
from fx_flax import finder, requirements


def test_importing_the_package_does_nothing():
    program = "import sys, fx_flax; assert 'flax' not in sys.modules; assert not fx_flax.installed()"
    subprocess.run([sys.executable, "-c", program], check=True)
    assert not fx_flax.installed()


def test_installing_twice_is_installing_once(in_place):
    before = list(sys.meta_path)
    fx_flax.install()
    assert sys.meta_path == before
    assert fx_flax.installed()


def test_uninstalling_leaves_nothing():
    before = list(sys.meta_path), list(sys.path_hooks)
    fx_flax.install()
    import flax.core  # noqa: F401

    fx_flax.uninstall()
    assert (sys.meta_path, sys.path_hooks) == before
    assert not [name for name in sys.modules if name.partition(".")[0] == "flax"]


def test_flax_itself_before_is_refused(monkeypatch):
    real = types.ModuleType("flax")
    real.__file__ = "/somewhere/flax/__init__.py"
    monkeypatch.setitem(sys.modules, "flax", real)
    with pytest.raises(
        fx_flax.FlaxImportedError, match=r"(?s)imported already.*/somewhere/flax.*fx_flax.install\(\) first"
    ):
        fx_flax.install()
    assert not fx_flax.installed()


def test_the_metadata_tell_the_version_where_flax_is_absent(in_place, monkeypatch):
    monkeypatch.setattr(sys, "meta_path", [sys.meta_path[0], sys.meta_path[-1]])
    assert importlib.metadata.version("flax") == fx_flax.API_VERSION
    assert [found.metadata["Name"] for found in importlib.metadata.distributions()] == ["flax"]
    assert importlib.metadata.packages_distributions() == {"flax": ["flax"]}
    with pytest.raises(importlib.metadata.PackageNotFoundError):
        importlib.metadata.version("no-such-distribution")


def test_the_metadata_of_flax_itself_come_first(in_place, monkeypatch):
    class Real(importlib.metadata.DistributionFinder):
        def find_distributions(self, context=None):
            distribution = finder.FlaxDistribution()
            distribution.read_text = lambda name: "Name: flax\nVersion: 0.0.1\n" if name == "METADATA" else None
            return [distribution]

    monkeypatch.setattr(sys, "meta_path", [Real(), sys.meta_path[-1]])
    assert importlib.metadata.version("flax") == "0.0.1"
    assert len(list(importlib.metadata.distributions())) == 1


@pytest.mark.parametrize(
    ("requirement", "version"),
    [
        ("flax>=0.10", "0.10"),
        ("Flax (>=0.12.1)", "0.12.1"),
        ("flax[all]>=0.9.2,<1.0", "0.9.2"),
        ("flax~=0.13.0 ; python_version >= '3.11'", "0.13.0"),
        ("flax>0.14,==0.14.2", "0.14.2"),
        ("flax<0.9", None),
        ("flax", None),
        ("flax>=9; extra == 'dev'", None),
        ("flaxlib>=9", None),
    ],
)
def test_the_version_that_a_requirement_asks_for(requirement, version):
    assert requirements.asked_version(requirement) == version


def test_a_library_that_asks_for_a_newer_flax_is_warned_about_once(monkeypatch, in_place):
    asked = {"newer-than-that": ["numpy", "flax>=99.1"], "content": ["flax>=0.5"]}
    monkeypatch.setattr(importlib.metadata, "requires", lambda name: asked[name])
    with pytest.warns(fx_flax.FlaxVersionWarning, match=rf"asks for Flax 99\.1.*Flax {fx_flax.API_VERSION}"):
        requirements.warn_if_newer("newer-than-that")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        requirements.warn_if_newer("newer-than-that")
        requirements.warn_if_newer("content")
