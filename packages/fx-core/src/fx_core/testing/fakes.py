"""Plugins that are not installed, for tests of what the registry makes of them."""

import types
from collections.abc import Callable
from typing import Any

from fx_core.plugins.entries import Origin
from fx_core.plugins.hooks import hookimpl
from fx_core.plugins.sources import PluginSource


def fake_plugin(version: object = "1.0", **hooks: Any) -> types.ModuleType:
    """Creates a plugin module.

    Args:
      version: what it declares as ``fx_api_version``; None declares nothing.
      **hooks: what each hook returns, or a function without arguments that is called for it.

    Example:
      >>> module = fake_plugin(fx_layers=[])
      >>> module.fx_layers()
      []
    """
    module = types.ModuleType("fake_plugin")
    if version is not None:
        module.fx_api_version = version  # type: ignore[attr-defined]
    for name, result in hooks.items():
        setattr(module, name, hookimpl(_hook(result)))
    return module


def fake_source(
    plugin: object, distribution: str = "acme", name: str | None = None, version: str = "1.2"
) -> PluginSource:
    """Creates the source of a plugin, as if a distribution with an entry point of that name were installed.

    Args:
      plugin: what importing it gives; an exception is raised instead.
      distribution: name of the distribution.
      name: name of the entry point, by default that of the distribution.
      version: version of the distribution.
    """

    def load() -> object:
        if isinstance(plugin, BaseException):
            raise plugin
        return plugin

    return PluginSource(Origin(name or distribution, "acme.plugin", distribution, version), load)


def _hook(result: Any) -> Callable[[], Any]:
    # A closure: pluggy would take a default argument for one of the hook.
    return lambda: result() if callable(result) else result
