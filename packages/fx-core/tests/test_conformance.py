"""The suites for everything that a distribution registers, applied to fx-core itself."""

import pytest
from fx_core.errors import FxError
from fx_core.layers import Layer, ParamSpec, input_size
from fx_core.ops import initializers
from fx_core.plugins import LayerEntry
from fx_core.pytest_plugin import pytest_pycollect_makeitem
from fx_core.testing import conformance
from fx_core.testing.collections import CollectionSuite
from fx_core.testing.plugins import PluginSuite

fx_distribution = "fx-core"


def test_there_is_a_class_for_the_plugin_and_one_for_each_entry():
    found = conformance.suites("fx-core")
    assert issubclass(found["TestPlugin"], PluginSuite)
    assert issubclass(found["TestCollection_params"], CollectionSuite)
    assert found["TestCollection_params"].__name__ == "TestCollection_params"


def test_a_distribution_that_is_not_installed_registers_nothing():
    assert conformance.entries_of_distribution("no-such-distribution") == []


def test_other_names_are_left_to_pytest():
    assert pytest_pycollect_makeitem(None, "fx_distribution", 3) is None
    assert pytest_pycollect_makeitem(None, "distribution", "fx-core") is None


class Scale(Layer):
    features: int = input_size()
    heads: int
    rate: float = 0.0

    def specs(self):
        return {"scale": ParamSpec((self.features,), initializers.ones, ("out",))}

    def apply(self, v, x):
        return x * v.scale


def test_numbers_that_a_layer_needs_are_filled_in(monkeypatch):
    entry = LayerEntry(name="acme.Scale", target="acme:Scale", face="both", summary="Scales")
    monkeypatch.setattr(conformance, "entries_of_distribution", lambda _: [entry])
    monkeypatch.setattr(LayerEntry, "load", lambda self: Scale)
    found = conformance.suites("acme", {"acme.Scale": {"rate": 0.5}}, {"acme.Scale": (1, 2)})
    names = ["TestPlugin", "TestLinenLayer_acme_Scale", "TestNnxLayer_acme_Scale", "TestSharedLayer_acme_Scale"]
    assert list(found) == names
    shared = found["TestSharedLayer_acme_Scale"]()
    assert shared.arguments() == {"features": 3, "heads": 4, "rate": 0.5}
    assert shared.inputs() == (1, 2)


def test_what_a_suite_needs_is_said():
    with pytest.raises(TypeError, match="define layer"):
        conformance.SharedLayerSuite().layer()


def test_the_registry_knows_the_distribution_alone(request):
    if not request.config.pluginmanager.has_plugin("fx-core"):
        pytest.skip("installed before it had an entry point for pytest")
    found = request.getfixturevalue("fx_registry")
    assert "params" in found.collections
    with pytest.raises(FxError):
        found.get("checkpoint_backend", "msgpack")
