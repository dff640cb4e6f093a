"""Names of Python, NumPy and JAX that Flax's modules import for themselves, and that programs take from there."""

import importlib
from typing import Any, Final

__all__ = ["imported"]

_PLACES: Final = {
    "typing": "Any ClassVar Generic Literal NamedTuple Optional Tuple TYPE_CHECKING TypeVar Union cast",
    "collections.abc": "Callable Hashable Iterable Iterator Mapping MutableMapping Sequence",
    "functools": "partial",
    "jax": "lax random",
}
"""By module, names that mean the same in every module of Flax that has them."""

_MODULES: Final = {
    "jnp": "jax.numpy",
    "np": "numpy",
    "tp": "typing",
    **{name: name for name in ("collections", "contextlib", "dataclasses", "enum", "functools", "inspect", "jax")},
    **{name: name for name in ("math", "optax", "os", "threading", "typing", "warnings")},
}

_HOMES: Final = {name: module for module, names in _PLACES.items() for name in names.split()}


def imported(name: str) -> tuple[Any] | None:
    """Returns what a name means that modules of Flax import from elsewhere, as a tuple of one; None for other names.

    Which of them a module imports differs from version to version of Flax: here every module has them all.

    >>> imported("jnp")[0].__name__, imported("Callable")[0].__module__, imported("Dense")
    ('jax.numpy', 'collections.abc', None)
    """
    if name in _MODULES:
        return (importlib.import_module(_MODULES[name]),)
    if name in _HOMES:
        return (getattr(importlib.import_module(_HOMES[name]), name),)
    return None
