"""Where plugins are found: the entry points of installed distributions."""

import dataclasses
import importlib.machinery
import importlib.metadata
import importlib.util
import re
import sys
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from fx_core.plugins.entries import Origin
from fx_core.plugins.hooks import PROJECT
from fx_core.plugins.known import FAMILY
from fx_core.plugins.switches import Switches, normalize

_GROUP = re.compile(rf"^\s*\[{PROJECT}\]\s*$", re.MULTILINE)
_FIELD = re.compile(r"^(Name|Version):[ \t]*(.*?)[ \t\r]*$", re.MULTILINE)


@dataclasses.dataclass(frozen=True)
class PluginSource:
    """A plugin that is not imported yet.

    Attributes:
      origin: what is known about it without importing it.
      load: imports it and returns the module or object with the hooks.
    """

    origin: Origin
    load: Callable[[], object]

    @property
    def of_fx(self) -> bool:
        """Whether one of fx's own packages brings it."""
        return is_family(self.origin)

    def matches(self, names: Iterable[str]) -> bool:
        """Returns whether it is meant by one of ``names``, which are those of distributions or plugins."""
        return is_named(self.origin, names)


def is_family(origin: Origin) -> bool:
    """Returns whether one of fx's own distributions brings the plugin."""
    return origin.distribution is not None and normalize(origin.distribution) in FAMILY


def is_named(origin: Origin, names: Iterable[str]) -> bool:
    """Returns whether a plugin is meant by one of the normalized ``names``."""
    own = {normalize(origin.plugin), normalize(origin.owner)}
    return not own.isdisjoint(names)


def speaks_for(origin: Origin, name: str) -> bool:
    """Returns whether a plugin is called after the prefix of an entry's name.

    That is its entry point, its distribution or its package: ``acme``, ``acme-layers`` and ``acme_layers`` are all
    called after the prefix of ``"acme.GatedMLP"``.

    >>> speaks_for(Origin("acme", "acme_layers.plugin"), "acme.GatedMLP")
    True
    >>> speaks_for(Origin("acme", "acme_layers.plugin"), "acm.GatedMLP")
    False
    """
    prefix = normalize(prefix_of(name))
    names = map(normalize, (origin.plugin, origin.owner, re.split("[.:]", origin.module)[0]))
    return any(name == prefix or name.startswith(f"{prefix}-") for name in names)


def prefix_of(name: str) -> str:
    """Returns what stands before the first dot of an entry's name; nothing for a name of fx's own.

    >>> prefix_of("acme.GatedMLP"), prefix_of("Dense")
    ('acme', '')
    """
    prefix, dot, _ = name.partition(".")
    return prefix if dot else ""


def installed_sources() -> list[PluginSource]:
    """Finds the plugins of all installed distributions, those of fx first, then by name."""
    sources: list[PluginSource] = []
    for name, version, points in _plugins():
        for point in points:
            origin = Origin(point.name, point.value, name, version)
            sources.append(PluginSource(origin, lambda point=point: load(point)))
    return sorted(sources, key=lambda s: (not s.of_fx, s.origin.owner, s.origin.plugin))


def _plugins() -> Iterator[tuple[str | None, str | None, list[importlib.metadata.EntryPoint]]]:
    """Yields name, version and entry points of each distribution that has some of fx.

    `importlib.metadata.entry_points` reads the whole metadata of each distribution, which takes longer than all else.
    """
    seen: set[str] = set()
    for found in importlib.metadata.distributions():
        if not _GROUP.search(found.read_text("entry_points.txt") or ""):
            continue
        name, _ = _name_and_version(found)
        if normalize(name or "") in seen:
            continue
        # The first of this name on the path counts, which may have no plugin.
        first = importlib.metadata.distribution(name) if name else found
        name, version = _name_and_version(first)
        seen.add(normalize(name or ""))
        yield name, version, [point for point in first.entry_points if point.group == PROJECT]


def _name_and_version(dist: importlib.metadata.Distribution) -> tuple[str | None, str | None]:
    text = dist.read_text("METADATA") or dist.read_text("PKG-INFO") or ""
    header = dict(_FIELD.findall(text.partition("\n\n")[0]))
    return header.get("Name"), header.get("Version")


def load(point: importlib.metadata.EntryPoint) -> object:
    """Loads what an entry point names; a module without the ``__init__`` of the packages around it, where that works.

    A plugin module imports next to nothing, but the package that it is in may bring all its layers, and JAX. The
    module is not kept in `sys.modules`: who imports it later gets it with its package.
    """
    spec = None if point.attr or point.module in sys.modules else _spec_alone(point.module)
    if spec is None or spec.loader is None:
        return point.load()
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # while it runs: dataclasses and the like look there
    try:
        spec.loader.exec_module(module)
        return module
    except Exception:
        pass  # It needs its package after all, or it is broken: the usual import tells.
    finally:
        sys.modules.pop(spec.name, None)
    return point.load()


def _spec_alone(name: str) -> importlib.machinery.ModuleSpec | None:
    """Find a source file inside of packages without importing these; None where there is no such file."""
    top, *inner = name.split(".")
    if not inner or top in sys.modules:
        return None
    try:
        spec = importlib.util.find_spec(top)
    except (ImportError, ValueError):
        return None
    for folder in (spec and spec.submodule_search_locations) or ():
        file = Path(folder, *inner).with_suffix(".py")
        if file.is_file():
            return importlib.util.spec_from_file_location(name, file)
    return None


def why_left_out(source: PluginSource, switches: Switches) -> str | None:
    """Returns why the switches keep a plugin out; None if they let it in."""
    if source.matches(switches.disabled):
        return "disabled by FX_DISABLE_PLUGINS"
    if not switches.autoload and not source.of_fx:
        return "left out by FX_PLUGIN_AUTOLOAD=0"
    return None
