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
      hook: name of the hook that it is about, if it is about one.
    """

    def __init__(
        self,
        what: str,
        *,
        plugin: str,
        distribution: str | None,
        hook: str | None = None,
        expected: object = None,
        got: object = None,
        fix: str | None = None,
    ):
        self.plugin, self.distribution, self.hook = plugin, distribution, hook
        switch = f"turn the plugin off with FX_DISABLE_PLUGINS={plugin}"
        super().__init__(
            what, expected=expected, got=got, fix=f"{fix}, or {switch}." if fix else f"{switch[0].upper()}{switch[1:]}."
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
            f"The {kind} {name!r} {of_distribution(distribution)} cannot be loaded: {cause}.",
            expected=f"{target!r} to import",
            got=cause,
            fix=fix,
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


def of_distribution(distribution: str | None) -> str:
    """Returns where a plugin comes from, in words."""
    return f"of distribution {distribution!r}" if distribution else "(registered by hand)"


def plugin_hook(
    plugin: str,
    distribution: str | None,
    hook: str,
    problem: str,
    expected: object = None,
    got: object = None,
) -> PluginError:
    """A hook of a plugin raised, has a wrong name or signature, or returned something that is no entry."""
    return PluginError(
        f"Hook {hook!r} of plugin {plugin!r} {of_distribution(distribution)} {problem}.",
        plugin=plugin,
        distribution=distribution,
        hook=hook,
        expected=expected,
        got=got,
        fix="Correct the hook",
    )
