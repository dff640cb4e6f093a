"""Tracebacks that show the lines of users, without the frames of fx and JAX in between.

An exception that leaves ``init``, ``apply`` or a transform has lost the frames of the packages of fx, and of JAX. The
setting ``jax_traceback_filtering`` of JAX (in the environment ``JAX_TRACEBACK_FILTERING=off``) brings all of them back,
`show_fx_in_tracebacks` those of fx.
"""

import os
import sys
import warnings

import jax

from fx_core.compat import jax as compat

__all__ = [
    "api_boundary",
    "hide_flax_in_tracebacks",
    "hide_fx_in_tracebacks",
    "hide_package",
    "show_flax_in_tracebacks",
    "show_fx_in_tracebacks",
    "warn_user",
]

_packages: list[str] = []

api_boundary = compat.api_boundary


def hide_package(file: str) -> None:
    """Lets the frames of a package be hidden; for the ``__init__`` of packages that build on fx.

    Args:
      file: ``__file__`` there.
    """
    directory = os.path.dirname(file) + os.sep
    if directory not in _packages:
        _packages.append(directory)
        compat.hide_in_tracebacks(directory)


def hide_fx_in_tracebacks() -> None:
    """Hides the frames of fx again, after `show_fx_in_tracebacks`."""
    for directory in _packages:
        compat.hide_in_tracebacks(directory)


def show_fx_in_tracebacks() -> None:
    """Shows the frames of fx, to look for a mistake in it.

    >>> show_fx_in_tracebacks()
    >>> hide_fx_in_tracebacks()
    """
    for directory in _packages:
        compat.show_in_tracebacks(directory)


hide_flax_in_tracebacks, show_flax_in_tracebacks = hide_fx_in_tracebacks, show_fx_in_tracebacks

_AROUND = (os.path.dirname(jax.__file__) + os.sep, os.path.dirname(os.__file__) + os.sep + "contextlib", "<string>")


def warn_user(text: str, category: type[Warning] = UserWarning) -> None:
    """Warns at the line of the user: the innermost one that is neither in fx nor in JAX.

    Python shows a `DeprecationWarning` only where it points at the user's own script, and a filter by module, or "once
    for each place", needs the place, however many wrappers of fx lie in between.

    Args:
      text: the warning.
      category: its class.
    """
    inner = (*_packages, *_AROUND)
    level, frame = 2, sys._getframe(1)
    while frame.f_back is not None and frame.f_code.co_filename.startswith(inner):
        level, frame = level + 1, frame.f_back
    warnings.warn(text, category, stacklevel=level)


hide_package(__file__)
