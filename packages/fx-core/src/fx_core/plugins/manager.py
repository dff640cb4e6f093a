"""The pluggy manager of fx, and its tracing."""

import logging
from collections.abc import Iterator
from typing import Any

import pluggy

from fx_core.errors.plugins import PluginError, plugin_hook
from fx_core.plugins import hooks
from fx_core.plugins.checks import ENTRY_HOOKS, check_entries, check_version, unknown_hook
from fx_core.plugins.entries import Entry, Origin, describe

logger = logging.getLogger("fx.plugins")


class _Manager(pluggy.PluginManager):
    """The manager of pluggy, which asks of each name of a plugin whether it is a hook."""

    def parse_hookimpl_opts(self, plugin: Any, name: str) -> Any:
        # Half of the names of a module are Python's own, and pluggy looks at each at length.
        return None if name.startswith("__") else super().parse_hookimpl_opts(plugin, name)


def make_manager(trace: bool = False) -> pluggy.PluginManager:
    """Creates a manager that knows the hooks of fx and has no plugins.

    Args:
      trace: log every hook call and its result to the logger ``fx.plugins``. If logging is not configured, the lines
        go to standard error: who sets the switch wants to see them.
    """
    manager = _Manager(hooks.PROJECT)
    manager.add_hookspecs(hooks)
    if trace:
        logger.setLevel(logging.DEBUG)
        if not logger.hasHandlers():
            logger.addHandler(logging.StreamHandler())
        manager.trace.root.setwriter(_log)
        manager.enable_tracing()
    return manager


def register(manager: pluggy.PluginManager, plugin: object, origin: Origin) -> list[PluginError]:
    """Returns a plugin to the manager.

    Returns:
      An error for each hook that does not exist; the others are in force.

    Raises:
      PluginError: the plugin was written for another API.
      PluginError: pluggy refuses the plugin, which is then out.
    """
    check_version(plugin, origin)
    name = f"{origin.owner}:{origin.plugin}"
    if manager.is_registered(plugin) or manager.has_plugin(name):
        raise plugin_hook(origin.plugin, origin.distribution, "register", "cannot be registered: it is already")
    try:
        manager.register(plugin, name)
    except Exception as error:
        # Older versions of pluggy leave a refused plugin half registered.
        if manager.get_plugin(name) is plugin:
            manager.unregister(plugin, name)
        problem = f"cannot be registered: {describe(error)}"
        raise plugin_hook(origin.plugin, origin.distribution, "register", problem) from error
    callers = manager.get_hookcallers(plugin) or []
    return [
        unknown_hook(caller.name, origin)
        for caller in callers
        if not caller.has_spec()
        if not all(impl.optionalhook for impl in caller.get_hookimpls() if impl.plugin is plugin)
    ]


def entries_of(manager: pluggy.PluginManager, plugin: object, origin: Origin) -> tuple[list[Entry], list[PluginError]]:
    """Calls the entry hooks of one plugin; whatever goes wrong is returned, not raised."""
    implemented = {caller.name for caller in manager.get_hookcallers(plugin) or []}
    good: list[Entry] = []
    errors: list[PluginError] = []
    for hook in ENTRY_HOOKS:
        if hook not in implemented:
            continue
        others = [impl.plugin for impl in getattr(manager.hook, hook).get_hookimpls() if impl.plugin is not plugin]
        call = manager.subset_hook_caller(hook, others)
        try:
            # Iterating may run the plugin's code as well: a hook can be a generator.
            results = [result if _is_scalar(result) else list(result) for result in call()]
        except (Exception, SystemExit) as error:
            problem = f"raised {describe(error)}"
            failure = plugin_hook(origin.plugin, origin.distribution, hook, problem)
            failure.__cause__ = error
            errors.append(failure)
            continue
        for result in results:
            entries, faults = check_entries(hook, result, origin)
            good += entries
            errors += faults
    return good, errors


def notify(manager: pluggy.PluginManager, hook: str, **arguments: Any) -> Iterator[tuple[str, Exception]]:
    """Calls a hook of each plugin, the newest first, and yields the name of each that raised, with what it raised."""
    plugins = [impl.plugin for impl in reversed(getattr(manager.hook, hook).get_hookimpls())]
    for plugin in plugins:
        call = manager.subset_hook_caller(hook, [other for other in plugins if other is not plugin])
        try:
            call(**arguments)
        except Exception as error:
            yield (manager.get_name(plugin) or "?").partition(":")[2], error


def _is_scalar(result: object) -> bool:
    """Whether a hook's result is no list of anything, and is left for `check_entries` to refuse."""
    return isinstance(result, (str, bytes, Entry)) or not hasattr(result, "__iter__")


def _log(line: str) -> None:
    logger.debug("%s", line.rstrip())
