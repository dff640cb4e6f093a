"""The registry: everything that plugins brought, by kind and name."""

import dataclasses
import threading
import warnings
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Literal, TypeVar

from fx_core.errors.plugins import (
    FxPluginWarning,
    PluginError,
    RegistryBusyError,
    UnknownEntryError,
    of_distribution,
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
from fx_core.plugins.sources import PluginSource, installed_sources, why_left_out
from fx_core.plugins.switches import Switches, normalize
from fx_core.plugins.table import EntryTable

E = TypeVar("E", bound=Entry)
Face = Literal["linen", "nnx"]

_lock = threading.RLock()
_current: "Registry | None" = None
_loading = False


@dataclasses.dataclass(frozen=True)
class PluginStatus:
    """How a plugin fared.

    Attributes:
      origin: which one.
      state: ``"loaded"``, ``"failed"`` (left out because it is broken or of another API version) or ``"off"`` (kept
        out by a switch).
      reason: why it is not there, in one line; None when it is.
      entries: what it registered.
    """

    origin: Origin
    state: Literal["loaded", "failed", "off"]
    reason: str | None = None
    entries: tuple[Entry, ...] = ()


class Registry:
    """What a set of plugins registered.

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
      plugins: how each plugin fared, in the order of loading.
      problems: what was wrong, one error each.
      collections: variable collections by name.
      checkpoint_backends: ways to store trees, by name.
      exporters: ways to ship networks, by name.
      loggers: destinations for metrics, by name.
      commands: sub-commands of ``fx``, by name.
      models: kinds of models that can be exported, by name.
      onnx_primitives: translations of primitives to ONNX, by name.
    """

    plugins: list[PluginStatus]
    problems: list[PluginError]
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
        self.plugins, self.problems = [], []
        for source in installed_sources() if sources is None else sources:
            self._take(source)
        self._tabulate()

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
            self.plugins.append(status)
            self._tabulate()

    def unregister(self, name: str) -> None:
        """Takes out a plugin that `register` added; nothing happens if there is none of that name."""
        with _lock:
            self._manager.unregister(name=f"{name}:{name}")
            by_hand = [s for s in self.plugins if s.origin.distribution is None and s.origin.plugin == name]
            self.plugins = [status for status in self.plugins if status not in by_hand]
            self._tabulate()

    def saving(self, path: Path, tree: Any, metadata: Mapping[str, Any]) -> None:
        """Notifies plugins that a checkpoint is about to be written; what one raises stops the save."""
        for plugin, error in notify(self._manager, "fx_saving", path=path, tree=tree, metadata=metadata):
            error.add_note(f"fx_saving of plugin {plugin!r} raised this; FX_DISABLE_PLUGINS={plugin} turns it off.")
            raise error

    def restored(self, path: Path, tree: Any, metadata: Mapping[str, Any]) -> None:
        """Notifies plugins that a checkpoint was read and verified; what one raises is a warning."""
        for plugin, error in notify(self._manager, "fx_restored", path=path, tree=tree, metadata=metadata):
            owner = next((s.origin.distribution for s in self.plugins if s.origin.plugin == plugin), None)
            failure = plugin_hook(plugin, owner, "fx_restored", f"raised {describe(error)}")
            warnings.warn(str(failure), FxPluginWarning, stacklevel=3)

    def tables(self) -> list[EntryTable[Any]]:
        """Returns all tables, those of layers included."""
        return [*self._layers.values(), *self._tables.values()]

    def complain(self) -> None:
        """Warns about each problem, or raises the first one if the switches say strict.

        Raises:
          FxError: strict, and something is wrong: a plugin, or a name that several plugins claim.
        """
        if self.switches.strict:
            clashes = [clash for table in self.tables() for clash in table.clashes.values()]
            for problem in [*self.problems, *clashes]:
                raise problem
        for problem in self.problems:
            warnings.warn(str(problem), FxPluginWarning, stacklevel=4)

    def _take(self, source: PluginSource) -> None:
        origin = source.origin
        reason = why_left_out(source, self.switches)
        if reason is not None:
            self.plugins.append(PluginStatus(origin, "off", reason))
            return
        try:
            plugin = source.load()
        except (Exception, SystemExit) as error:
            failure = _plugin_import(origin.plugin, origin.distribution, origin.module, describe(error))
            failure.__cause__ = error
            status, problems = _failed(origin, failure)
        else:
            status, problems = self._admit(plugin, origin)
        self.plugins.append(status)
        self.problems += problems

    def _admit(self, plugin: object, origin: Origin) -> tuple[PluginStatus, list[PluginError]]:
        try:
            unknown = register(self._manager, plugin, origin)
        except PluginError as error:
            return _failed(origin, error)
        entries, faults = entries_of(self._manager, plugin, origin)
        owned = tuple(dataclasses.replace(entry, origin=origin) for entry in entries)
        return PluginStatus(origin, "loaded", None, owned), [*unknown, *faults]

    def _tabulate(self) -> None:
        entries = [entry for status in self.plugins for entry in status.entries]

        def table(cls: type[E], keep: Face | None = None) -> EntryTable[E]:
            label = f"{keep} layer" if keep else cls.kind
            mine = [e for e in entries if isinstance(e, cls)]
            if keep:
                mine = [one for e in mine if isinstance(e, LayerEntry) if (one := e.of_face(keep))]
            words = label.replace("_", " ")
            return EntryTable(words, mine, self.switches.preferred, lambda name: self._advice(label, name))

        self._layers: dict[Face, EntryTable[LayerEntry]] = {
            "linen": table(LayerEntry, "linen"),
            "nnx": table(LayerEntry, "nnx"),
        }
        self.collections = table(CollectionEntry)
        self.checkpoint_backends = table(CheckpointBackendEntry)
        self.exporters = table(ExporterEntry)
        self.loggers = table(LoggerEntry)
        self.commands = table(CommandEntry)
        self.models = table(ModelEntry)
        self.onnx_primitives = table(OnnxPrimitiveEntry)
        self._tables: dict[str, EntryTable[Any]] = {
            "collection": self.collections,
            "checkpoint_backend": self.checkpoint_backends,
            "exporter": self.exporters,
            "logger": self.loggers,
            "command": self.commands,
            "model": self.models,
            "onnx_primitive": self.onnx_primitives,
        }

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
    """Returns the registry of the process; the first call discovers and loads plugins.

    Raises:
      PluginError: a plugin is broken and ``FX_STRICT_PLUGINS=1``.
      RegistryBusyError: a plugin asked for it while it was being imported.

    Example:
      >>> registry().collections["params"].target
      'fx_nnx:Param'
    """
    return _current if _current is not None else _load()


def reset() -> None:
    """Discards the registry, so that the next `registry` discovers plugins anew; for tests and changed switches."""
    global _current
    with _lock:
        _current = None


def _load() -> Registry:
    global _current, _loading
    with _lock:
        if _current is not None:
            return _current
        if _loading:
            raise RegistryBusyError
        _loading = True
        try:
            loaded = Registry()
        finally:
            _loading = False
        if loaded.switches.strict:
            loaded.complain()
        # Kept before it complains: where warnings are errors, one broken plugin must not break every later call.
        _current = loaded
    if not loaded.switches.strict:
        loaded.complain()
    return loaded


def _failed(origin: Origin, error: PluginError) -> tuple[PluginStatus, list[PluginError]]:
    reason = str(error).partition("\n")[0]
    return PluginStatus(origin, "failed", reason), [error]


def _plugin_import(plugin: str, distribution: str | None, module: str, cause: str) -> PluginError:
    return PluginError(
        f"Plugin {plugin!r} {of_distribution(distribution)} failed to import: {cause}.",
        plugin=plugin,
        distribution=distribution,
        expected=f"module {module!r} to import",
        got=cause,
        fix=f"Repair or upgrade {distribution}" if distribution else None,
    )
