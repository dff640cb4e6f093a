"""Which frames JAX takes out of the tracebacks of errors."""

from jax._src import traceback_util

__all__ = ["api_boundary", "hide_in_tracebacks", "show_in_tracebacks"]


api_boundary = traceback_util.api_boundary
"""Decorates what users call: exceptions leave it without the frames of hidden files, unless JAX is set to show them."""


def hide_in_tracebacks(directory: str) -> None:
    """Counts the files below as those whose frames JAX takes out of tracebacks."""
    if directory not in traceback_util._exclude_paths:
        traceback_util.register_exclusion(directory)


def show_in_tracebacks(directory: str) -> None:
    """Undoes `hide_in_tracebacks`."""
    paths = traceback_util._exclude_paths
    paths[:] = [path for path in paths if path != directory]
