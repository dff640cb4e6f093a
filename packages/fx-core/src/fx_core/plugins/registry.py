"""The registry: everything that plugins brought, by kind and name."""

import dataclasses
import functools
import threading
import warnings
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, Literal, TypeVar

from fx_core.errors.plugins import (
    EntryNameClashError,
    FxPluginWarning,
    PluginError,
    RegistryBusyError,
    UnknownEntryError,
    plugin_hook,
)
from fx_core.plugins.entries import (
    CheckpointBackendEntry,
    CollectionEntry,
    CommandEntry,
    Entry,
    ExporterEntry,
    LayerEntry,
    LoggerEntry,
    ModelEntry,
    OnnxPrimitiveEntry,
    Origin,
    describe,
)
from fx_core.plugins.known import brought_by, nearest
from fx_core.plugins.manager import entries_of, make_manager, notify, register
from fx_core.plugins.sources import PluginSource, installed_sources, prefix_of, speaks_for, why_left_out
from fx_core.plugins.status import PluginStatus, failed, import_failure, warn_of
from fx_core.plugins.switches import Switches, normalize
from fx_core.plugins.table import EntryTable

E = TypeVar("E", bound=Entry)
Face = Literal["linen", "nnx"]

_lock = threading.RLock()
_current: "Registry | None" = None


