"""Trees that Orbax or Flax wrote with Orbax, without a manifest of fx."""

import contextlib
import os
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np
from fx_core.errors import FxError
from fx_core.errors.plugins import EntryLoadError
from fx_core.errors.serialization import StateDictMismatchError
from fx_core.serialization import to_state_dict

from fx_ckpt.errors import unreadable
from fx_ckpt.tree.nodes import Opened, open_node
from fx_ckpt.tree.structure import Path as TreePath
from fx_ckpt.tree.structure import render, step_of

_OS_ERROR = re.compile(r"OS error (\d+)|os_error_code='(\d+)'")  # of tensorstore, before and after it changed


def orbax() -> Any:
    """Returns the module of Orbax.

    Raises:
      EntryLoadError: it is not installed; the text has the command that installs it.
    """
    try:
        import orbax.checkpoint
    except ImportError as error:
        target = "orbax.checkpoint"
        raise EntryLoadError("checkpoint library", "orbax", target, str(error), "fx-ckpt", "orbax") from error
    return orbax.checkpoint


@contextlib.contextmanager
def errors_of_the_disk(directory: Path) -> Iterator[None]:
    """Raises what the system said, which Orbax passes on as text in a ValueError.

    Raises:
      OSError: the disk is full, or the like.
    """
    try:
        yield
    except ValueError as error:
        found = None if isinstance(error, FxError) else _OS_ERROR.search(str(error))
        if found is None:
            raise
        code = int(found[1] or found[2])
        raise OSError(code, os.strerror(code), str(directory)) from error


def read_state(path: Path, checkpointer: Any = None) -> Any:
    """Reads a directory as a state dictionary, with NumPy arrays: the devices of the writer may not be here.

    Raises:
      DamagedDataError: Orbax cannot read it.
      EntryLoadError: Orbax is not installed.
    """
    ocp = orbax()
    reader = checkpointer or ocp.PyTreeCheckpointer()
    try:
        metadata: Any = reader.metadata(path)
        args = jax.tree.map(lambda _: ocp.RestoreArgs(restore_type=np.ndarray), metadata.item_metadata.tree)
        return to_state_dict(reader.restore(path, restore_args=args))
    except (FxError, OSError):
        raise
    # Its parsers raise whatever they stumble upon.
    except Exception as error:
        raise unreadable(f"Orbax cannot read {path}: {type(error).__name__}: {error}"[:500]) from error


def filled(target: Any, state: Any) -> Any:
    """Returns a tree like the target with the values of a state dictionary.

    Args:
      target: any pytree: train states, optax states, NNX states and modules.
      state: its state dictionary, as Orbax gives it back: what has no entries may be None. Entries of dictionaries that
        the target lacks are left out.

    Raises:
      StateDictMismatchError: the structures differ.
    """
    return _filled(target, state, ())


def _filled(target: Any, state: Any, path: TreePath) -> Any:
    opened = open_node(target, render(path))
    if opened is None:
        if isinstance(state, Mapping):
            raise StateDictMismatchError("tree", render(path), "a leaf", f"entries {list(state)}")
        return state
    # Orbax has no empty containers of classes: optax.EmptyState comes back as None.
    state = {} if state is None and not opened.keys else state
    if not isinstance(state, Mapping):
        raise StateDictMismatchError(opened.type, render(path), list(opened.keys), type(state).__name__)
    _check_names(opened, state, path)
    children = [
        _filled(child, state[str(key)], (*path, step_of(opened.kind, key)))
        for key, child in zip(opened.keys, opened.children)
    ]
    return opened.build(children)


def _check_names(opened: Opened, state: Mapping[str, Any], path: TreePath) -> None:
    names = [str(key) for key in opened.keys]
    missing = tuple(name for name in names if name not in state)
    unknown = () if opened.kind == "mapping" else tuple(str(name) for name in state if name not in names)
    if missing or unknown:
        raise StateDictMismatchError(opened.type, render(path), names, list(state), missing, unknown)
