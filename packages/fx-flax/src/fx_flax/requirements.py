"""Whether a library asks for a newer Flax than the one whose names are known here."""

import importlib.metadata
import re
import sys
import warnings

from fx_flax.errors import FlaxVersionWarning
from fx_flax.table import API_VERSION

__all__ = ["asked_version", "warn_if_newer"]

_REQUIREMENT = re.compile(
    r"flax(?![\w.-])\s*(?:\[[^\]]*\])?\s*\(?(?P<versions>[^;)]*)\)?\s*(?:;(?P<marker>.*))?", re.IGNORECASE
)
_LOWEST = re.compile(r"(?:>=|==|~=|>)\s*(?P<version>\d+(?:\.\d+)*)")
_checked: set[str] = set()


def warn_if_newer(module: str) -> None:
    """Warns, once, if the library of a top-level module asks for a newer Flax than the table covers.

    Args:
      module: what is imported, whose distribution has the same name or none at all.
    """
    if "." in module or module in _checked or module in sys.stdlib_module_names:
        return
    _checked.add(module)
    try:
        required = importlib.metadata.requires(module) or []
    except (importlib.metadata.PackageNotFoundError, ValueError):
        return
    for asked in filter(None, map(asked_version, required)):
        if _parts(asked) > _parts(API_VERSION):
            message = (
                f"{module} asks for Flax {asked}; fx-flax has the names of Flax {API_VERSION}. "
                "What is new since is missing: look for a newer fx-flax."
            )
            warnings.warn(message, FlaxVersionWarning, stacklevel=2)


def asked_version(requirement: str) -> str | None:
    """Returns the lowest version of Flax that a requirement allows; None if it says nothing of that kind.

    Requirements of extras do not count, since the extra may not be installed.

    >>> asked_version("flax>=0.10.4,<1"), asked_version("flax (>=0.11)"), asked_version("flaxformer>=3")
    ('0.10.4', '0.11', None)
    """
    found = _REQUIREMENT.fullmatch(requirement.strip())
    if found is None or "extra" in (found["marker"] or ""):
        return None
    lowest = [match["version"] for match in _LOWEST.finditer(found["versions"])]
    return max(lowest, key=_parts, default=None)


def _parts(version: str) -> tuple[int, ...]:
    return tuple(map(int, version.split(".")))
