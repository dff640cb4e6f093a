"""A checkpoint between the tree and the disk: everything is checked and taken, nothing is written."""

import dataclasses
import datetime
import logging
import math
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np
from fx_core.collections import not_saved
from fx_core.errors.kinds import ArgumentError
from fx_core.files import AtomicDirectory, canonical_json
from fx_core.plugins import CheckpointBackend, registry

from fx_ckpt import iterators
from fx_ckpt._version import __version__
from fx_ckpt.errors import invalid_option
from fx_ckpt.formats import digests
from fx_ckpt.info import leaves_of
from fx_ckpt.running import processes
from fx_ckpt.running.parallel import copied
from fx_ckpt.tree.apart import take_apart
from fx_ckpt.tree.structure import Node, to_json

FORMAT, VERSION = "fx-checkpoint", 1
DATA, ITERATORS = "data", "iterators"
OWN = (DATA, ITERATORS)

AUTO, ALONE, TOGETHER = "auto", "msgpack", "orbax"
"""The backend that is chosen for each save, and what it may be: for one process, and for several."""

_log = logging.getLogger("fx.ckpt")


@dataclasses.dataclass
class Draft:
    """A checkpoint that can be written at any time, by any thread.

    Attributes:
      path: where it is to appear.
      overwrite: whether it may replace another.
      backend: name of the backend.
      writer: the backend.
      structure: structure of the tree.
      state: what the backend is to store.
      iterators: states of data iterators, as `fx_ckpt.iterators.states` takes them.
      fields: what else the manifest holds.
      beside: a directory whose files are copied beside the data.
      is_step: whether the name of the path says that a checkpoint is there, in the directory of a manager.
    """

    path: Path
    overwrite: bool
    backend: str
    writer: CheckpointBackend
    structure: Node
    state: Mapping[str, Any]
    iterators: iterators.Taken | None
    fields: dict[str, Any]
    beside: Path | None = None
    is_step: bool = False

    def snapshot(self) -> None:
        """Copies the arrays, so that the tree may change, or be donated, while this is written.

        Everything comes into the memory of the host: arrays of other devices by a transfer, those of the host by a copy
        on several threads.
        """
        arrays: dict[int, Any] = {}
        _each_array(self.state, lambda array: arrays.setdefault(id(array), array))
        for array in arrays.values():
            if isinstance(array, jax.Array):
                array.copy_to_host_async()
        hosted = {key: np.asarray(array) for key, array in arrays.items()}
        owned = dict(zip(hosted, copied(hosted.values())))
        self.state = _with_arrays(self.state, owned)

    def write(self) -> Path:
        """Writes the checkpoint; on return it is on the disk.

        Raises:
          AlreadyExistsError: there is something at the path.
        """
        if processes.count() > 1:
            return processes.write_together(self)
        with self.directory() as new:
            self.begin(new.directory)
            self.fill(new, new.directory)
        return self.path

    def begin(self, directory: Path) -> None:
        """Creates what is in the new directory before it is filled."""
        (directory / DATA).mkdir()

    def check_place(self) -> None:
        """Finds out now what would make `write` fail later, in a thread.

        Raises:
          AlreadyExistsError: there is something at the path, or it may not be replaced.
        """
        self.directory().check_free()

    def directory(self) -> AtomicDirectory:
        """Returns the directory that is to be filled."""
        return AtomicDirectory(
            self.path,
            format=FORMAT,
            version=VERSION,
            overwrite=self.overwrite,
            digest=digests.digest_file,
            own=OWN if self.is_step else (),
        )

    def fill(self, new: AtomicDirectory | None, directory: Path) -> None:
        """Writes into the new directory; one process has it, the others know where it is."""
        taken = self.writer.save(directory / DATA, self.state)
        iterators.write(directory / ITERATORS, self.iterators)
        if self.beside is not None and self.beside.is_dir():
            shutil.copytree(self.beside, directory / self.beside.name)
        if new is not None:
            new.digests.update({f"{DATA}/{name}": digest for name, digest in (taken or {}).items()})
            new.manifest.update(self.fields, backend=self.backend, structure=to_json(self.structure))


def prepare(
    path: Path,
    tree: Any,
    *,
    backend: str = AUTO,
    metadata: Mapping[str, Any] | None = None,
    overwrite: bool = False,
    step: int | None = None,
    metrics: Mapping[str, Any] | None = None,
    data_iterators: Mapping[str, Any] | None = None,
) -> Draft:
    """Checks everything that can be checked before anything is written, and take the tree apart; see `fx_ckpt.save`."""
    kept = dict(metadata or {})
    canonical_json(kept, "metadata")
    left_out: list[str] = []
    structure, state = take_apart(tree, not_saved(), left_out)
    if left_out and not any(True for _ in leaves_of(structure, ())):
        raise ArgumentError(
            "Nothing would be stored: every part of the tree is of a collection that is not saved.",
            got=", ".join(left_out),
            fix="Save it under another key than its collection's name, and as arrays instead of variables.",
        )
    name, reason = choose(state) if backend == AUTO else (backend, "asked for")
    writer = load_backend(name)
    registry().saving(path, tree, kept)
    if backend == AUTO:
        _log.info("Backend %s for %s: %s.", name, path, reason)
    fields = {
        "backend_reason": reason,
        "step": step,
        "metrics": {name: _metric(name, value) for name, value in (metrics or {}).items()},
        "metadata": kept,
        "created": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "written_by": {"fx-ckpt": __version__, "jax": jax.__version__},
        **({"left_out": left_out} if left_out else {}),
    }
    return Draft(path, overwrite, name, writer, structure, state, iterators.states(data_iterators or {}), fields)


def choose(state: Mapping[str, Any]) -> tuple[str, str]:
    """Returns the backend that fits, and why.

    On one host a single file is several times faster than Orbax, which is needed only where no process has everything.
    """
    if processes.count() > 1:
        return TOGETHER, f"{processes.count()} processes write together"
    elsewhere: list[Any] = []
    _each_array(state, lambda x: None if getattr(x, "is_fully_addressable", True) else elsewhere.append(x))
    if elsewhere:
        return TOGETHER, f"{len(elsewhere)} arrays are partly on other hosts"
    return ALONE, "one process has every array, and one file is the fastest to write and to read"


def load_backend(name: str) -> CheckpointBackend:
    """Creates a backend by its name.

    Raises:
      UnknownEntryError: there is none.
    """
    return registry().checkpoint_backends[name].load()()


def _metric(name: Any, value: Any) -> float | str:
    if not isinstance(name, str):
        raise invalid_option("metrics", "names that are strings", {name: value}, f"Use {str(name)!r} as the name.")
    try:
        array = np.asarray(value)
        if array.dtype.kind in "cSUT":  # which `float` would cut, or read
            raise TypeError(f"{array.dtype} is no real number")
        number = float(array.reshape(()))
    except (TypeError, ValueError, OverflowError) as error:
        fix = "Pass numbers, such as float(loss), and everything else as metadata."
        raise invalid_option("metrics", "real numbers", {name: value}, fix) from error
    return number if math.isfinite(number) else str(number)


def _each_array(state: Any, visit: Any) -> None:
    if isinstance(state, Mapping):
        for value in state.values():
            _each_array(value, visit)
    elif isinstance(state, (jax.Array, np.ndarray)):
        visit(state)


def _with_arrays(state: Any, arrays: Mapping[int, np.ndarray]) -> Any:
    if isinstance(state, Mapping):
        return {name: _with_arrays(value, arrays) for name, value in state.items()}
    return arrays.get(id(state), state)
