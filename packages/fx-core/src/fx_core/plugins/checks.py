"""What a plugin must be like before it is believed: its API version, its hooks, the entries it returns."""

import difflib
import re
from collections.abc import Iterable
from typing import Any, cast

from fx_core.errors.plugins import PluginError, of_distribution, plugin_hook
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
)
from fx_core.plugins.hooks import API_VERSION
from fx_core.plugins.sources import is_family

ENTRY_HOOKS: dict[str, type[Entry]] = {
    "fx_layers": LayerEntry,
    "fx_collections": CollectionEntry,
    "fx_checkpoint_backends": CheckpointBackendEntry,
    "fx_exporters": ExporterEntry,
    "fx_loggers": LoggerEntry,
    "fx_commands": CommandEntry,
    "fx_models": ModelEntry,
    "fx_onnx_primitives": OnnxPrimitiveEntry,
}
"""The hooks that return entries, and of which type."""

LIFECYCLE_HOOKS = ("fx_saving", "fx_restored")

_TARGET = re.compile(r"[^\W\d]\w*(\.[^\W\d]\w*)*:[^\W\d]\w*(\.[^\W\d]\w*)*")


def check_version(plugin: object, origin: Origin) -> None:
    """Refuses a plugin that declares an API version which this one does not serve; declaring none means ours.

    Raises:
      PluginError: the first number differs, the second is larger than ours, or it is no version.
    """
    declared = getattr(plugin, "fx_api_version", None)
    if declared is None:
        return
    match = re.fullmatch(r"(\d+)\.(\d+)", declared) if isinstance(declared, str) else None
    if match is None or int(match[1]) != API_VERSION[0] or int(match[2]) > API_VERSION[1]:
        raise _plugin_version(origin.plugin, origin.distribution, declared, ".".join(map(str, API_VERSION)))


def unknown_hook(name: str, origin: Origin) -> PluginError:
    """Creates the error for a hook that does not exist, with the nearest one that does."""
    near = difflib.get_close_matches(name, [*ENTRY_HOOKS, *LIFECYCLE_HOOKS], n=1, cutoff=0.5)
    return plugin_hook(
        origin.plugin,
        origin.distribution,
        name,
        "does not exist",
        expected=near[0] if near else ", ".join([*ENTRY_HOOKS, *LIFECYCLE_HOOKS]),
        got=name,
    )


def check_entries(hook: str, results: object, origin: Origin) -> tuple[list[Entry], list[PluginError]]:
    """Sorts what a hook returned into good entries and errors.

    Args:
      hook: name of the hook.
      results: what it returned.
      origin: plugin that it belongs to.

    Returns:
      The entries that are right, and an error for each that is not.
    """
    wanted = ENTRY_HOOKS[hook]
    if isinstance(results, (str, bytes, Entry)) or not isinstance(results, Iterable):
        expected = f"an iterable of {wanted.__name__}"
        error = plugin_hook(
            origin.plugin, origin.distribution, hook, "returned rubbish", expected, _short(cast(object, results))
        )
        return [], [error]
    good: list[Entry] = []
    errors: list[PluginError] = []
    for result in cast(Iterable[object], results):
        fault = _fault(result, wanted, origin)
        if fault is None:
            good.append(cast(Entry, result))
        else:
            problem, expected = fault
            errors.append(plugin_hook(origin.plugin, origin.distribution, hook, problem, expected, _short(result)))
    return good, errors


def _fault(entry: object, wanted: type[Entry], origin: Origin) -> tuple[str, str] | None:
    """Say what is wrong with an entry, and what would be right."""
    if not isinstance(entry, wanted):
        return "returned rubbish", f"instances of {wanted.__name__}"
    # The types of fields are promises of whoever wrote the plugin; here they are looked at.
    name, target, summary = cast("tuple[Any, Any, Any]", (entry.name, entry.target, entry.summary))
    if not isinstance(name, str) or not name or name != name.strip():
        return "returned an entry without a proper name", "a non-empty name without blanks around it"
    if not isinstance(target, str) or not _TARGET.fullmatch(target):
        return f"returned the entry {name!r} with a malformed target", 'target="module:attribute"'
    if not isinstance(summary, str):
        return f"returned the entry {name!r} without a summary", "one line of text"
    if not is_family(origin) and "." not in name and not isinstance(entry, CommandEntry):
        return f"returned the entry {name!r} under a name that is reserved for fx", f"a name like 'vendor.{name}'"
    if isinstance(entry, LayerEntry) and entry.face not in ("linen", "nnx", "both"):
        return f"returned the layer {name!r} for an unknown face", "face='linen', face='nnx' or face='both'"
    if isinstance(entry, CollectionEntry):
        return _slot_fault(entry)
    return None


def _slot_fault(entry: CollectionEntry) -> tuple[str, str] | None:
    for field, words in (("vmap_slot", ("broadcast",)), ("scan_slot", ("broadcast", "carry"))):
        slot = getattr(entry, field)
        if slot not in words and (isinstance(slot, bool) or not isinstance(slot, int)):
            wanted = " or ".join(["an axis", *map(repr, words)])
            return f"returned the collection {entry.name!r} with an impossible {field}", wanted
    return None


def _short(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 120 else text[:117] + "..."


def _plugin_version(plugin: str, distribution: str | None, declared: object, ours: str) -> PluginError:
    return PluginError(
        f"Plugin {plugin!r} {of_distribution(distribution)} was refused: it declares plugin API {declared!r}, "
        f"this fx-core has {ours!r}.",
        plugin=plugin,
        distribution=distribution,
        expected=f"fx_api_version = {ours!r} or an earlier {ours.split('.')[0]}.x, as text",
        got=declared,
        fix=f"Install a {distribution or plugin} that fits this fx-core, or an fx-core that fits it",
    )
