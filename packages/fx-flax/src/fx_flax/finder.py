"""Where Python's import system asks for Flax, and for its version."""

import importlib.abc
import importlib.machinery
import importlib.metadata
import importlib.util
import sys
import types
from collections.abc import Iterable, Iterator, Sequence

from fx_flax.errors import package_missing
from fx_flax.modules import FlaxModule
from fx_flax.requirements import warn_if_newer
from fx_flax.table import API_VERSION, module_names, submodules

__all__ = ["FlaxDistribution", "FlaxDistributionFinder", "FlaxFinder", "FlaxPath"]

_MARK = "fx_flax:"
"""What the entries of ``__path__`` begin with, so that nothing is looked for on disks."""


class FlaxFinder(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Finds ``flax`` and all below it in fx; everything else is left to others."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: types.ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        """Notes that a module of Flax is to be made here."""
        if fullname.partition(".")[0] != "flax":
            if path is None:
                warn_if_newer(fullname)
            return None
        known = module_names(fullname)
        if known is None:
            return None
        package = next(submodules(fullname), None) is not None
        spec = importlib.machinery.ModuleSpec(fullname, self, is_package=package)
        if package:
            spec.submodule_search_locations = [_MARK + fullname]
        return spec

    def create_module(self, spec: importlib.machinery.ModuleSpec) -> FlaxModule:
        """Creates the module."""
        names = module_names(spec.name)
        assert names is not None
        return FlaxModule(names)

    def exec_module(self, module: types.ModuleType) -> None:
        """Fills the module: with nothing but the version, since names are looked up when they are used.

        Raises:
          MissingPackageError: the package of fx with the names of this module is not installed.
        """
        names = module_names(module.__name__)
        assert names is not None
        if names.home is not None and importlib.util.find_spec(names.home) is None:
            raise package_missing(module.__name__, names.home)
        if module.__name__ in ("flax", "flax.version"):
            module.__version__ = API_VERSION  # pyright: ignore[reportAttributeAccessIssue]


class FlaxPath(importlib.abc.PathEntryFinder):
    """What `pkgutil` asks which modules are below a module of Flax."""

    def __init__(self, path: str):
        if not path.startswith(_MARK):
            raise ImportError(f"{path} is not a place of fx_flax")
        self.module = path.removeprefix(_MARK)

    def find_spec(self, fullname: str, target: types.ModuleType | None = None) -> None:
        """Finds nothing: `FlaxFinder` has been asked before."""

    def iter_modules(self, prefix: str = "") -> Iterator[tuple[str, bool]]:
        """Yields the names below, and whether they are packages."""
        for name in submodules(self.module):
            yield prefix + name, next(submodules(f"{self.module}.{name}"), None) is not None


class FlaxDistribution(importlib.metadata.Distribution):
    """What `importlib.metadata` says of Flax where Flax is not installed."""

    def read_text(self, filename: str) -> str | None:
        """Returns the few files that are asked for by name."""
        return {
            "METADATA": f"Metadata-Version: 2.1\nName: flax\nVersion: {API_VERSION}\n",
            "top_level.txt": "flax\n",
        }.get(filename)

    def locate_file(self, path: object) -> object:  # pyright: ignore[reportIncompatibleMethodOverride]
        """Returns the path of a file, of which there are none."""
        return path


class FlaxDistributionFinder(importlib.metadata.DistributionFinder):
    """Finds the distribution ``flax`` where no other finder does; it comes last in `sys.meta_path`."""

    def find_spec(self, fullname: str, path: object = None, target: object = None) -> None:
        """Finds no module."""

    def find_distributions(
        self, context: importlib.metadata.DistributionFinder.Context | None = None
    ) -> Iterable[importlib.metadata.Distribution]:
        """Returns the distribution, if it is asked for by name or all are."""
        name = context.name if context is not None else None
        if name in (None, "flax") and not _really_installed():
            yield FlaxDistribution()


def _really_installed() -> bool:
    others = [finder for finder in sys.meta_path if not isinstance(finder, FlaxDistributionFinder)]
    context = importlib.metadata.DistributionFinder.Context(name="flax")
    searches = [getattr(finder, "find_distributions", None) for finder in others]
    return any(next(iter(search(context)), None) is not None for search in searches if search is not None)
