"""Entries by name: clashes, unknown names, targets that do not load, what the doctor sees."""

import pickle
import sys

import pytest
from fx_core import plugins
from fx_core.errors import (
    EntryLoadError,
    EntryNameClashError,
    PluginError,
    RegistryBusyError,
    UnknownEntryError,
)
from fx_core.plugins import (
    CheckpointBackendEntry,
    CollectionEntry,
    CommandEntry,
    Registry,
    Switches,
)
from fx_core.plugins.doctor import examine
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


CLASH = (
    fake_source(fake_plugin(fx_collections=[collection("x.same"), collection("x.one")]), "first"),
    fake_source(fake_plugin(fx_collections=[collection("x.same", "other:Same")]), "second"),
)


def test_a_name_clash_is_an_error_for_that_name_only():
    found = with_good(*CLASH)
    for ask in (
        lambda: found.collections["x.same"],
        lambda: found.collections.get("x.same"),
        lambda: "x.same" in found.collections,
        lambda: found.get("collection", "x.same"),
    ):
        with pytest.raises(EntryNameClashError, match=r"registered 2 times: by first .* and second") as caught:
            ask()
        assert "FX_PREFER_PLUGINS=first" in str(caught.value)
        assert "FX_DISABLE_PLUGINS=second" in str(caught.value)
    assert sorted(found.collections) == ["good.thing", "x.one"]
    assert list(found.collections.clashes) == ["x.same"]
    assert found.problems == []


def test_a_clash_is_settled_by_preference_or_by_disabling():
    assert with_good(*CLASH, preferred=("second", "first")).collections["x.same"].target == "other:Same"
    assert with_good(*CLASH, preferred=("first",)).collections["x.same"].target == "acme.variables:Moments"
    assert with_good(*CLASH, disabled=frozenset({"first"})).collections["x.same"].target == "other:Same"
    with pytest.raises(EntryNameClashError, match=r"x\.same"):
        with_good(*CLASH, preferred=("third",)).collections["x.same"]


def test_strict_makes_a_clash_an_error_at_once(fresh, monkeypatch):
    monkeypatch.setenv("FX_STRICT_PLUGINS", "1")
    fresh(*CLASH)
    with pytest.raises(EntryNameClashError, match=r"x\.same"):
        plugins.registry()


def test_an_unknown_name_comes_with_the_nearest_ones():
    with pytest.raises(UnknownEntryError, match=r"(?s)no collection 'good.thnig'.*Did you mean 'good.thing'\?"):
        with_good().collections["good.thnig"]
    with pytest.raises(LookupError, match=r"one of 'good.thing'"):
        with_good().get("collection", "zzz")
    assert with_good().collections.get("zzz") is None


def test_kinds_and_faces_that_do_not_exist():
    with pytest.raises(UnknownEntryError, match="no kind of entry 'optimizer'"):
        Registry([], Switches()).get("optimizer", "adam")
    with pytest.raises(UnknownEntryError, match="Layers need face='linen' or face='nnx'"):
        Registry([], Switches()).get("layer", "Dense")


@pytest.mark.parametrize(
    ("kind", "name", "face", "text"),
    [
        ("checkpoint_backend", "orbax", None, r"pip install 'fx-ckpt\[orbax\]'"),
        ("checkpoint_backend", "orbx", None, r"Did you mean 'orbax'\? pip install 'fx-ckpt\[orbax\]'"),
        ("layer", "Dense", "linen", "pip install 'fx-linen'"),
        ("layer", "Linear", "nnx", "pip install 'fx-nnx'"),
        ("exporter", "acme.caffe", None, "Install the plugin that brings it"),
    ],
)
def test_an_unknown_name_comes_with_what_would_bring_it(kind, name, face, text):
    with pytest.raises(UnknownEntryError, match=text):
        Registry([], Switches()).get(kind, name, face)