class Registry:
    """What a set of plugins registered.

    A plugin is imported when it is needed. A lookup by name imports those that are called after the name's prefix
    (``acme`` or ``acme-layers`` for ``"acme.GatedMLP"``; the packages of fx for a name without a dot) and, only if they
    do not have it, the others. Listing entries, plugins or problems imports all. What a name means does not depend on
    what was asked before, see `EntryTable`.

    `registry` gives the one of the process. Make your own to look at plugins without touching that one:

    >>> from fx_core.plugins import CollectionEntry, hookimpl
    >>> class Plugin:
    ...     @hookimpl
    ...     def fx_collections(self):
    ...         return [CollectionEntry(name="acme.moments", target="acme.nnx:Moments", summary="Running moments")]
    >>> mine = Registry(sources=[])
    >>> mine.register(Plugin(), name="acme")
    >>> mine.collections["acme.moments"].target
    'acme.nnx:Moments'

    Args:
      sources: where plugins come from; by default the entry points of installed distributions.
      switches: what to leave out and whom to prefer; by default those of the environment.

    Attributes:
      switches: what is left out and who is preferred.
      warns: whether a plugin that turns out to be broken when it is imported is warned about.
      collections: variable collections by name.
      checkpoint_backends: ways to store trees, by name.
      exporters: ways to ship networks, by name.
      loggers: destinations for metrics, by name.
      commands: sub-commands of ``fx``, by name.
      models: kinds of models that can be exported, by name.
      onnx_primitives: translations of primitives to ONNX, by name.
    """

    collections: EntryTable[CollectionEntry]
    checkpoint_backends: EntryTable[CheckpointBackendEntry]
    exporters: EntryTable[ExporterEntry]
    loggers: EntryTable[LoggerEntry]
    commands: EntryTable[CommandEntry]
    models: EntryTable[ModelEntry]
    onnx_primitives: EntryTable[OnnxPrimitiveEntry]

    def __init__(self, sources: Iterable[PluginSource] | None = None, switches: Switches | None = None):
        self.switches = Switches.from_environment() if switches is None else switches
        self._manager = make_manager(self.switches.trace)
        # A plugin is its source until it is imported.
        self._plugins: list[PluginStatus | PluginSource] = []
        self._problems: list[PluginError] = []
        self._asked: set[str] = set()
        self._complete = self._busy = self.warns = False
        for source in installed_sources() if sources is None else sources:
            reason = why_left_out(source, self.switches)
            self._plugins.append(source if reason is None else PluginStatus(source.origin, "off", reason))
        self._make_tables()

    @property
    def plugins(self) -> list[PluginStatus]:
        """How each plugin fared."""
        self.load()
        return [status for status in self._plugins if isinstance(status, PluginStatus)]

    @property
    def problems(self) -> list[PluginError]:
        """What was wrong, one error each."""
        self.load()
        return [*self._problems]

    def load(self, name: str | None = None) -> None:
        """Imports the plugins that may have registered a name, if they are not imported; without one, all plugins.

        Raises:
          RegistryBusyError: a plugin asked for it while it was being imported.
        """
        if self._complete or (name is not None and prefix_of(name) in self._asked):
            return
        with _lock:
            if self._busy:
                raise RegistryBusyError
            before = len(self._problems)
            self._busy = True
            try:
                for place, source in enumerate(self._plugins):
                    if isinstance(source, PluginSource) and self._may_have(source, name):
                        self._plugins[place] = self._import(source)
            finally:
                self._busy = False
                self._fill()
            # Kept before it complains: where warnings are errors, one broken plugin must not break every later call.
            self._complete = not any(isinstance(one, PluginSource) for one in self._plugins)
            self._asked |= set() if name is None else {prefix_of(name)}
            new = self._problems[before:]
        if self.warns:
            warn_of(new)

    def layers(self, face: Face) -> EntryTable[LayerEntry]:
        """Returns the layers of a face, by name."""
        return self._layers[face]

    def table(self, kind: str, face: Face | None = None) -> EntryTable[Any]:
        """Returns the entries of a kind, as `Entry.kind` spells it; layers need the face.

        Raises:
          UnknownEntryError: there is no such kind, or no such face.
        """
        if kind == "layer":
            if face not in self._layers:
                raise UnknownEntryError(
                    "face", str(face), list(self._layers), "Layers need face='linen' or face='nnx'."
                )
            return self._layers[face]
        if kind not in self._tables:
            raise UnknownEntryError("kind of entry", kind, ["layer", *self._tables], "Use one of these kinds.")
        return self._tables[kind]

    def get(self, kind: str, name: str, face: Face | None = None) -> Entry:
        """Returns the entry of that kind and name.

        Args:
          kind: as `Entry.kind` spells it, such as ``"checkpoint_backend"``.
          name: name of the entry.
          face: ``"linen"`` or ``"nnx"``, for layers.

        Raises:
          UnknownEntryError: there is none; the text has the nearest names and what would bring it.
          EntryNameClashError: several plugins claim the name.
        """
        return self.table(kind, face)[name]

    def register(self, plugin: object, name: str | None = None) -> None:
        """Adds a plugin that is not installed, such as one made in a notebook.

        Args:
          plugin: a module or an object with hooks.
          name: what to call it in messages and to `unregister`; by default its ``__name__`` or its class's.

        Raises:
          PluginError: something is wrong with it; nothing of it is then registered.
        """
        if name is None:
            name = str(getattr(plugin, "__name__", type(plugin).__name__))
        origin = Origin(name, type(plugin).__module__)
        with _lock:
            status, problems = self._admit(plugin, origin)
            if problems:
                if status.state == "loaded":
                    self._manager.unregister(plugin)
                raise problems[0]
            self._plugins.append(status)
            self._fill()

    def unregister(self, name: str) -> None:
        """Takes out a plugin that `register` added; nothing happens if there is none of that name."""
        with _lock:
            self._manager.unregister(name=f"{name}:{name}")
            by_hand = [
                one.origin for one in self._plugins if one.origin.distribution is None and one.origin.plugin == name
            ]
            self._plugins = [one for one in self._plugins if one.origin not in by_hand]
            self._fill()

    def saving(self, path: Path, tree: Any, metadata: Mapping[str, Any]) -> None:
        """Notifies plugins that a checkpoint is about to be written; what one raises stops the save."""
        self.load()
        for plugin, error in notify(self._manager, "fx_saving", path=path, tree=tree, metadata=metadata):
            error.add_note(f"fx_saving of plugin {plugin!r} raised this; FX_DISABLE_PLUGINS={plugin} turns it off.")
            raise error

    def restored(self, path: Path, tree: Any, metadata: Mapping[str, Any]) -> None:
        """Notifies plugins that a checkpoint was read and verified; what one raises is a warning."""
        self.load()
        for plugin, error in notify(self._manager, "fx_restored", path=path, tree=tree, metadata=metadata):
            owner = next((s.origin.distribution for s in self.plugins if s.origin.plugin == plugin), None)
            failure = plugin_hook(plugin, owner, "fx_restored", f"raised {describe(error)}")
            warnings.warn(str(failure), FxPluginWarning, stacklevel=3)

    def tables(self) -> list[EntryTable[Any]]:
        """Returns all tables, those of layers included."""
        return [*self._layers.values(), *self._tables.values()]

    def clashes(self) -> list[EntryNameClashError]:
        """Returns an error for each name that several plugins claim, also where one of them has the better right."""
        tables = self.tables()
        return [clash for table in tables for clash in (*table.clashes.values(), *table.shadowed.values())]

    def complain(self) -> None:
        """Warns about each problem of any plugin, or raises the first one if the switches say strict.

        Raises:
          FxError: strict, and something is wrong: a plugin, or a name that several plugins claim.
        """
        problems = self.problems
        if self.switches.strict:
            for problem in [*problems, *self.clashes()]:
                raise problem
        warn_of(problems)

    def _may_have(self, source: PluginSource, name: str | None) -> bool:
        """Whether a plugin has to be imported to know what a name means."""
        if name is None:
            return True
        if not prefix_of(name):
            return source.of_fx
        return speaks_for(source.origin, name) or source.matches(self.switches.preferred)

    def _import(self, source: PluginSource) -> PluginStatus:
        origin = source.origin
        try:
            plugin = source.load()
        except (Exception, SystemExit) as error:
            failure = import_failure(origin.plugin, origin.distribution, origin.module, describe(error))
            failure.__cause__ = error
            status, problems = failed(origin, failure)
        else:
            status, problems = self._admit(plugin, origin)
        self._problems += problems
        return status

    def _admit(self, plugin: object, origin: Origin) -> tuple[PluginStatus, list[PluginError]]:
        try:
            unknown = register(self._manager, plugin, origin)
        except PluginError as error:
            return failed(origin, error)
        try:
            entries, faults = entries_of(self._manager, plugin, origin)
        except BaseException:  # interrupted: the next lookup imports it again
            self._manager.unregister(plugin)
            raise
        owned = tuple(dataclasses.replace(entry, origin=origin) for entry in entries)
        return PluginStatus(origin, "loaded", None, owned), [*unknown, *faults]

    def _make_tables(self) -> None:
        def table(label: str, load: Callable[[str | None], None] = self.load) -> EntryTable[Any]:
            advice = functools.partial(self._advice, label)
            return EntryTable(label.replace("_", " "), (), self.switches.preferred, advice, load)

        self._layers: dict[Face, EntryTable[LayerEntry]] = {"linen": table("linen layer"), "nnx": table("nnx layer")}
        self.collections = table(CollectionEntry.kind)
        self.checkpoint_backends = table(CheckpointBackendEntry.kind)
        self.exporters = table(ExporterEntry.kind)
        self.loggers = table(LoggerEntry.kind)
        # Plugins may register commands without a dot, so their names do not say who has them.
        self.commands = table(CommandEntry.kind, lambda _: self.load())
        self.models = table(ModelEntry.kind)
        self.onnx_primitives = table(OnnxPrimitiveEntry.kind)
        self._tables: dict[str, EntryTable[Any]] = {
            "collection": self.collections,
            "checkpoint_backend": self.checkpoint_backends,
            "exporter": self.exporters,
            "logger": self.loggers,
            "command": self.commands,
            "model": self.models,
            "onnx_primitive": self.onnx_primitives,
        }

    def _fill(self) -> None:
        """Puts what is registered by now into the tables."""
        entries = [entry for one in self._plugins if isinstance(one, PluginStatus) for entry in one.entries]
        for face, layers in self._layers.items():
            layers.replace(own for e in entries if isinstance(e, LayerEntry) if (own := e.of_face(face)))
        for kind, table in self._tables.items():
            table.replace(entry for entry in entries if entry.kind == kind)

    def _advice(self, label: str, name: str) -> str:
        """Say what would bring an unknown name."""
        requirement = brought_by(label, name)
        absent = [status for status in self.plugins if status.state != "loaded"]
        if requirement is None:
            near = nearest(label, name)
            if near is not None and near not in self._tables[label]:
                return f"Did you mean {near!r}? {self._advice(label, near)}"
            missing = "".join(f" {s.origin.owner} is {s.reason}." for s in absent)
            return f"Install the plugin that brings it; `fx plugins` lists what is there.{missing}"
        distribution = requirement.partition("[")[0]
        for status in absent:
            if normalize(status.origin.owner) == distribution:
                return f"{distribution} brings it, but is {status.reason}."
        if any(normalize(status.origin.owner) == distribution for status in self.plugins) and "[" not in requirement:
            return f"{distribution} is there and has none of that name; `fx plugins` lists what is there."
        return f"pip install '{requirement}', which brings it."


def registry() -> Registry:
    """Returns the registry of the process; the first call finds out what is installed, and imports none of it.

    Raises:
      PluginError: a plugin is broken and ``FX_STRICT_PLUGINS=1``, with which the first call imports all plugins.

    Example:
      >>> registry().collections["params"].target
      'fx_nnx:Param'
    """
    return _current if _current is not None else _make()


def reset() -> None:
    """Discards the registry, so that the next `registry` discovers plugins anew; for tests and changed switches."""
    global _current
    with _lock:
        _current = None


def _make() -> Registry:
    global _current
    with _lock:
        if _current is None:
            made = Registry()
            if made.switches.strict:
                made.complain()
            made.warns = True
            _current = made
        return _current
