"""The flags of Flax, as ``flax.config`` and as environment variables, on the settings of fx.

>>> from fx_flax.flags import config
>>> config.update("flax_return_frozendict", True)
>>> from fx_core import config as settings
>>> settings.return_frozen_dict
True
>>> config.update("flax_return_frozendict", False)
"""

import contextlib
import os
from collections.abc import Iterator
from typing import Any

import fx_core.config
import fx_core.traceback_util
from fx_core.errors import MissingPackageError

from fx_flax.modules import find_place

__all__ = ["Flag", "Flags", "config", "read_environment"]

_SETTINGS = (
    *("flax_profile", "flax_use_orbax_checkpointing", "flax_preserve_adopted_names"),
    *("flax_return_frozendict", "flax_fix_rng_separator", "flax_max_repr_depth"),
)
_MODES = {
    "nnx_graph_mode": "fx_nnx.modes:set_graph_mode",
    "nnx_graph_updates": "fx_nnx.modes:set_graph_updates",
    "flax_always_shard_variable": "fx_nnx.modes:use_eager_sharding",
}
# What fx does whatever these say: only the value that says the same is taken.
_FIXED = {
    "flax_use_flaxlib": False,
    "flax_array_ref": False,
    "flax_pytree_module": True,
    "flax_hijax_variable": False,
    "nnx_sow_capture_noop": False,
}
_TRUE, _FALSE = ("1", "true", "t", "yes", "y", "on"), ("0", "false", "f", "no", "n", "off")


class Flags:
    """``flax.config``: flags as attributes, and `update`."""

    def __init__(self) -> None:
        self._filters_frames = True

    def __getattr__(self, name: str) -> Any:
        if name in _SETTINGS:
            return getattr(fx_core.config, name)
        if name in _MODES:
            return _mode(name).current_value()
        if name in _FIXED:
            return _FIXED[name]
        if name == "flax_filter_frames":
            return self._filters_frames
        raise AttributeError(f"Flax has no flag {name!r}; its flags are {', '.join(sorted(_FLAGS))}", name=name)

    def __setattr__(self, name: str, value: Any) -> None:
        if name in _FLAGS:
            self.update(name, value)
        else:
            super().__setattr__(name, value)

    def update(self, name: "str | Flag", value: Any) -> None:
        """Sets a flag.

        Args:
          name: its name in Flax, or the flag as ``flax.configurations`` has it.
          value: the new value.

        Raises:
          LookupError: there is no such flag.
          ValueError: the flag does not take the value, or fx does only what another value says.
        """
        name = name.name if isinstance(name, Flag) else name
        if name not in _FLAGS:
            raise LookupError(f"Flax has no flag {name!r}; its flags are {', '.join(sorted(_FLAGS))}")
        if name in _SETTINGS:
            fx_core.config.update(name, value)
        elif name == "flax_filter_frames":
            (fx_core.traceback_util.hide_fx_in_tracebacks if value else fx_core.traceback_util.show_fx_in_tracebacks)()
            self._filters_frames = bool(value)
        elif name in _MODES:
            _mode(name)(value)
        elif value != _FIXED[name]:
            raise ValueError(f"{name}={value!r} is not served: fx does only what {_FIXED[name]!r} says in Flax.")

    @contextlib.contextmanager
    def temp_flip_flag(self, var_name: str, var_value: Any) -> Iterator[None]:
        """Sets a flag within a ``with`` block.

        Args:
          var_name: its name without ``flax_``.
          var_value: its value there.
        """
        before = getattr(self, f"flax_{var_name}")
        self.update(f"flax_{var_name}", var_value)
        try:
            yield
        finally:
            self.update(f"flax_{var_name}", before)

    def __repr__(self) -> str:
        values: dict[str, Any] = {}
        for name in _FLAGS:
            with contextlib.suppress(MissingPackageError):  # flags of fx_nnx
                values[name] = getattr(self, name)
        return f"Flags({', '.join(f'{name}={value!r}' for name, value in values.items())})"


def _mode(name: str) -> Any:
    return getattr(*find_place(f"flax.config.{name}", _MODES[name]))


class Flag:
    """One flag, as ``flax.configurations`` has it.

    Args:
      name: its name in ``flax.config``.
    """

    def __init__(self, name: str):
        self.name = self.__name__ = name

    def __bool__(self) -> bool:
        raise TypeError(f"A flag is neither true nor false; ask for its value: {self.name}.value")

    @property
    def value(self) -> Any:
        """Its value now."""
        return getattr(config, self.name)


_FLAGS = (*_SETTINGS, *_MODES, *_FIXED, "flax_filter_frames")
config = Flags()


def __getattr__(name: str) -> Flag:
    known = "flax_fix_rng_separator" if name == "flax_fix_rng" else name  # what Flax calls the one with two names
    if known not in _FLAGS:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}", name=name)
    return Flag(known)


def read_environment() -> None:
    """Sets the flags that the environment names, such as ``FLAX_PROFILE=0``.

    Raises:
      ValueError: the text is no value of the flag.
    """
    for name in _FLAGS:
        text = os.environ.get(name.upper())
        if text is not None:
            config.update(name, _parsed(name.upper(), text.strip().lower(), name))


def _parsed(variable: str, text: str, name: str) -> Any:
    if name == "flax_max_repr_depth":
        return None if text in ("", "none") else int(text)
    if text not in _TRUE + _FALSE:
        raise ValueError(f"{variable}={text!r} is neither true nor false (1/0, yes/no, on/off)")
    return text in _TRUE
