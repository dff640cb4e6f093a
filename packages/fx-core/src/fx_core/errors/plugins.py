"""What can go wrong with plugins and their entries.

Everything that is wrong with one plugin is a `PluginError`. While plugins are discovered such an error becomes an
`FxPluginWarning` and the others go on, unless ``FX_STRICT_PLUGINS=1``.
"""

from collections.abc import Sequence

from fx_core.errors._base import FxError


class FxPluginWarning(UserWarning):
    """A plugin was left out, wholly or in part; the text is that of the `PluginError` behind it."""


class PluginError(FxError):
    """Something is wrong with one plugin.

    Attributes:
      plugin: name of its entry point, or of what was registered by hand.
      distribution: installed distribution that it belongs to, if any.
    """

    def __init__(
        self,
        what: str,
        *,
        plugin: str,
        distribution: str | None,
        expected: object = None,
        got: object = None,
        fix: str | None = None,
    ):
        self.plugin, self.distribution = plugin, distribution
        switch = f"turn the plugin off with FX_DISABLE_PLUGINS={plugin}"
        super().__init__(
            what, expected=expected, got=got, fix=f"{fix}, or {switch}." if fix else f"{switch[0].upper()}{switch[1:]}."
        )


class PluginImportError(PluginError):
    """The module that an entry point names cannot be imported.

    A plugin module should import nothing but `fx_core.plugins`, since it is loaded with every program. Wrong::

        import torch  # needed by one of the entries only

    Right: let the entry name it, so that only who asks for the entry imports it::

        ExporterEntry(name="acme.torch", target="acme.torch_export:TorchExporter", summary="To PyTorch")
    """

    def __init__(self, plugin: str, distribution: str | None, module: str, cause: str):
        super().__init__(
            f"Plugin {plugin!r} {_of(distribution)} failed to import: {cause}.",
            plugin=plugin,
            distribution=distribution,
            expected=f"module {module!r} to import",
            got=cause,
            fix=f"Repair or upgrade {distribution}" if distribution else None,
        )


class PluginVersionError(PluginError):
    """A plugin was written for another version of the plugin interface.

    A plugin says which one it uses by ``fx_api_version = "1.0"`` in its module. The first number has to be that of
    fx, the second at most that of fx.
    """

    def __init__(self, plugin: str, distribution: str | None, declared: object, ours: str):
        super().__init__(
            f"Plugin {plugin!r} {_of(distribution)} was refused: it declares plugin API {declared!r}, "
            f"this fx-core has {ours!r}.",
            plugin=plugin,
            distribution=distribution,
            expected=f"fx_api_version = {ours!r} or an earlier {ours.split('.')[0]}.x, as text",
            got=declared,
            fix=f"Install a {distribution or plugin} that fits this fx-core, or an fx-core that fits it",
        )


class PluginHookError(PluginError):
    """A hook of a plugin raised, has a wrong name or signature, or returned something that is no entry.

    Wrong::

        @hookimpl
        def fx_layers():
            return {"acme.Maxout": Maxout}  # imports the layer, and is no entry

    Right::

        @hookimpl
        def fx_layers():
            return [LayerEntry(name="acme.Maxout", target="acme.linen:Maxout", face="linen", summary="Maxout units")]
    """

    def __init__(
        self,
        plugin: str,
        distribution: str | None,
        hook: str,
        problem: str,
        expected: object = None,
        got: object = None,
    ):
        self.hook = hook
        super().__init__(
            f"Hook {hook!r} of plugin {plugin!r} {_of(distribution)} {problem}.",
            plugin=plugin,
            distribution=distribution,
            expected=expected,
            got=got,
            fix="Correct the hook",
        )


