"""States of data iterators, beside the tree: each process has its own."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np
from fx_core.files import canonical_json

from fx_ckpt.backends.msgpack import MsgpackBackend
from fx_ckpt.errors import CheckpointError, invalid_option, invalid_structure
from fx_ckpt.running import processes
from fx_ckpt.tree.apart import put_together, take_apart
from fx_ckpt.tree.structure import Node, from_json, to_json

_STRUCTURE = "structure.json"


Taken = tuple[Node, Mapping[str, Any]]
"""Structure and values of the states of iterators, for `write`."""


def states(named: Mapping[str, Any]) -> Taken | None:
    """Takes the states of iterators, which may go on at once: the states may be what they go on with; None without.

    Raises:
      ArgumentError: one has no ``get_state`` and ``set_state``.
      UnsupportedLeafError: a state holds something that cannot be stored exactly.
    """
    _check(named)
    if not named:
        return None
    structure, state = take_apart({name: iterator.get_state() for name, iterator in named.items()})
    return structure, jax.tree.map(lambda leaf: leaf.copy() if isinstance(leaf, np.ndarray) else leaf, state)


def _check(named: Mapping[str, Any]) -> None:
    for name, iterator in named.items():
        if not (callable(getattr(iterator, "get_state", None)) and callable(getattr(iterator, "set_state", None))):
            expected = f"an object with get_state and set_state as {name!r}"
            fix = "Pass an iterator that can be resumed, such as one of grain, or leave it out."
            raise invalid_option("iterators", expected, iterator, fix)


def write(directory: Path, taken: Taken | None) -> None:
    """Writes states below a directory, which is made if there are any."""
    if taken is None:
        return
    own = _own(directory)
    own.mkdir(parents=True)
    structure, state = taken
    (own / _STRUCTURE).write_text(canonical_json(to_json(structure), "states of iterators"))
    MsgpackBackend().save(own, state)


def restore(directory: Path, named: Mapping[str, Any], where: str) -> None:
    """Sets the states of iterators.

    Raises:
      CheckpointError: other iterators were saved.
      ArgumentError: one has no ``get_state`` and ``set_state``.
    """
    _check(named)
    saved = read(directory)
    if saved.keys() != named.keys():
        raise CheckpointError(
            "The data iterators of the checkpoint are not those to restore.",
            path=where,
            expected=", ".join(sorted(saved)) or "no iterators",
            got=", ".join(sorted(named)) or "no iterators",
            fix="Pass iterators of the saved names; a checkpoint has those of each process that wrote it.",
        )
    for name, iterator in named.items():
        iterator.set_state(saved[name])


def read(directory: Path) -> dict[str, Any]:
    """Reads the states that this process wrote, or none.

    Raises:
      DamagedDataError: the description of the states makes no sense.
    """
    own = _own(directory)
    if not own.is_dir():
        return {}
    try:
        structure = from_json(json.loads((own / _STRUCTURE).read_bytes()))
    except (ValueError, RecursionError) as error:
        raise invalid_structure("it is no JSON", error) from None
    return put_together(structure, MsgpackBackend().restore(own))


def _own(directory: Path) -> Path:
    return directory / f"process_{processes.index():05d}"
