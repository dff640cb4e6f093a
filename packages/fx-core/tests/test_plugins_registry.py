"""The registry with fake plugins: discovery, isolation, versions, switches."""

import logging
import subprocess
import sys
import types
import warnings

import pytest
from fx_core import plugins
from fx_core.errors import (
    ArgumentError,
    FxError,
    FxPluginWarning,
    PluginError,
    RegistryBusyError,
)
from fx_core.plugins import (
    CollectionEntry,
    CommandEntry,
    LayerEntry,
    Origin,
    PluginSource,
    Registry,
    Switches,
    hookimpl,
)
from fx_core.testing.fakes import fake_plugin, fake_source


def collection(name, target="acme.variables:Moments", **fields):
    return CollectionEntry(name=name, target=target, summary="For a test", **fields)


GOOD = collection("good.thing")


@pytest.fixture
def fresh(monkeypatch):
    """A process without a registry, which finds the sources that the test gives."""

    def use(*sources):
        # By its name, since the attribute `registry` of the package is the function.
        module = sys.modules["fx_core.plugins.registry"]
        monkeypatch.setattr(module, "installed_sources", lambda: list(sources))
        plugins.reset()

    yield use
    plugins.reset()


def with_good(*sources, **switches):
    return Registry([*sources, fake_source(fake_plugin(fx_collections=[GOOD]), "good")], Switches(**switches))


def test_importing_loads_no_plugin():
    code = "import sys, fx_core, fx_core.plugins; print('fx_core.plugins.builtin' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout == "False\n"


def test_the_collections_of_fx_come_through_the_door():
    found = plugins.registry().collections
    assert {"params", "batch_stats", "cache", "intermediates", "perturbations", "losses"} <= set(found)
    assert found["params"].origin.distribution == "fx-core"
    assert found["params"].differentiable
    assert not found["intermediates"].mutable_in_init
    assert not found["intermediates"].saved
    assert found["batch_stats"].saved


def test_the_registry_is_made_once_until_it_is_reset(fresh):
    fresh(fake_source(fake_plugin(fx_collections=[GOOD]), "good"))
    first = plugins.registry()
    assert plugins.registry() is first
    plugins.reset()
    assert plugins.registry() is not first


def test_entries_know_where_they_come_from():
    entry = with_good().collections["good.thing"]
    assert entry.origin == Origin("good", "acme.plugin", "good", "1.2")
    assert entry == GOOD


def test_layers_are_kept_apart_by_face():
    layers = [
        LayerEntry(name="acme.A", target="acme:A", face="linen", summary="A"),
        LayerEntry(name="acme.A", target="acme:B", face="nnx", summary="A"),
    ]
    found = Registry([fake_source(fake_plugin(fx_layers=layers))], Switches())
    assert found.layers("linen")["acme.A"].target == "acme:A"
    assert found.get("layer", "acme.A", "nnx").target == "acme:B"


@pytest.mark.parametrize("error", [ImportError("No module named 'torch'"), ValueError("boom"), SystemExit(3)])
def test_a_plugin_that_fails_to_import_warns_and_the_others_go_on(fresh, error):
    fresh(fake_source(error, "broken", "broken-point"), fake_source(fake_plugin(fx_collections=[GOOD]), "good"))
    found = plugins.registry()
    with pytest.warns(FxPluginWarning) as caught:
        assert list(found.collections) == ["good.thing"]
    assert found.collections["good.thing"] == GOOD
    (warning,) = caught
    text = str(warning.message)
    for part in ("'broken-point'", "'broken'", type(error).__name__, str(error), "FX_DISABLE_PLUGINS=broken-point"):
        assert part in text
    assert warning.filename == __file__
    assert isinstance(found.problems[0], PluginError)
    assert found.problems[0].__cause__ is error


def test_the_warning_comes_once(fresh):
    fresh(fake_source(ValueError("boom")))
    with pytest.warns(FxPluginWarning, match="failed to import: ValueError: boom"):
        assert plugins.registry().collections.get("acme.x") is None
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert list(plugins.registry().collections) == []


def test_where_warnings_are_errors_the_registry_is_there_all_the_same(fresh):
    fresh(fake_source(ValueError("boom")), fake_source(fake_plugin(fx_collections=[GOOD]), "good"))
    with pytest.raises(FxPluginWarning, match="boom"):
        plugins.registry().plugins  # noqa: B018
    assert "good.thing" in plugins.registry().collections


def test_strict_makes_a_broken_plugin_an_error_every_time(fresh, monkeypatch):
    monkeypatch.setenv("FX_STRICT_PLUGINS", "1")
    fresh(fake_source(ValueError("boom")))
    for _ in range(2):
        with pytest.raises(PluginError, match="Plugin 'acme' of distribution 'acme' failed to import"):
            plugins.registry()


def boom():
    raise RuntimeError("hook went wrong")


def endless():
    yield GOOD
    raise RuntimeError("hook went wrong")


