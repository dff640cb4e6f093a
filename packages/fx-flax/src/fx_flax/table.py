"""The table of Flax's names: which modules Flax has, what is in them, and where fx has the same.

The data are the files in ``tables/``. A section of them is a module of Flax::

    ["flax.core.lift"]
    "fx_transforms.lift" = "In Out scan vmap"     # these names are the same names there
    "fx_core.errors:FxError" = "FlaxError"        # one name, which is called otherwise
    modules = "flax.core.meta nn=flax.linen"      # other modules of Flax that are attributes of this one
    newer = "scan"                                # only in the newest version that the table knows
    older = "vmap"                                # no longer there

    ["flax.core.lift".absent]
    "why fx does not have them" = "TransformContext"

``like = "flax.nnx"`` makes a module another name of one.
"""

import dataclasses
import functools
import importlib.resources
import tomllib
from collections.abc import Iterator, Mapping
from typing import Any, Final

__all__ = ["API_VERSION", "FlaxModuleNames", "flax_modules", "module_names", "submodules"]

API_VERSION: Final = "0.12.12"
"""The version of Flax whose names the table has."""

_KEYS = ("modules", "newer", "older", "absent", "like", "private")


@dataclasses.dataclass(frozen=True)
class FlaxModuleNames:
    """A module of Flax.

    Attributes:
      module: its name in Flax.
      places: for each name the place in fx, ``"module:attribute"``.
      modules: attributes that are other modules of Flax.
      absent: names that fx lacks, with the reason.
      private: names that are private in Flax but used by libraries, with their places.
      newer: names that only the newest version has.
      older: names that the newest version no longer has.
      like: the module that this one is another name of.
    """

    module: str
    places: Mapping[str, str]
    modules: Mapping[str, str]
    absent: Mapping[str, str]
    private: Mapping[str, str]
    newer: frozenset[str]
    older: frozenset[str]
    like: str | None = None

    @functools.cached_property
    def home(self) -> str | None:
        """The package beside fx_flax that has most of the names, fx_core among equals; None if there is none."""
        all_packages = [place.partition(".")[0].partition(":")[0] for place in self.places.values()]
        packages = [name for name in all_packages if name != "fx_flax"]
        return max(dict.fromkeys(packages), key=lambda name: (packages.count(name), name == "fx_core"), default=None)


@functools.cache
def _sections() -> dict[str, dict[str, Any]]:
    found: dict[str, dict[str, Any]] = {}
    for file in sorted((importlib.resources.files("fx_flax") / "tables").iterdir(), key=lambda file: file.name):
        if file.name.endswith(".toml"):
            found |= tomllib.loads(file.read_text())
    return found


def flax_modules() -> list[str]:
    """Returns the names of all modules of Flax.

    >>> "flax.linen" in flax_modules()
    True
    """
    return sorted(_sections())


def submodules(module: str) -> Iterator[str]:
    """Yields the last parts of the names of the modules right below one.

    >>> sorted(submodules("flax.nnx.training"))
    ['ema', 'metrics', 'optimizer']
    """
    for name in _sections():
        parent, _, last = name.rpartition(".")
        if parent == module:
            yield last


@functools.cache
def module_names(module: str) -> FlaxModuleNames | None:
    """Returns what Flax has in a module; None if it has no such module.

    >>> module_names("flax.errors").places["FlaxError"]
    'fx_core.errors:FxError'
    >>> module_names("flax.core.lift").places["vmap"]
    'fx_transforms.lift:vmap'
    """
    section = _sections().get(module)
    if section is None:
        return None
    if "like" in section:
        same = module_names(section["like"])
        assert same is not None, f"{module} is to be like {section['like']}, which the table lacks"
        below = {name: f"{same.module}.{name}" for name in submodules(same.module)}
        return dataclasses.replace(same, module=module, modules={**same.modules, **below}, like=same.module)
    return FlaxModuleNames(
        module=module,
        places=_places({key: value for key, value in section.items() if key not in _KEYS}),
        modules=dict(map(_alias, section.get("modules", "").split())),
        absent={name: why for why, names in section.get("absent", {}).items() for name in names.split()},
        private=_places(section.get("private", {})),
        newer=frozenset(section.get("newer", "").split()),
        older=frozenset(section.get("older", "").split()),
    )


def _places(named: Mapping[str, str]) -> dict[str, str]:
    places: dict[str, str] = {}
    for place, names in named.items():
        for name in names.split():
            places[name] = place if ":" in place else f"{place}:{name}"
    return places


def _alias(text: str) -> tuple[str, str]:
    name, _, module = text.rpartition("=")
    return name or module.rpartition(".")[2], module
