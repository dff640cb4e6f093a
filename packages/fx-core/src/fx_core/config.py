"""The flags of fx: few, typed, set by environment, call or context manager.

    >>> from fx_core import config
    >>> config.fix_rng_separator
    False
    >>> with config.override(fix_rng_separator=True):
    ...     config.fix_rng_separator
    True
    >>> config.update("return_frozen_dict", True)
    >>> config.update("return_frozen_dict", False)

The environment variable of a flag is its name in capitals behind ``FX_``, read when this module is imported. A value
set by `update` holds for the whole process, one set by `override` for the ``with`` block in its own thread or task.

JAX does not know these flags: a function that was compiled under one value is not compiled again under another. Set
them before the first trace.
"""

import difflib
import os
import sys
import types
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

from fx_core.errors.kinds import ArgumentError, InvalidAttributeError

__all__ = [
    "fix_rng_separator",
    "flags",
    "max_repr_depth",
    "override",
    "preserve_adopted_names",
    "profile",
    "return_frozen_dict",
    "temp_flip_flag",
    "update",
    "use_orbax_checkpointing",
]

# The flags are descriptors on this module's class (below); these lines tell type checkers and readers what they are.
fix_rng_separator: bool
"""Put a zero byte before every item that is folded into an RNG key, so that the paths ("ab", "c") and ("a", "bc") get
different keys. This is the one flag that changes numbers. Default False, which is what existing seeds expect."""
return_frozen_dict: bool
"""``init`` and ``apply`` return `FrozenDict` instead of plain dicts. Default False."""
preserve_adopted_names: bool
"""A module that is passed to another module keeps the name it had. Default False."""
profile: bool
"""Layer calls open a `jax.named_scope`, so that profiles and HLO show module paths. Default True."""
use_orbax_checkpointing: bool
"""`fx_ckpt.checkpoints.save_checkpoint` writes by Orbax where no checkpointer is given. Default False: one file, which
Flax reads, too."""
max_repr_depth: int | None
"""How many levels of submodules ``repr`` of a module shows, 0 none of them; None for no limit. Default None."""

_TRUE, _FALSE = ("1", "true", "yes", "on"), ("0", "false", "no", "off")
_overrides: ContextVar[Mapping[str, Any]] = ContextVar("fx_config_overrides", default=types.MappingProxyType({}))


class _Flag:
    """A boolean flag as an attribute of this module."""

    expected = "true or false (1/0, yes/no, on/off)"

    def __init__(self, default: Any):
        self.default = default

    def __set_name__(self, owner: type, name: str) -> None:
        self.name = name
        variable = f"FX_{name.upper()}"
        text = os.environ.get(variable)
        self.value = self.default if text is None else self.parse(variable, text.strip().lower())

    def __get__(self, module: Any, owner: type | None = None) -> Any:
        if module is None:
            return self
        return _overrides.get().get(self.name, self.value)

    def __set__(self, module: Any, value: Any) -> None:
        self.value = self.check(value)

    def parse(self, variable: str, text: str) -> Any:
        if text not in _TRUE + _FALSE:
            raise _invalid_flag_value(variable, self.expected, text)
        return text in _TRUE

    def check(self, value: Any) -> Any:
        if not isinstance(value, bool):
            raise _invalid_flag_value(self.name, self.expected, value)
        return value


class _DepthFlag(_Flag):
    """A flag that is a natural number or None."""

    expected = "a natural number, or none"

    def parse(self, variable: str, text: str) -> Any:
        if text in ("", "none"):
            return None
        if not text.isdecimal():
            raise _invalid_flag_value(variable, self.expected, text)
        return int(text)

    def check(self, value: Any) -> Any:
        natural = isinstance(value, int) and not isinstance(value, bool) and value >= 0
        if value is not None and not natural:
            raise _invalid_flag_value(self.name, self.expected, value)
        return value


class _ConfigModule(types.ModuleType):
    """This module's class: assigning to a flag is checked like `update`."""

    fix_rng_separator = _Flag(False)
    return_frozen_dict = _Flag(False)
    preserve_adopted_names = _Flag(False)
    profile = _Flag(True)
    use_orbax_checkpointing = _Flag(False)
    max_repr_depth = _DepthFlag(None)


_FLAGS: dict[str, _Flag] = {name: flag for name, flag in vars(_ConfigModule).items() if isinstance(flag, _Flag)}


def _flag(name: str) -> _Flag:
    try:
        return _FLAGS[name.removeprefix("flax_").replace("frozendict", "frozen_dict")]
    except KeyError:
        raise _unknown_flag(name, _FLAGS) from None


def __getattr__(name: str) -> Any:
    # Reached only for what is neither a flag nor in this module. Dunder names are asked for by Python itself.
    if name.startswith("_"):
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return _flag(name).__get__(_FLAGS)  # a name of Flax, which begins with "flax_"


def flags() -> dict[str, Any]:
    """Returns all flags with their present values."""
    return {name: flag.value for name, flag in _FLAGS.items()} | dict(_overrides.get())


def update(name: str, value: Any) -> None:
    """Sets a flag for the whole process.

    Args:
      name: the flag, or its name in Flax, which begins with ``flax_``.
      value: its new value.

    Raises:
      InvalidAttributeError: there is no such flag; the text has the nearest name.
      ArgumentError: the flag does not take this value.
    """
    _flag(name).__set__(None, value)


@contextmanager
def override(**values: Any) -> Iterator[None]:
    """Sets flags inside a ``with`` block, for this thread or task only.

    Args:
      **values: flags and their values.

    Raises:
      InvalidAttributeError: there is no such flag.
      ArgumentError: a flag does not take its value.
    """
    checked = {_flag(name).name: _flag(name).check(value) for name, value in values.items()}
    token = _overrides.set({**_overrides.get(), **checked})
    try:
        yield
    finally:
        _overrides.reset(token)


@contextmanager
def temp_flip_flag(name: str, value: Any) -> Iterator[None]:
    """Flax's name of `override`, which may be used as a decorator as well.

    Args:
      name: the flag.
      value: its value inside.
    """
    with override(**{name: value}):
        yield


sys.modules[__name__].__class__ = _ConfigModule


def _unknown_flag(name: str, known: Iterable[str]) -> InvalidAttributeError:
    names = sorted(known)
    near = difflib.get_close_matches(name, names, n=1, cutoff=0.5)
    fix = f"Did you mean {near[0]!r}?" if near else "Use one of the flags above."
    return InvalidAttributeError(
        f"There is no flag {name!r}.", expected="one of " + ", ".join(names), got=name, fix=fix
    )


def _invalid_flag_value(name: str, expected: str, got: Any) -> ArgumentError:
    return ArgumentError(
        f"{name} cannot be {got!r}.", expected=expected, got=repr(got), fix=f"Give {name} one of the values above."
    )
