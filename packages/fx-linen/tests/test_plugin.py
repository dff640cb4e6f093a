import inspect

import fx_linen as nn
from fx_core.plugins import registry
from fx_linen import plugin

NO_LAYERS = {"Module", "RNNCellBase"}


def test_every_layer_is_registered_and_loads():
    layers = {n for n in nn.__all__ if inspect.isclass(cls := getattr(nn, n)) and issubclass(cls, nn.Module)}
    entries = {entry.name: entry for entry in plugin.fx_layers()}
    assert set(entries) == layers - NO_LAYERS
    assert all(entry.load() is getattr(nn, name) for name, entry in entries.items())


def test_layers_are_found_by_name_through_the_door():
    assert registry().layers("linen")["Dense"].load() is nn.Dense
