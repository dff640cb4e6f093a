"""Which packages of fx are installed."""

import importlib.metadata
from collections.abc import Iterable

from fx_core.plugins.known import FAMILY

__all__ = ["versions_of", "versions_of_fx"]


def versions_of_fx() -> dict[str, str]:
    """Returns the installed packages of fx and their versions.

    >>> "fx-core" in versions_of_fx()
    True
    """
    return versions_of(sorted(FAMILY))


def versions_of(distributions: Iterable[str]) -> dict[str, str]:
    """Returns the versions of those distributions that are installed.

    >>> versions_of(["no-such-distribution"])
    {}
    """
    found: dict[str, str] = {}
    for name in distributions:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found
