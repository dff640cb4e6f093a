"""Packages that only some formats need, imported when they are used."""

import importlib
from typing import Any

from fx_core.errors.plugins import EntryLoadError
from fx_core.plugins.entries import describe


def imported(module: str, exporter: str, extra: str) -> Any:
    """Imports a module of an extra.

    Args:
      module: its name.
      exporter: which exporter needs it.
      extra: which extra of fx-export brings it.

    Raises:
      EntryLoadError: it is not there; the text names the extra.
    """
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise EntryLoadError("exporter", exporter, module, describe(error), "fx-export", extra) from error
