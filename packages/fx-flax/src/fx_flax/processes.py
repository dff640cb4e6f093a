"""Processes that a program spawns: what is done in it is done in them before they import anything of the program."""

import multiprocessing.spawn
from collections.abc import Callable
from typing import Any

__all__ = ["leave_to_children", "tell_children"]


class _Call:
    """Something whose pickle, when it is read, calls a function."""

    def __init__(self, function: Callable[[], Any]):
        self.function = function

    def __reduce__(self) -> tuple[Callable[[], Any], tuple[()]]:
        return self.function, ()


class _Preparation:
    """Stands for `multiprocessing.spawn.get_preparation_data`: a child reads what that returns before all else."""

    def __init__(self, before: Callable[[str], dict[str, Any]], function: Callable[[], Any]):
        self.before, self.function = before, function

    def __call__(self, name: str) -> dict[str, Any]:
        return {**self.before(name), "fx_flax": _Call(self.function)}


def tell_children(function: Callable[[], Any]) -> None:
    """Have processes that `multiprocessing` spawns from now on call a function first.

    Args:
      function: without arguments, found by its module and name.
    """
    spawn: Any = multiprocessing.spawn
    spawn.get_preparation_data = _Preparation(spawn.get_preparation_data, function)


def leave_to_children() -> None:
    """Undoes `tell_children`."""
    spawn: Any = multiprocessing.spawn
    if isinstance(spawn.get_preparation_data, _Preparation):
        spawn.get_preparation_data = spawn.get_preparation_data.before
