"""Distributions that are broken at import, claim a name of the demo plugin, or speak another API version."""

import json

BROKEN = "raise RuntimeError('the license server is down')"
NEEDS = "import acme_absent_dependency"
OTHER = """
from fx_core.plugins import CheckpointBackendEntry, hookimpl
fx_api_version = "{version}"

@hookimpl
def fx_checkpoint_backends():
    return [CheckpointBackendEntry(name="{name}", target="builtins:object", summary="From elsewhere")]
"""
USE = """
from fx_core.plugins import registry
found = registry()
assert {"params", "demo.usage"} <= set(found.collections)
assert found.layers("linen")["demo.Maxout"].load()
"""
ASK = "from fx_core.plugins import registry; print(registry().checkpoint_backends['demo.zip'].target)"


def test_a_plugin_broken_at_import_is_one_warning_and_everything_else_goes_on(site):
    site.add("acme-broken", BROKEN, "9.9")
    result = site.python("-c", USE)
    assert result.returncode == 0, result.stderr
    assert result.stderr.count("FxPluginWarning") == 1
    for text in ("'acme-broken'", "RuntimeError: the license server is down", "FX_DISABLE_PLUGINS=acme-broken"):
        assert text in result.stderr


def test_turned_off_it_is_silent(site):
    site.add("acme-broken", BROKEN)
    result = site.python("-c", USE, FX_DISABLE_PLUGINS="acme-broken")
    assert (result.returncode, result.stderr) == (0, "")


def test_strict_makes_it_an_error(site):
    site.add("acme-broken", NEEDS)
    result = site.python("-c", USE, FX_STRICT_PLUGINS="1")
    assert result.returncode == 1
    assert "PluginError" in result.stderr
    assert "No module named 'acme_absent_dependency'" in result.stderr


def test_importing_fx_does_not_touch_it(site):
    site.add("acme-broken", BROKEN)
    result = site.python("-W", "error", "-c", "import fx_core, fx_core.plugins, fx_linen, fx_nnx, fx_ckpt, fx_export")
    assert (result.returncode, result.stderr) == (0, "")


def test_the_command_reports_it_and_works(site):
    site.add("acme-broken", BROKEN, "9.9")
    listed = site.fx("plugins", "--json")
    assert listed.returncode == 0
    (broken,) = [plugin for plugin in json.loads(listed.stdout)["plugins"] if plugin["plugin"] == "acme-broken"]
    assert (broken["state"], broken["version"]) == ("failed", "9.9")
    diagnosed = site.fx("plugins", "doctor")
    assert diagnosed.returncode == 1
    assert "the license server is down" in diagnosed.stdout
    assert "1 problem." in diagnosed.stdout


def test_a_clashing_name_is_an_error_that_names_both_and_how_to_choose(site):
    site.add("acme-zip", OTHER.format(version="1.0", name="demo.zip"))
    result = site.python("-c", ASK)
    assert result.returncode == 1
    assert "EntryNameClashError" in result.stderr
    for text in ("acme-zip", "fx-demo-plugin", "FX_PREFER_PLUGINS", "FX_DISABLE_PLUGINS"):
        assert text in result.stderr
    unrelated = site.python("-W", "error", "-c", USE)
    assert unrelated.returncode == 0, unrelated.stderr


def test_a_clash_is_settled_by_choosing(site):
    site.add("acme-zip", OTHER.format(version="1.0", name="demo.zip"))
    assert site.python("-c", ASK, FX_PREFER_PLUGINS="acme-zip").stdout == "builtins:object\n"
    assert "fx_demo_plugin" in site.python("-c", ASK, FX_PREFER_PLUGINS="fx-demo-plugin").stdout
    assert "fx_demo_plugin" in site.python("-c", ASK, FX_DISABLE_PLUGINS="acme-zip").stdout


def test_the_doctor_sees_the_clash(site):
    site.add("acme-zip", OTHER.format(version="1.0", name="demo.zip"))
    result = site.fx("plugins", "doctor", "--json")
    assert result.returncode == 1
    texts = [finding["text"] for finding in json.loads(result.stdout)["findings"]]
    assert any("'demo.zip' is registered 2 times" in text for text in texts)


def test_another_api_version_is_refused_with_both_versions(site):
    site.add("acme-future", OTHER.format(version="2.0", name="acme.zip"), "3.1")
    result = site.python("-c", USE + "assert 'acme.zip' not in found.checkpoint_backends")
    assert result.returncode == 0, result.stderr
    assert result.stderr.count("FxPluginWarning") == 1
    assert "it declares plugin API '2.0', this fx-core has '1.1'" in result.stderr


def test_tracing_logs_every_hook_call(site):
    result = site.python("-c", USE, FX_TRACE_PLUGINS="1")
    assert result.returncode == 0, result.stderr
    for text in ("fx_layers [hook]", "finish fx_collections --> ", "demo.Maxout"):
        assert text in result.stderr
