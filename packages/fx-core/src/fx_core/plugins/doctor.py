"""Loads and checks every target that plugins registered, which daily use does not."""

import dataclasses
import importlib
from collections.abc import Iterator
from typing import Any, Literal

from fx_core.errors.plugins import EntryLoadError
from fx_core.plugins.entries import Entry, LayerEntry
from fx_core.plugins.registry import Registry
from fx_core.plugins.sources import prefix_of, speaks_for
from fx_core.plugins.status import PluginStatus

_METHODS = {
    "checkpoint_backend": ("save", "restore"),
    "exporter": ("export", "load"),
    "logger": ("log", "close"),
}


@dataclasses.dataclass(frozen=True)
class Finding:
    """Something that the doctor saw.

    Attributes:
      level: ``"problem"`` if something is broken; ``"note"`` if an optional dependency is not installed.
      owner: distribution or plugin concerned.
      subject: the plugin, or kind and name of the entry.
      text: what it is and what to do.
    """

    level: Literal["problem", "note"]
    owner: str
    subject: str
    text: str

    def __str__(self) -> str:
        return f"{self.level}: {self.subject} of {self.owner}: {self.text}"


def examine(registry: Registry) -> list[Finding]:
    """Loads every target and report what is wrong; nothing is raised.

    Args:
      registry: what to look at.

    Returns:
      Plugins that failed, hooks that returned rubbish, names that several plugins claim, targets that cannot be
      loaded or are not what their kind asks for. An empty list means that all is well.

    Example:
      >>> examine(Registry(sources=[]))
      []
    """
    findings = [
        Finding("problem", problem.distribution or problem.plugin, f"plugin {problem.plugin!r}", str(problem))
        for problem in registry.problems
    ]
    for table in registry.tables():
        for name, clash in table.clashes.items():
            owners = ", ".join(owner for owner, _ in clash.owners)
            findings.append(Finding("problem", owners, f"{table.label} {name!r}", str(clash)))
        for name, clash in table.shadowed.items():
            counts = table[name].origin
            owners = ", ".join(owner for owner, _ in clash.owners)
            text = f"{clash} That of {counts.owner if counts else '?'} counts, which is called after the name."
            findings.append(Finding("problem", owners, f"{table.label} {name!r}", text))
    for status in registry.plugins:
        findings += _misnamed(status)
        for entry in _faces(status.entries):
            finding = _examine_entry(entry, status.origin.owner)
            if finding is not None:
                findings.append(finding)
    return findings


def _misnamed(status: PluginStatus) -> Iterator[Finding]:
    """Yields a note for each prefix of names after which the plugin is not called."""
    names = [
        entry.name for entry in status.entries if prefix_of(entry.name) and not speaks_for(status.origin, entry.name)
    ]
    for prefix in sorted(set(map(prefix_of, names))):
        text = (
            f"it registers names that begin with {prefix + '.'!r}, but is not called after them: a lookup of one "
            f"imports all plugins. Call its entry point {prefix!r}."
        )
        yield Finding("note", status.origin.owner, f"plugin {status.origin.plugin!r}", text)


def _faces(entries: tuple[Entry, ...]) -> Iterator[Entry]:
    """Yields entries as Linen and NNX have them."""
    for entry in entries:
        if isinstance(entry, LayerEntry):
            yield from filter(None, (entry.of_face("linen"), entry.of_face("nnx")))
        else:
            yield entry


def _examine_entry(entry: Entry, owner: str) -> Finding | None:
    subject = f"{entry.label} {entry.name!r}"
    try:
        target = entry.load()
    except EntryLoadError as error:
        return Finding("note" if _is_optional(error) else "problem", owner, subject, str(error))
    fault = _fault(entry, target)
    return None if fault is None else Finding("problem", owner, subject, f"{entry.target} {fault}")


def _is_optional(error: EntryLoadError) -> bool:
    """Whether what is missing may be missing: an extra, or a package of fx that is not installed."""
    missing = isinstance(error.__cause__, ModuleNotFoundError)
    return error.absent is not None or (missing and error.extra is not None)


def _fault(entry: Entry, target: Any) -> str | None:
    """Say why a target is not what its kind asks for."""
    if entry.kind == "command":
        command = importlib.import_module("click").Command
        return None if isinstance(target, command) else "is no click command"
    if entry.kind in ("model", "onnx_primitive"):
        return None if callable(target) else "is no function"
    if not isinstance(target, type):
        return "is no class"
    missing = [method for method in _METHODS.get(entry.kind, ()) if not callable(getattr(target, method, None))]
    return f"lacks the method {missing[0]!r}" if missing else None
