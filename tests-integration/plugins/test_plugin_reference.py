"""The chapter "Plugin reference" has every hook, every field and every switch, each with what it means."""

import dataclasses
import re
import sys
from pathlib import Path

import fx_ckpt
import fx_compress
import fx_export
import fx_linen
import fx_nnx
import fx_train
import pytest
from fx_core.plugins import Switches, checks

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "docs"))
import plugin_pages

MODULES = {
    "nn": fx_linen,
    "fx_ckpt": fx_ckpt,
    "fx_export": fx_export,
    "fx_compress": fx_compress,
    "fx_train": fx_train,
}


def test_every_hook_says_who_uses_it():
    assert list(plugin_pages.USED_BY) == [*checks.ENTRY_HOOKS, *checks.LIFECYCLE_HOOKS]
    page = plugin_pages.reference()
    assert all(f"\n## {name}\n" in page for name in plugin_pages.USED_BY)
    for name in re.findall(r"`(\w+\.[\w.]+)", " ".join(plugin_pages.USED_BY.values())):
        module, *path = name.split(".")
        found = MODULES[module]
        for part in path:
            found = getattr(found, part)
        assert callable(found)
    assert callable(fx_nnx.StateAxes)


@pytest.mark.parametrize("entry", [*checks.ENTRY_HOOKS.values(), Switches])
def test_every_field_is_described(entry):
    page = plugin_pages.reference()
    for field in dataclasses.fields(entry):
        if field.name != "origin":
            rows = re.findall(rf"^\|.*`{field.name}` \|(?:.*\|)? (.+) \|$", page, re.MULTILINE)
            assert rows, field.name
            assert all(rows)


def test_targets_have_their_methods():
    page = plugin_pages.reference()
    for text in ("`save(directory, state)`: Writes", "`load(directory)`: Returns", "`log(step, metrics)`: Records"):
        assert text in page
