"""Tracebacks that show the lines of users, without the frames of fx and JAX in between.

An exception that leaves ``init``, ``apply`` or a transform has lost the frames of the packages of fx, and of JAX. The
setting ``jax_traceback_filtering`` of JAX (in the environment ``JAX_TRACEBACK_FILTERING=off``) brings all of them back,
`show_fx_in_tracebacks` those of fx.
"""

import os

from fx_core import _jax

__all__ = [
    "api_boundary",
    "hide_flax_in_tracebacks",
    "hide_fx_in_tracebacks",
    "hide_package",
    "show_flax_in_tracebacks",
    "show_fx_in_tracebacks",
]

_packages: list[str] = []

api_boundary = _jax.api_boundary


def hide_package(file: str) -> None:
    """Let the frames of a package be hidden; for the ``__init__`` of packages that build on fx.

    Args:
      file: ``__file__`` there.
    """
    directory = os.path.dirname(file) + os.sep
    if directory not in _packages:
        _packages.append(directory)
        _jax.hide_in_tracebacks(directory)


def hide_fx_in_tracebacks() -> None:
    """Hide the frames of fx again, after `show_fx_in_tracebacks`."""
    for directory in _packages:
        _jax.hide_in_tracebacks(directory)


def show_fx_in_tracebacks() -> None:
    """Show the frames of fx, to look for a mistake in it.

    >>> show_fx_in_tracebacks()
    >>> hide_fx_in_tracebacks()
    """
    for directory in _packages:
        _jax.show_in_tracebacks(directory)


hide_flax_in_tracebacks, show_flax_in_tracebacks = hide_fx_in_tracebacks, show_fx_in_tracebacks

hide_package(__file__)