@pytest.mark.parametrize(
    ("hook", "result", "text"),
    [
        ("fx_collections", 3, r"(?s)returned rubbish.*expected: an iterable of CollectionEntry.*got: 3"),
        ("fx_collections", "text", "returned rubbish"),
        ("fx_collections", {"acme.a": dict}, r"(?s)returned rubbish.*expected: instances of CollectionEntry"),
        ("fx_layers", [GOOD], r"(?s)returned rubbish.*expected: instances of LayerEntry"),
        ("fx_collections", GOOD, "returned rubbish"),
        ("fx_collections", boom, "raised RuntimeError: hook went wrong"),
        ("fx_collections", endless, "raised RuntimeError: hook went wrong"),
        ("fx_collections", [collection("")], "without a proper name"),
        ("fx_collections", [collection(" acme.a")], "without a proper name"),
        ("fx_collections", [collection("acme.a", target="acme.Moments")], r"(?s)malformed target.*module:attribute"),
        ("fx_collections", [collection("moments")], r"(?s)reserved for fx.*expected: a name like 'vendor.moments'"),
        ("fx_collections", [collection("acme.a", vmap_slot="carry")], r"(?s)vmap_slot.*an axis or 'broadcast'"),
        ("fx_collections", [collection("acme.a", scan_slot=True)], r"(?s)scan_slot.*'broadcast' or 'carry'"),
        ("fx_layers", [LayerEntry(name="a.A", target="a:A", face="keras", summary="")], "for an unknown face"),
        (
            "fx_collections",
            [CollectionEntry(name="a.A", target="a:A", summary=None)],
            "returned the entry 'a.A' without a summary",
        ),
    ],
)
def test_a_hook_that_goes_wrong_is_a_problem_of_its_plugin_only(hook, result, text):
    found = with_good(fake_source(fake_plugin(**{hook: result})))
    (problem,) = found.problems
    assert isinstance(problem, PluginError)
    assert (problem.plugin, problem.distribution, problem.hook) == ("acme", "acme", hook)
    with pytest.raises(PluginError, match=text):
        raise problem
    assert found.collections["good.thing"] == GOOD


def test_good_entries_beside_a_bad_one_stay():
    found = Registry([fake_source(fake_plugin(fx_collections=[collection("acme.a"), 3]))], Switches())
    assert list(found.collections) == ["acme.a"]
    assert len(found.problems) == 1


def test_commands_of_third_parties_need_no_dot():
    entry = CommandEntry(name="acme", target="acme.cli:acme", summary="Commands of acme")
    found = Registry([fake_source(fake_plugin(fx_commands=[entry]))], Switches())
    assert (found.commands["acme"], found.problems) == (entry, [])


def test_a_misspelt_hook_is_a_problem_with_the_nearest_name():
    (problem,) = with_good(fake_source(fake_plugin(fx_layer=[]))).problems
    with pytest.raises(PluginError, match=r"(?s)Hook 'fx_layer' .* does not exist.*expected: fx_layers"):
        raise problem


def test_a_hook_with_unknown_arguments_is_refused_and_leaves_nothing_behind():
    module = types.ModuleType("acme.plugin")
    module.fx_collections = hookimpl(specname="fx_collections")(lambda nonsense: [collection("acme.a")])
    found = with_good(fake_source(module))
    (problem,) = found.problems
    with pytest.raises(PluginError, match="cannot be registered: PluginValidationError"):
        raise problem
    assert list(found.collections) == ["good.thing"]


@pytest.mark.parametrize("declared", ["2.0", "1.2", "0.9", "1", "one", 1.0, (1, 0)])
def test_another_api_version_is_refused_with_both(declared):
    found = with_good(fake_source(fake_plugin(declared, fx_collections=[collection("acme.a")])))
    (problem,) = found.problems
    assert list(found.collections) == ["good.thing"]
    with pytest.raises(PluginError, match="was refused: it declares plugin API") as caught:
        raise problem
    assert repr(declared) in str(caught.value)
    assert "'1.1'" in str(caught.value)


def test_declaring_no_version_means_ours():
    found = Registry([fake_source(fake_plugin(None, fx_collections=[GOOD]))], Switches())
    assert found.problems == []


def test_disabling_is_by_distribution_or_plugin_in_any_spelling(fresh, monkeypatch):
    by_distribution = fake_source(fake_plugin(fx_collections=[collection("a.a")]), "Acme.Layers", "point")
    by_plugin = fake_source(fake_plugin(fx_collections=[collection("b.b")]), "other", "b_point")
    monkeypatch.setenv("FX_DISABLE_PLUGINS", "acme-layers, B-Point")
    fresh(by_distribution, by_plugin, fake_source(fake_plugin(fx_collections=[GOOD]), "good"))
    found = plugins.registry()
    assert list(found.collections) == ["good.thing"]
    assert [status.state for status in found.plugins] == ["off", "off", "loaded"]


