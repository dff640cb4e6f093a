"""The environment variables that steer plugins."""

import dataclasses
import os
import re
from collections.abc import Mapping
from typing import Self

from fx_core.errors.kinds import ArgumentError

_ON = frozenset({"1", "true", "yes", "on"})
_OFF = frozenset({"", "0", "false", "no", "off"})


@dataclasses.dataclass(frozen=True, kw_only=True)
class Switches:
    """How plugins are to be loaded.

    Attributes:
      disabled: distributions or plugins that stay out (``FX_DISABLE_PLUGINS=a,b``).
      autoload: whether plugins of third parties are discovered (``FX_PLUGIN_AUTOLOAD``, on unless ``0``). The packages
        of fx itself are loaded either way.
      strict: whether a broken plugin raises instead of warning (``FX_STRICT_PLUGINS``).
      trace: whether every hook call is logged to ``fx.plugins`` (``FX_TRACE_PLUGINS``).
      preferred: distributions or plugins that win a name clash, best first (``FX_PREFER_PLUGINS=a,b``).

    Example:
      >>> Switches.from_environment({"FX_DISABLE_PLUGINS": "acme, Other_Thing"}).disabled == {"acme", "other-thing"}
      True
    """

    disabled: frozenset[str] = frozenset()
    autoload: bool = True
    strict: bool = False
    trace: bool = False
    preferred: tuple[str, ...] = ()

    @classmethod
    def from_environment(cls, environ: Mapping[str, str] | None = None) -> Self:
        """Reads the switches from ``environ``, by default that of the process.

        Raises:
          ArgumentError: a variable that should be 0 or 1 is neither.
        """
        environ = os.environ if environ is None else environ
        return cls(
            disabled=frozenset(_names(environ, "FX_DISABLE_PLUGINS")),
            autoload=_flag(environ, "FX_PLUGIN_AUTOLOAD", default=True),
            strict=_flag(environ, "FX_STRICT_PLUGINS"),
            trace=_flag(environ, "FX_TRACE_PLUGINS"),
            preferred=_names(environ, "FX_PREFER_PLUGINS"),
        )


def normalize(name: str) -> str:
    """Spell a distribution name in its canonical way, in which ``Fx_Demo`` and ``fx-demo`` are one."""
    return re.sub(r"[-_.]+", "-", name).lower()


def _names(environ: Mapping[str, str], variable: str) -> tuple[str, ...]:
    return tuple(normalize(name.strip()) for name in environ.get(variable, "").split(",") if name.strip())


def _flag(environ: Mapping[str, str], variable: str, default: bool = False) -> bool:
    value = environ.get(variable)
    if value is None:
        return default
    if value.strip().lower() in _ON:
        return True
    if value.strip().lower() in _OFF:
        return False
    raise ArgumentError(f"{variable}={value!r} is neither on nor off.", expected="1 or 0", got=value, fix="Set 1 or 0.")
