import inspect

import fx_nnx as nnx
from fx_core.plugins import registry
from fx_nnx import plugin

NO_LAYERS = {"Dict", "EMA", "List", "ModelAndOptimizer", "Module", "Optimizer", "RNNCellBase"}


def test_every_layer_is_registered_and_loads():
    layers = {n for n in nnx.__all__ if inspect.isclass(cls := getattr(nnx, n)) and issubclass(cls, nnx.Module)}
    entries = {entry.name: entry for entry in plugin.fx_layers()}
    assert set(entries) == layers - NO_LAYERS
    assert all(entry.load() is getattr(nnx, name) for name, entry in entries.items())


def test_layers_are_found_by_name_through_the_door():
    assert registry().layers("nnx")["Linear"].load() is nnx.Linear
