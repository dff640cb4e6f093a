"""How a plugin fared, and what is said about one that is broken."""

import dataclasses
import inspect
import warnings
from collections.abc import Iterable
from typing import Literal

from fx_core.errors.plugins import FxPluginWarning, PluginError, of_distribution
from fx_core.plugins.entries import Entry, Origin
from fx_core.plugins.known import FAMILY


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


def warn_of(problems: Iterable[PluginError]) -> None:
    """Warns about each problem, at the innermost line that is not in a package of fx."""
    level, frame = 1, inspect.currentframe()
    while frame and _is_inside(frame.f_globals.get("__name__", "")):
        level, frame = level + 1, frame.f_back
    for problem in problems:
        warnings.warn(str(problem), FxPluginWarning, stacklevel=level)


def _is_inside(module: str) -> bool:
    return module.partition(".")[0].replace("_", "-") in FAMILY or module in ("collections.abc", "_collections_abc")


def failed(origin: Origin, error: PluginError) -> tuple[PluginStatus, list[PluginError]]:
    """Returns what a plugin that is left out leaves behind."""
    reason = str(error).partition("\n")[0]
    return PluginStatus(origin, "failed", reason), [error]


def import_failure(plugin: str, distribution: str | None, module: str, cause: str) -> PluginError:
    """Returns the error for a plugin that cannot be imported."""
    return PluginError(
        f"Plugin {plugin!r} {of_distribution(distribution)} failed to import: {cause}.",
        plugin=plugin,
        distribution=distribution,
        expected=f"module {module!r} to import",
        got=cause,
        fix=f"Repair or upgrade {distribution}" if distribution else None,
    )
