"""Which plugins a lookup by name imports, and that a name means the same whatever was looked up before."""

import warnings

import pytest
from fx_core import plugins
from fx_core.collections import made_by_init
from fx_core.errors import EntryNameClashError, FxPluginWarning, PluginError, UnknownEntryError
from fx_core.plugins import CollectionEntry, CommandEntry, Origin, PluginSource, Registry, Switches
from fx_core.plugins.doctor import examine
from fx_core.scope import in_filter
from fx_core.testing.fakes import fake_plugin


def collection(name, target="acme.variables:Moments", **fields):
    return CollectionEntry(name=name, target=target, summary="For a test", **fields)


class Installed:
    """Sources of plugins that take note of which are imported."""

    def __init__(self):
        self.imported = []
        self.sources = []

    def add(self, distribution, *entries, point=None, module=None, error=None):
        def load():
            self.imported.append(distribution)
            if error:
                raise error
            commands = [one for one in entries if isinstance(one, CommandEntry)]
            return fake_plugin(fx_collections=[one for one in entries if one not in commands], fx_commands=commands)

        origin = Origin(point or distribution, module or f"{distribution}_package.plugin", distribution, "1.0")
        self.sources.append(PluginSource(origin, load))

    def registry(self, **switches):
        return Registry(self.sources, Switches(**switches))


@pytest.fixture
def three():
    found = Installed()
    found.add("fx-core", collection("params", "fx_nnx:Param"))
    for vendor in ("acme", "beta", "gamma"):
        found.add(f"{vendor}-layers", collection(f"{vendor}.moments"), point=vendor)
    return found


@pytest.fixture
def process(monkeypatch):
    """Lets the process have these plugins."""
    import sys

    def use(installed):
        monkeypatch.setattr(sys.modules["fx_core.plugins.registry"], "installed_sources", lambda: installed.sources)
        plugins.reset()

    yield use
    plugins.reset()


def test_making_a_registry_imports_nothing(three):
    three.registry()
    assert three.imported == []


@pytest.mark.parametrize(
    "ask", [lambda t: t["beta.moments"], lambda t: t.get("beta.moments"), lambda t: "beta.moments" in t]
)
def test_a_lookup_imports_the_one_plugin_that_is_called_after_the_name(three, ask):
    table = three.registry().collections
    assert ask(table)
    assert ask(table)
    assert three.imported == ["beta-layers"]


@pytest.mark.parametrize("called", [{"point": "acme"}, {"point": "acme-more"}, {"module": "acme:plugin"}, {}])
def test_a_plugin_is_called_after_its_entry_point_its_distribution_or_its_package(three, called):
    three.add("acme-more" if not called else "other", collection("acme.more"), **called)
    assert three.registry().collections["acme.more"]
    assert three.imported == ["acme-layers", three.sources[-1].origin.distribution]


def test_a_name_of_fx_imports_the_packages_of_fx(three):
    found = three.registry().collections
    assert found["params"]
    assert found.get("parms") is None
    assert "moments" not in found
    assert three.imported == ["fx-core"]


def test_a_plugin_that_is_called_otherwise_is_found_all_the_same(three):
    three.add("old", collection("acme.old"))
    assert three.registry().collections["acme.old"].origin.distribution == "old"
    assert three.imported == ["acme-layers", "fx-core", "beta-layers", "gamma-layers", "old"]


def test_an_unknown_name_comes_with_the_nearest_of_all_plugins(three):
    with pytest.raises(UnknownEntryError, match=r"(?s)no collection 'beta.moment'.*Did you mean 'beta.moments'"):
        three.registry().collections["beta.moment"]
    with pytest.raises(UnknownEntryError, match=r"one of 'acme.moments', 'beta.moments', 'gamma.moments', 'params'"):
        three.registry().collections["parms"]


@pytest.mark.parametrize(
    "ask",
    [list, len, repr, lambda t: t.items(), lambda t: t.clashes, lambda t: t.shadowed],
)
def test_listing_imports_all(three, ask):
    listed = ask(three.registry().collections)
    assert listed is not None
    list(listed) if not isinstance(listed, (int, str)) else None
    assert three.imported == ["fx-core", "acme-layers", "beta-layers", "gamma-layers"]


def test_a_table_that_was_asked_for_early_has_what_is_imported_later(three):
    found = three.registry()
    table = found.collections
    assert found.get("collection", "acme.moments")
    assert list(table) == ["acme.moments", "beta.moments", "gamma.moments", "params"]
    assert found.collections is table