def test_an_unknown_name_says_if_its_distribution_is_there_but_off_or_broken():
    there = fake_source(fake_plugin(), "fx-ckpt")
    with pytest.raises(UnknownEntryError, match="fx-ckpt brings it, but is disabled by FX_DISABLE_PLUGINS"):
        Registry([there], Switches(disabled=frozenset({"fx-ckpt"}))).checkpoint_backends["msgpack"]
    with pytest.raises(UnknownEntryError, match=r"fx-ckpt brings it, but is Plugin 'fx-ckpt' .* failed to import"):
        Registry([fake_source(ValueError("boom"), "fx-ckpt")], Switches()).checkpoint_backends["msgpack"]
    with pytest.raises(UnknownEntryError, match="acme is left out by FX_PLUGIN_AUTOLOAD=0"):
        Registry([fake_source(fake_plugin())], Switches(autoload=False)).collections["acme.a"]


def test_a_target_that_does_not_import_says_who_and_which_extra():
    entry = CheckpointBackendEntry(name="acme.zarr", target="acme_absent.zarr:Zarr", summary="Zarr", extra="zarr")
    found = Registry([fake_source(fake_plugin(fx_checkpoint_backends=[entry]), "acme-zarr")], Switches())
    with pytest.raises(EntryLoadError, match=r"checkpoint backend 'acme.zarr' of distribution 'acme-zarr'") as caught:
        found.checkpoint_backends["acme.zarr"].load()
    assert "pip install 'acme-zarr[zarr]'" in str(caught.value)
    assert "ModuleNotFoundError: No module named 'acme_absent'" in str(caught.value)
    assert isinstance(caught.value, ImportError)
    (finding,) = examine(found)
    assert finding.level == "note"


def test_a_target_without_its_attribute_says_so():
    entry = collection("acme.a", "os.path:nothing")
    found = Registry([fake_source(fake_plugin(fx_collections=[entry]))], Switches())
    with pytest.raises(EntryLoadError, match="has no attribute 'nothing'"):
        found.collections["acme.a"].load()
    with pytest.raises(EntryLoadError, match="Correct the target of the entry"):
        entry.load()


def test_a_target_that_needs_an_absent_package_of_fx_names_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "fx_bridge", None)
    monkeypatch.delitem(sys.modules, "fx_bridge")
    monkeypatch.setattr(sys, "path", [])
    monkeypatch.setattr(sys, "meta_path", [finder for finder in sys.meta_path if "editable" not in repr(finder)])
    monkeypatch.setattr(sys, "path_importer_cache", {})
    with pytest.raises(EntryLoadError, match="pip install fx-bridge"):
        collection("acme.a", "fx_bridge:ToNNX").load()


@pytest.mark.parametrize(
    ("entry", "text"),
    [
        (collection("acme.a", "os.path:join"), "is no class"),
        (
            CheckpointBackendEntry(name="acme.b", target="builtins:dict", summary="No backend"),
            "lacks the method 'save'",
        ),
        (CommandEntry(name="acme", target="os.path:join", summary="No command"), "is no click command"),
    ],
)
def test_the_doctor_sees_targets_of_the_wrong_kind(entry, text):
    hook = {"collection": "fx_collections", "checkpoint_backend": "fx_checkpoint_backends", "command": "fx_commands"}
    (finding,) = examine(Registry([fake_source(fake_plugin(**{hook[entry.kind]: [entry]}))], Switches()))
    assert (finding.level, finding.owner) == ("problem", "acme")
    assert text in finding.text


def test_the_doctor_sees_failures_and_clashes():
    findings = examine(Registry([fake_source(ValueError("boom"), "broken"), *CLASH], Switches()))
    problems = [finding for finding in findings if finding.level == "problem"]
    assert [finding.owner for finding in problems] == ["broken", "first, second", "first", "first", "second"]
    text = "\n".join(map(str, findings))
    assert "plugin 'broken'" in text
    assert "collection 'x.same' of first, second" in text


@pytest.mark.parametrize(
    "error",
    [
        PluginError("It is refused.", plugin="p", distribution="d", got="2.0", fix="Install another"),
        EntryNameClashError("layer", "n", [("a", "x:y"), ("b", "x:z")]),
        UnknownEntryError("layer", "n", [], "Do it."),
        EntryLoadError("layer", "n", "a:b", "cause", "d", "e"),
        RegistryBusyError(),
    ],
)
def test_errors_survive_pickling(error):
    again = pickle.loads(pickle.dumps(error))
    assert (type(again), str(again)) == (type(error), str(error))
