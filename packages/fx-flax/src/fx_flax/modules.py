"""The modules that stand where Flax's would: each looks its names up in fx, and passes on what is assigned to it."""

import importlib
import importlib.util
import sys
import types
from typing import Any

from fx_flax.errors import FlaxNameError, package_missing
from fx_flax.imported import imported
from fx_flax.table import API_VERSION, FlaxModuleNames, module_names, submodules

__all__ = ["FlaxModule", "find_place"]


def find_place(wanted: str, place: str) -> tuple[types.ModuleType, str]:
    """Returns the module of fx and the name in it that a place of the table means.

    Args:
      wanted: what was asked for, for the error.
      place: ``"module:attribute"``.

    Raises:
      MissingPackageError: the package of fx is not installed.
    """
    module, _, attribute = place.partition(":")
    try:
        return importlib.import_module(module), attribute
    except ModuleNotFoundError as error:
        package = module.partition(".")[0]
        if error.name == package:
            raise package_missing(wanted, package) from error
        raise


class FlaxModule(types.ModuleType):
    """A module of Flax whose contents are those of fx.

    Nothing is kept here: a name is looked up at each use, so that what programs, tests and `unittest.mock` assign to it
    is assigned in fx, and the other way round.
    """

    __names__: FlaxModuleNames
    __replaced__: dict[str, Any]

    def __init__(self, names: FlaxModuleNames):
        super().__init__(names.module, f"{names.module} as fx has it; see `fx_flax`.")
        self.__names__, self.__replaced__ = names, {}

    def __getattr__(self, name: str) -> Any:
        if name == "__all__":
            return [name for name in dir(self) if not name.startswith("_")]
        if name.startswith("__"):
            raise AttributeError(f"module {self.__name__!r} has no attribute {name!r}", name=name, obj=self)
        known = self.__names__
        if name in known.places or name in known.private:
            place = known.places.get(name) or known.private[name]
            return getattr(*find_place(f"{self.__name__}.{name}", place))
        if name in known.modules:
            return importlib.import_module(known.modules[name])
        if name in submodules(self.__name__):
            return importlib.import_module(f"{self.__name__}.{name}")
        from_elsewhere = None if name in known.absent else imported(name)
        if from_elsewhere is not None:
            return from_elsewhere[0]
        raise self._unknown(name)

    def _unknown(self, name: str) -> FlaxNameError:
        why = self.__names__.absent.get(name)
        if why is None:
            what = f"Neither Flax {API_VERSION} nor fx has {self.__name__}.{name}."
            return FlaxNameError(self.__name__, name, what, "look for the name in the docs; it may have been renamed")
        return FlaxNameError(self.__name__, name, f"Flax has {self.__name__}.{name}, fx lacks it: {why}.")

    def __setattr__(self, name: str, value: Any) -> None:
        place = None if name.startswith("__") else self._place(name)
        if place is None or isinstance(value, FlaxModule):
            super().__setattr__(name, value)
        else:
            target, attribute = find_place(f"{self.__name__}.{name}", place)
            self.__replaced__.setdefault(name, getattr(target, attribute))
            setattr(target, attribute, value)

    def __delattr__(self, name: str) -> None:
        place = None if name in vars(self) else self._place(name)
        if place is None:
            super().__delattr__(name)
        elif name in self.__replaced__:
            # What was assigned goes, what was there before shows again: tools that patch undo their work in this way,
            # since they do not find the name in the dictionary of this module.
            setattr(*find_place(f"{self.__name__}.{name}", place), self.__replaced__.pop(name))
        else:
            delattr(*find_place(f"{self.__name__}.{name}", place))

    def _place(self, name: str) -> str | None:
        return self.__names__.places.get(name) or self.__names__.private.get(name)

    def __dir__(self) -> list[str]:
        known = self.__names__
        below = [name for name in submodules(self.__name__) if _installed(f"{self.__name__}.{name}")]
        places = [name for name, place in known.places.items() if _is_there(place)]
        return sorted({*vars(self), *places, *known.modules, *below} - {"__names__", "__replaced__"})


def _is_there(place: str) -> bool:
    """Whether the package of a place is installed."""
    package = place.partition(":")[0].partition(".")[0]
    return package in sys.modules or importlib.util.find_spec(package) is not None


def _installed(module: str) -> bool:
    known = module_names(module)
    return known is not None and (known.home is None or _is_there(known.home))
