"""Running a program, or a module, with fx in the place of Flax."""

import os
import runpy
import sys
from collections.abc import Sequence

from fx_flax.installing import install

__all__ = ["run"]


def run(program: str, arguments: Sequence[str] = (), *, module: bool = False) -> None:
    """Runs a program as Python would, after `fx_flax.install`.

    Args:
      program: its path, or the name of a module.
      arguments: what it finds in ``sys.argv`` behind its name.
      module: whether a module is meant.
    """
    install()
    sys.argv[:] = [program, *arguments]
    if module:
        sys.path.insert(0, os.getcwd())
        runpy.run_module(program, run_name="__main__", alter_sys=True)
    else:
        sys.path.insert(0, os.path.dirname(os.path.abspath(program)))
        runpy.run_path(program, run_name="__main__")
