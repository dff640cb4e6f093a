"""Plugins are found by the entry points of installed distributions, as Python would import them."""

import sys

import pytest
from fx_core.plugins.sources import installed_sources

POINTS = "[console_scripts]\nacme = acme:main\n\n[fx]\nacme-one = acme.plugin\nacme-two = acme.more:plugin\n"


def install(directory, name, version, points=None, file="METADATA", suffix="dist-info"):
    info = directory / f"{name.replace('-', '_')}-{version}.{suffix}"
    info.mkdir(parents=True)
    (info / file).write_text(f"Metadata-Version: 2.1\r\nName: {name}\nVersion: {version}\n\nName: of the text\n")
    if points:
        (info / "entry_points.txt").write_text(points)


def found(start="acme"):
    origins = [source.origin for source in installed_sources() if source.origin.owner.lower().startswith(start)]
    return [(o.distribution, o.version, o.plugin, o.module) for o in origins]


@pytest.fixture
def site(tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "path", [str(tmp_path / "first"), str(tmp_path / "second"), *sys.path])
    return tmp_path


@pytest.mark.parametrize(("file", "suffix"), [("METADATA", "dist-info"), ("PKG-INFO", "egg-info")])
def test_each_entry_point_of_the_group_is_a_plugin(site, file, suffix):
    install(site / "first", "Acme_Layers", "1.2.post1", POINTS, file, suffix)
    assert found() == [
        ("Acme_Layers", "1.2.post1", "acme-one", "acme.plugin"),
        ("Acme_Layers", "1.2.post1", "acme-two", "acme.more:plugin"),
    ]


def test_the_first_distribution_of_a_name_counts(site):
    install(site / "first", "acme-layers", "2.0", "[fx]\nacme = acme.new\n")
    install(site / "second", "Acme.Layers", "1.0", POINTS)
    assert found() == [("acme-layers", "2.0", "acme", "acme.new")]


def test_a_distribution_that_has_no_plugin_any_more_hides_the_old_one(site):
    install(site / "first", "acme-layers", "2.0")
    install(site / "second", "acme-layers", "1.0", POINTS)
    assert found() == []


def test_what_was_installed_since_is_seen(site):
    assert found() == []
    install(site / "second", "acme-layers", "1.0", "[fx]\nacme = acme.new\n")
    assert [name for name, *_ in found()] == ["acme-layers"]


def test_other_groups_of_that_name_are_none(site):
    install(site / "first", "acme-layers", "1.0", "[fx.other]\nacme = acme.new\n\n[other]\nfx = acme.new\n")
    assert found() == []
