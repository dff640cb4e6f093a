"""Names of packages that are imported when they are first asked for."""

import importlib
import sys
import threading
from collections.abc import Callable, Mapping, Sequence
from types import ModuleType
from typing import Any

__all__ = ["import_later", "lazy_imports"]

_one_at_a_time = threading.RLock()
"""Python takes two threads that import a package and a module of it, in the other order, for a deadlock, and raises."""


def import_later(module: str) -> ModuleType:
    """Returns a module by its whole name, imported now: for a function that most programs never call.

    Threads that call this, or ask for names of `lazy_imports`, wait for each other.

    Raises:
      ImportError: it cannot be imported.

    >>> import_later("fx_core.threefry").__name__
    'fx_core.threefry'
    """
    with _one_at_a_time:
        return importlib.import_module(module)


def lazy_imports(
    package: str, later: Mapping[str, Sequence[str]]
) -> tuple[Callable[[str], Any], Callable[[], list[str]]]:
    """Returns the ``__getattr__`` and ``__dir__`` of a package that imports some of its modules later.

    A name is kept in the package once it has been found, so that it is looked up once. The package imports the same
    names for type checkers, and hides these two functions from them, so that wrong names stay errors:

    .. code-block:: python

        if TYPE_CHECKING:
            from my_package.attention import MultiHeadAttention

        _LATER = {"attention": ("MultiHeadAttention",)}
        if not TYPE_CHECKING:
            __getattr__, __dir__ = lazy_imports(__name__, _LATER)

    A module that has the name of what it defines (``scan.scan``) cannot be imported later: importing it from anywhere
    would give its name to the module. `fx_core.testing.check_lazy_imports` checks this and the rest.

    Args:
      package: its ``__name__``.
      later: by module, relative to the package, the names that the package shows of it; the module itself is shown
        as well if it is right in the package.

    >>> find, names = lazy_imports("fx_core.ops", {"activations": ("relu", "gelu")})
    >>> find("gelu").__name__, find("activations").__name__
    ('gelu', 'fx_core.ops.activations')
    >>> "relu" in names()
    True
    >>> find("rely")
    Traceback (most recent call last):
    AttributeError: module 'fx_core.ops' has no attribute 'rely'
    """
    where = {name: module for module, names in later.items() for name in (*names, module) if "." not in name}

    def find(name: str) -> Any:
        module = where.get(name)
        if module is None:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        with _one_at_a_time:
            found = import_later(f"{package}.{module}")
            value = found if name == module else getattr(found, name)
            setattr(sys.modules[package], name, value)
            return value

    def names() -> list[str]:
        return sorted({*vars(sys.modules[package]), *where})

    return find, names
