"""Putting fx where programs look for Flax, and taking it away again."""

import sys

from fx_flax.errors import FlaxImportedError
from fx_flax.finder import FlaxDistributionFinder, FlaxFinder, FlaxPath
from fx_flax.flags import read_environment
from fx_flax.modules import FlaxModule
from fx_flax.processes import leave_to_children, tell_children

__all__ = ["install", "installed", "uninstall"]


def installed() -> bool:
    """Returns whether ``import flax`` gives fx in this process.

    >>> import fx_flax
    >>> fx_flax.installed()
    False
    """
    return any(isinstance(finder, FlaxFinder) for finder in sys.meta_path)


def install() -> None:
    """Creates ``import flax``, and all below it, give fx in this process.

    Call it before anything imports Flax. A second call does nothing. The environment variables of Flax's flags, such as
    ``FLAX_PROFILE``, are read. Processes that `multiprocessing` spawns have fx in the place of Flax, too.

    >>> import fx_flax
    >>> fx_flax.install()
    >>> from flax.core import FrozenDict
    >>> FrozenDict.__module__
    'fx_core.frozen_dict'
    >>> fx_flax.uninstall()

    Raises:
      FlaxImportedError: Flax itself is imported already.
      ValueError: an environment variable of a flag has no value that the flag takes.
    """
    if installed():
        return
    real = sys.modules.get("flax")
    if real is not None and not isinstance(real, FlaxModule):
        raise FlaxImportedError(
            "Flax itself is imported already, so programs would mix its types with those of fx.",
            expected="install() before the first import of flax, or of a library that imports it",
            got=f"flax from {getattr(real, '__file__', None)}",
            fix="call fx_flax.install() first, or run the program by `python -m fx_flax program.py`",
        )
    read_environment()
    sys.meta_path.insert(0, FlaxFinder())
    sys.meta_path.append(FlaxDistributionFinder())
    sys.path_hooks.insert(0, FlaxPath)
    tell_children(install)


def uninstall() -> None:
    """Undoes `install`, for tests: later imports of ``flax`` find Flax itself, or nothing.

    What was imported before keeps what it holds.

    >>> import fx_flax
    >>> fx_flax.install()
    >>> fx_flax.uninstall()
    >>> fx_flax.installed()
    False
    """
    sys.meta_path[:] = [f for f in sys.meta_path if not isinstance(f, FlaxFinder | FlaxDistributionFinder)]
    sys.path_hooks[:] = [hook for hook in sys.path_hooks if hook is not FlaxPath]
    leave_to_children()
    for name in [name for name, module in sys.modules.items() if isinstance(module, FlaxModule)]:
        del sys.modules[name]
