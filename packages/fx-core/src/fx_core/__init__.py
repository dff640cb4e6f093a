"""Scopes, variable collections, RNG streams, metadata, shared layer mathematics and the plugin registry of fx."""

from typing import TYPE_CHECKING

from fx_core import traceback_util
from fx_core._version import __version__
from fx_core.lazy_imports import lazy_imports

if TYPE_CHECKING:
    from fx_core.frozen_dict import FrozenDict, copy, freeze, pop, pretty_repr, unfreeze
    from fx_core.meta import AxisMetadata, map_axis_meta, unbox
    from fx_core.scope import DenyList, Scope, apply, bind, init, lazy_init

__all__ = [
    "AxisMetadata",
    "DenyList",
    "FrozenDict",
    "Scope",
    "__version__",
    "apply",
    "bind",
    "copy",
    "freeze",
    "init",
    "lazy_init",
    "map_axis_meta",
    "pop",
    "pretty_repr",
    "traceback_util",
    "unbox",
    "unfreeze",
]

_LIFTED = (
    "broadcast", "custom_vjp", "jit", "jvp", "remat", "remat_scan", "scan", "vjp", "vmap", "while_loop",
)  # fmt: skip


_LATER = {
    "config": (),
    "errors": (),
    "frozen_dict": ("FrozenDict", "copy", "freeze", "pop", "pretty_repr", "unfreeze"),
    "layers": (),
    "meta": ("AxisMetadata", "map_axis_meta", "unbox"),
    "ops": (),
    "scope": ("DenyList", "Scope", "apply", "bind", "init", "lazy_init"),
    "serialization": (),
    "struct": (),
    "threefry": (),
}
"""The names of modules that are imported when one of them is first asked for: NNX needs no scopes, bundles no trees."""

_find_later, _names = lazy_imports(__name__, _LATER)


def _find(name: str) -> object:
    if name in _LIFTED:
        # Imports only go down, so the core cannot hand out what is built on it.
        raise AttributeError(
            f"fx_core has no {name!r}: the lifted transforms are in fx_transforms.lift. Install fx-transforms and "
            f"write `from fx_transforms.lift import {name}`."
        )
    return _find_later(name)


if not TYPE_CHECKING:  # which would then take every name for one of the package
    __getattr__, __dir__ = _find, _names