class EntryNameClashError(FxError):
    """Two plugins registered one name.

    Neither silently wins. The error comes when the name is asked for; other names are not concerned.

    Args:
      kind: kind of the entries, in words.
      name: the name they share.
      owners: for each entry the distribution (or plugin, where there is none) and its target.
    """

    def __init__(self, kind: str, name: str, owners: Sequence[tuple[str, str]]):
        self.kind, self.name, self.owners = kind, name, tuple(owners)
        claims = " and ".join(f"{owner} ({target})" for owner, target in owners)
        super().__init__(
            f"The {kind} name {name!r} is registered {len(owners)} times: by {claims}.",
            expected="one plugin per name",
            got=", ".join(owner for owner, _ in owners),
            fix=f"Choose one with FX_PREFER_PLUGINS={owners[0][0]}, or turn one off with "
            f"FX_DISABLE_PLUGINS={owners[-1][0]}.",
        )


class UnknownEntryError(FxError, LookupError):
    """Nothing of that kind is registered under the name.

    Args:
      kind: kind of entry, in words.
      name: what was asked for.
      known: the names there are.
      fix: what would bring it.
    """

    def __init__(self, kind: str, name: str, known: Sequence[str], fix: str):
        self.kind, self.name = kind, name
        super().__init__(
            f"There is no {kind} {name!r}.",
            expected="one of " + ", ".join(map(repr, known)) if known else f"a registered {kind}; there are none",
            got=repr(name),
            fix=fix,
        )


class EntryLoadError(FxError, ImportError):
    """The target of an entry cannot be imported.

    Args:
      kind: kind of entry, in words.
      name: its name.
      target: ``"module:attribute"``.
      cause: what went wrong.
      distribution: installed distribution that registered it, if any.
      extra: the extra of that distribution that brings what the target needs.
      absent: a distribution of fx that the target needs and that is not installed.
    """

    def __init__(
        self,
        kind: str,
        name: str,
        target: str,
        cause: str,
        distribution: str | None = None,
        extra: str | None = None,
        absent: str | None = None,
    ):
        self.kind, self.name, self.target = kind, name, target
        self.distribution, self.extra, self.absent = distribution, extra, absent
        if absent:
            fix = f"pip install {absent}"
        elif distribution and extra:
            fix = f"pip install '{distribution}[{extra}]'"
        elif distribution:
            fix = f"Repair it (pip install --force-reinstall {distribution}), or ask its authors."
        else:
            fix = "Correct the target of the entry."
        super().__init__(
            f"The {kind} {name!r} {_of(distribution)} cannot be loaded: {cause}.",
            expected=f"{target!r} to import",
            got=cause,
            fix=fix,
        )


class PluginSwitchError(FxError):
    """An environment variable that steers plugins has a value that means nothing."""

    def __init__(self, variable: str, value: str):
        super().__init__(
            f"{variable}={value!r} is neither on nor off.", expected="1 or 0", got=value, fix="Set 1 or 0."
        )


class RegistryBusyError(FxError):
    """A plugin asked for the registry while it was being imported.

    The registry is not there yet at that moment. Ask for it where the entry is used, not at the top of a module.
    """

    def __init__(self):
        super().__init__(
            "The plugin registry was asked for while plugins are being loaded.",
            fix="Call fx_core.plugins.registry() inside the function that needs it, not while a module is imported.",
        )


class PluginNameError(FxError):
    """A new plugin cannot have that name."""

    def __init__(self, name: str):
        super().__init__(
            f"A plugin cannot be called {name!r}.",
            expected="letters, digits and dashes, beginning with a letter, no Python keyword and no package of fx",
            got=name,
            fix="Choose a name like 'acme-layers'.",
        )


class PluginDirectoryError(FxError):
    """The directory for a new plugin exists and is not empty; nothing is overwritten."""

    def __init__(self, directory: str):
        super().__init__(
            "The new plugin would overwrite files.",
            expected="a directory that is empty or does not exist",
            got=directory,
            fix="Choose another name, or another place with --directory.",
        )


def _of(distribution: str | None) -> str:
    return f"of distribution {distribution!r}" if distribution else "(registered by hand)"