def test_another_plugin_that_is_broken_does_not_touch_a_lookup(three, process):
    three.add("broken", error=ValueError("boom"))
    process(three)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert plugins.registry().collections["beta.moments"]
    with pytest.warns(FxPluginWarning, match="boom") as caught:
        assert plugins.registry().collections.get("zeta.moments") is None
    assert caught[0].filename == __file__
    assert plugins.registry().collections["gamma.moments"]


def test_a_broken_plugin_is_reported_by_the_lookup_of_its_names(three, process):
    three.add("broken", error=ValueError("boom"))
    process(three)
    with (
        pytest.warns(FxPluginWarning, match="boom"),
        pytest.raises(UnknownEntryError, match=r"broken is Plugin 'broken'"),
    ):
        plugins.registry().collections["broken.moments"]


def test_strict_imports_all_at_once(three, process, monkeypatch):
    three.add("broken", error=ValueError("boom"))
    monkeypatch.setenv("FX_STRICT_PLUGINS", "1")
    process(three)
    with pytest.raises(PluginError, match="boom"):
        plugins.registry()


def test_two_plugins_that_are_called_after_a_name_clash(three):
    three.add("acme-fork", collection("acme.moments", "fork:Moments"))
    with pytest.raises(EntryNameClashError, match=r"by acme-layers .* and acme-fork"):
        three.registry().collections["acme.moments"]
    assert three.imported == ["acme-layers", "acme-fork"]
    assert three.registry(preferred=("acme-fork",)).collections["acme.moments"].target == "fork:Moments"


@pytest.mark.parametrize("first", [list, lambda table: table["acme.moments"], lambda table: table.get("zeta.x")])
def test_what_a_name_means_does_not_depend_on_what_was_asked_before(three, first):
    three.add("zeta", collection("acme.moments", "zeta:Moments"))
    found = three.registry()
    first(found.collections)
    assert found.collections["acme.moments"].origin.distribution == "acme-layers"
    assert list(found.collections.clashes) == []
    assert [clash.name for clash in found.clashes()] == ["acme.moments"]
    (problem,) = [finding for finding in examine(found) if "registered 2 times" in finding.text]
    assert problem.level == "problem"
    assert "That of acme-layers counts, which is called after the name." in problem.text
    with pytest.raises(EntryNameClashError):
        three.registry(strict=True).complain()


def test_who_is_preferred_is_asked_whatever_it_is_called(three):
    three.add("zeta", collection("acme.moments", "zeta:Moments"))
    assert three.registry(preferred=("zeta",)).collections["acme.moments"].target == "zeta:Moments"
    assert "beta-layers" not in three.imported


def test_what_is_registered_by_hand_is_there_whatever_is_asked(three):
    found = three.registry()
    found.register(fake_plugin(fx_collections=[collection("acme.moments", "mine:Moments")]), name="mine")
    with pytest.raises(EntryNameClashError):
        found.collections["acme.moments"]
    found.unregister("mine")
    assert found.collections["acme.moments"].target == "acme.variables:Moments"


def test_commands_may_be_anybodys(three):
    three.add("zeta", CommandEntry(name="work", target="zeta:work", summary="Works"))
    assert three.registry().commands["work"].origin.distribution == "zeta"


def test_an_import_that_is_interrupted_is_done_again(three):
    interrupt = [True]

    def entries():
        if interrupt:
            interrupt.clear()
            raise KeyboardInterrupt
        return [collection("acme.more")]

    plugin = fake_plugin(fx_collections=entries)
    three.sources.append(PluginSource(Origin("acme-more", "acme.plugin", "acme-more", "1.0"), lambda: plugin))
    found = three.registry()
    with pytest.raises(KeyboardInterrupt):
        found.collections["acme.more"]
    assert found.collections["acme.more"]
    assert found.problems == []


def test_the_doctor_recommends_a_name_for_the_entry_point(three):
    three.add("zeta", collection("eta.one"), collection("eta.two"), module="zeta.plugin")
    (note,) = [finding for finding in examine(three.registry()) if finding.subject == "plugin 'zeta'"]
    assert (note.owner, note.level) == ("zeta", "note")
    assert "it registers names that begin with 'eta.', but is not called after them" in note.text
    assert "Call its entry point 'eta'." in note.text


def test_the_collections_of_a_first_init_import_the_plugins_of_its_collections(three, process):
    three.add("delta", collection("delta.sown", mutable_in_init=False))
    process(three)
    made = made_by_init()
    assert in_filter(made, "params")
    assert not in_filter(made, "delta.sown")
    assert three.imported == ["fx-core", "delta"]
    assert made == made_by_init()
    assert hash(made) == hash(made_by_init())
