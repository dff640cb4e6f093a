"""Where plugins are found: the entry points of installed distributions."""

import dataclasses
import importlib.metadata
from collections.abc import Callable, Iterable

from fx_core.plugins.entries import Origin
from fx_core.plugins.hooks import PROJECT
from fx_core.plugins.known import FAMILY
from fx_core.plugins.switches import Switches, normalize


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
        """Whether it is meant by one of ``names``, which are those of distributions or plugins."""
        return is_named(self.origin, names)


def is_family(origin: Origin) -> bool:
    """Whether one of fx's own distributions brings the plugin."""
    return origin.distribution is not None and normalize(origin.distribution) in FAMILY


def is_named(origin: Origin, names: Iterable[str]) -> bool:
    """Whether a plugin is meant by one of the normalised ``names``."""
    own = {normalize(origin.plugin), normalize(origin.owner)}
    return not own.isdisjoint(names)


def installed_sources() -> list[PluginSource]:
    """Find the plugins of all installed distributions, those of fx first, then by name."""
    sources: list[PluginSource] = []
    for point in importlib.metadata.entry_points(group=PROJECT):
        dist = point.dist
        origin = Origin(point.name, point.value, dist and dist.name, dist and dist.version)
        sources.append(PluginSource(origin, point.load))
    return sorted(sources, key=lambda s: (not s.of_fx, s.origin.owner, s.origin.plugin))


def why_left_out(source: PluginSource, switches: Switches) -> str | None:
    """Tell why the switches keep a plugin out; None if they let it in."""
    if source.matches(switches.disabled):
        return "disabled by FX_DISABLE_PLUGINS"
    if not switches.autoload and not source.of_fx:
        return "left out by FX_PLUGIN_AUTOLOAD=0"
    return None