def test_without_autoload_only_the_packages_of_fx_come(fresh, monkeypatch):
    monkeypatch.setenv("FX_PLUGIN_AUTOLOAD", "0")
    fresh(
        fake_source(fake_plugin(fx_collections=[collection("params")]), "fx-core"),
        fake_source(ValueError("not imported")),
    )
    assert list(plugins.registry().collections) == ["params"]


@pytest.mark.parametrize("variable", ["FX_STRICT_PLUGINS", "FX_TRACE_PLUGINS", "FX_PLUGIN_AUTOLOAD"])
def test_a_switch_is_on_or_off(variable):
    with pytest.raises(ArgumentError, match=f"{variable}='maybe' is neither on nor off"):
        Switches.from_environment({variable: "maybe"})
    attribute = {"FX_STRICT_PLUGINS": "strict", "FX_TRACE_PLUGINS": "trace", "FX_PLUGIN_AUTOLOAD": "autoload"}[variable]
    assert getattr(Switches.from_environment({variable: "1"}), attribute) is True
    assert getattr(Switches.from_environment({variable: "off"}), attribute) is False


def test_tracing_logs_every_hook_call(caplog):
    with caplog.at_level(logging.DEBUG, logger="fx.plugins"):
        found = with_good(trace=True)
        found.register(fake_plugin(fx_saving=None), name="listener")
        found.saving(path=None, tree={}, metadata={})
    text = caplog.text
    for hook in ("fx_collections", "finish fx_collections", "fx_saving"):
        assert hook in text


def test_without_the_switch_nothing_is_logged(caplog):
    with caplog.at_level(logging.DEBUG, logger="fx.plugins"):
        with_good()
    assert caplog.text == ""


def test_a_plugin_that_asks_for_the_registry_at_import_is_told(fresh):
    def load():
        return plugins.registry().collections["acme.x"]

    fresh(PluginSource(Origin("acme", "acme.plugin", "acme", "1"), load))
    found = plugins.registry()
    with pytest.warns(FxPluginWarning, match="RegistryBusyError: The plugin registry was asked for while plugins are"):
        assert "acme.x" not in found.collections
    assert isinstance(found.problems[0].__cause__, RegistryBusyError)


def test_plugins_can_be_registered_by_hand_and_taken_out_again():
    found = with_good()
    found.register(fake_plugin(fx_collections=[collection("acme.a")]), name="mine")
    assert found.collections["acme.a"].origin.owner == "mine"
    found.unregister("mine")
    found.unregister("mine")
    assert list(found.collections) == ["good.thing"]
    found.register(fake_plugin(fx_collections=[collection("acme.a")]), name="mine")
    assert "acme.a" in found.collections


def test_what_is_wrong_with_a_plugin_registered_by_hand_raises():
    found = with_good()
    with pytest.raises(PluginError, match=r"plugin 'mine' \(registered by hand\) returned rubbish"):
        found.register(fake_plugin(fx_collections=3), name="mine")
    with pytest.raises(PluginError, match=r"2\.0"):
        found.register(fake_plugin("2.0"), name="mine")
    module = fake_plugin(fx_collections=[collection("acme.a")])
    found.register(module, name="mine")
    with pytest.raises(PluginError, match="cannot be registered: it is already"):
        found.register(module, name="mine")
    assert sorted(found.collections) == ["acme.a", "good.thing"]


def test_lifecycle_hooks_are_called_and_may_stop_a_save(tmp_path):
    calls = []

    class Listener:
        @hookimpl
        def fx_saving(self, path, metadata):
            calls.append(("saving", path, metadata["step"]))
            if metadata["step"] == 2:
                raise FxError("Not this one.")

        @hookimpl
        def fx_restored(self, tree):
            calls.append(("restored", tree))

    found = with_good()
    found.register(Listener())
    found.saving(tmp_path, {}, {"step": 1})
    found.restored(tmp_path, {"a": 1}, {})
    with pytest.raises(FxError, match="Not this one"):
        found.saving(tmp_path, {}, {"step": 2})
    assert calls == [("saving", tmp_path, 1), ("restored", {"a": 1}), ("saving", tmp_path, 2)]


def test_a_plugin_that_raises_in_a_lifecycle_hook_is_named_and_the_others_hear_of_it(tmp_path):
    calls = []

    class Listener:
        @hookimpl
        def fx_restored(self, tree):
            calls.append(tree)

    class Raises:
        @hookimpl
        def fx_saving(self, path):
            raise KeyError("step")

        @hookimpl
        def fx_restored(self, path):
            raise KeyError("step")

    found = with_good()
    found.register(Listener(), name="listener")
    found.register(Raises(), name="raises")
    with pytest.raises(KeyError, match="step") as caught:
        found.saving(tmp_path, {}, {})
    assert "fx_saving of plugin 'raises' raised this; FX_DISABLE_PLUGINS=raises" in caught.value.__notes__[0]
    with pytest.warns(FxPluginWarning, match=r"Hook 'fx_restored' of plugin 'raises' .* raised KeyError"):
        found.restored(tmp_path, {"a": 1}, {})
    assert calls == [{"a": 1}]
