"""Programs and libraries written for Flax, run on fx without editing them.

>>> import fx_flax
>>> fx_flax.install()
>>> import flax
>>> flax.core.FrozenDict.__module__
'fx_core.frozen_dict'
>>> fx_flax.uninstall()
"""

from fx_flax._version import __version__
from fx_flax.beside import from_flax, interop
from fx_flax.errors import FlaxImportedError, FlaxNameError, FlaxVersionWarning, MissingPackageError
from fx_flax.installing import install, installed, uninstall
from fx_flax.table import API_VERSION

__all__ = [
    "API_VERSION",
    "FlaxImportedError",
    "FlaxNameError",
    "FlaxVersionWarning",
    "MissingPackageError",
    "__version__",
    "from_flax",
    "install",
    "installed",
    "interop",
    "uninstall",
]
