"""What fifty installed plugins cost: the one plugin module whose name is asked for, and nothing else."""

import json

import pytest

PLUGIN = """
from fx_core.plugins import LayerEntry, hookimpl
fx_api_version = "1.0"

@hookimpl
def fx_layers():
    return [LayerEntry(name="acme_{n}.Thing", target="acme_layers_{n}:Thing", face="linen", summary="A thing")]
"""
COUNT = """
import json, sys
import fx_core, fx_linen, fx_core.plugins
before = set(sys.modules)
from fx_core.plugins import registry
assert set(sys.modules) == before, "importing asks for plugins"
table = registry().layers("linen")
found = set(sys.modules) - before
thing = table["acme_7.Thing"].load()
print(json.dumps([sorted(found), sorted(set(sys.modules) - before - found)]))
"""


@pytest.fixture
def fifty(site):
    for n in range(50):
        site.add(f"acme-{n}", PLUGIN.format(n=n))
        (site.directory / f"acme_layers_{n}.py").write_text("class Thing: ...\n")
    return site


def test_a_lookup_imports_the_plugin_and_the_layer_that_it_names(fifty):
    result = fifty.python("-W", "error", "-c", COUNT)
    assert result.returncode == 0, result.stderr
    found, looked_up = json.loads(result.stdout)
    assert [name for name in found if name.startswith("acme_")] == []
    # No face, no engine of checkpoints or exports, no command line: only what reading entry points takes.
    others = {name.partition(".")[0] for name in found if not name.startswith("acme_")}
    assert not others & {
        "fx_nnx",
        "fx_bridge",
        "fx_train",
        "fx_ckpt",
        "fx_export",
        "fx_compress",
        "click",
        "rich",
        "orbax",
    }
    assert looked_up == ["acme_7", "acme_layers_7"]
