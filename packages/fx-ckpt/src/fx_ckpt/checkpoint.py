"""Saving and restoring one checkpoint: a directory with a manifest, and a backend's files below ``data/``."""

import datetime
import math
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
from fx_core.files import AtomicDirectory, canonical_json, read_manifest, settled, verify_files
from fx_core.plugins import CheckpointBackend, registry

from fx_ckpt._version import __version__
from fx_ckpt.errors import StructureError
from fx_ckpt.fit import compare, fill, placement
from fx_ckpt.info import CheckpointInfo
from fx_ckpt.structure import Node, from_json, to_json
from fx_ckpt.tree import put_together, take_apart

FORMAT, VERSION = "fx-checkpoint", 1
_DATA = "data"

StrPath = str | os.PathLike[str]


def save(
    path: StrPath,
    tree: Any,
    *,
    backend: str = "orbax",
    metadata: Mapping[str, Any] | None = None,
    overwrite: bool = False,
) -> Path:
    """Write a tree as a checkpoint, which appears at ``path`` whole or not at all.

    Args:
      path: the directory to make.
      tree: any pytree of arrays, PRNG keys, Python numbers, strings, bytes and None.
      backend: name of the backend: ``"orbax"``, ``"msgpack"``, or a plugin's.
      metadata: what else to keep, as JSON.
      overwrite: replace a checkpoint at ``path``; readers see the old or the new one.

    Returns:
      The path.

    Raises:
      UnsupportedLeafError: the tree holds something that cannot be stored exactly.
      UnsupportedKeyError: so does one of its dictionaries' keys.
      NotJsonError: JSON cannot hold the metadata.
      PathTakenError: there is something at the path.
      UnknownEntryError: there is no such backend.

    Example:
      >>> import tempfile, numpy as np
      >>> path = save(tempfile.mkdtemp() + "/final", {"w": np.ones(2), "step": 3}, backend="msgpack")
      >>> restore(path)
      {'w': array([1., 1.]), 'step': 3}
    """
    return write(path, tree, backend=backend, metadata=metadata, overwrite=overwrite)


def restore(path: StrPath, target: Any = None) -> Any:
    """Read a checkpoint, after checking every byte of it.

    Args:
      path: where `save` wrote it.
      target: a tree of the same structure, shapes and dtypes; its arrays may be `jax.ShapeDtypeStruct`, and their
        shardings say where to put the values. Functions and other static parts come from it. Without a target, named
        tuples, dataclasses and the like come back as dictionaries of their fields.

    Returns:
      The tree, with exactly the values that were saved: nothing is cast, dropped or filled in.

    Raises:
      ManifestError: this is no checkpoint, or its manifest is damaged.
      DamagedFilesError: a file was changed, cut, removed or added.
      RestoreMismatchError: the target differs; the text lists every place.
      DtypeUnavailableError: the target wants a 64-bit JAX array, and JAX is set to 32 bits.
    """
    source = settled(path)
    manifest = read_manifest(source, format=FORMAT, version=VERSION)
    info = _info(source, manifest)
    if target is not None:
        compare(info.structure, target, str(path))
    verify_files(source, manifest)
    like = None if target is None else placement(info.structure, target)
    state = _backend(info.backend).restore(source / _DATA, like)
    tree = put_together(info.structure, state) if target is None else fill(info.structure, state, target)
    registry().restored(Path(path), tree, info.metadata)
    return tree


def inspect(path: StrPath) -> CheckpointInfo:
    """Say what a checkpoint holds, from its manifest alone.

    Raises:
      ManifestError: this is no checkpoint, or its manifest is damaged.

    Example:
      >>> import tempfile, numpy as np
      >>> path = save(tempfile.mkdtemp() + "/final", {"w": np.ones((2, 3))}, backend="msgpack")
      >>> {name: str(leaf) for name, leaf in inspect(path).leaves().items()}
      {'w': 'float64[2, 3]'}
    """
    source = settled(path)
    return _info(source, read_manifest(source, format=FORMAT, version=VERSION))


def verify(path: StrPath) -> CheckpointInfo:
    """Check every byte of a checkpoint.

    Raises:
      ManifestError: this is no checkpoint, or its manifest is damaged.
      DamagedFilesError: a file was changed, cut, removed or added.
    """
    source = settled(path)
    manifest = read_manifest(source, format=FORMAT, version=VERSION)
    verify_files(source, manifest)
    return _info(source, manifest)


def write(
    path: StrPath,
    tree: Any,
    *,
    backend: str,
    metadata: Mapping[str, Any] | None = None,
    overwrite: bool = False,
    step: int | None = None,
    metrics: Mapping[str, Any] | None = None,
) -> Path:
    """Write a checkpoint, with what managers add; see `save`."""
    path, kept = Path(path), dict(metadata or {})
    canonical_json(kept, "metadata")
    writer = _backend(backend)
    registry().saving(path, tree, kept)
    structure, state = take_apart(tree)
    with AtomicDirectory(path, format=FORMAT, version=VERSION, overwrite=overwrite) as new:
        (new.directory / _DATA).mkdir()
        writer.save(new.directory / _DATA, state)
        new.manifest.update(
            backend=backend,
            step=step,
            metrics={name: _json_number(value) for name, value in (metrics or {}).items()},
            metadata=kept,
            created=datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
            written_by={"fx-ckpt": __version__, "jax": jax.__version__},
            structure=to_json(structure),
        )
    return path


def _backend(name: str) -> CheckpointBackend:
    return registry().checkpoint_backends[name].load()()


def _json_number(value: Any) -> float | str:
    number = float(value)
    return number if math.isfinite(number) else str(number)


def _info(path: Path, manifest: Mapping[str, Any]) -> CheckpointInfo:
    try:
        return CheckpointInfo(
            path=path,
            backend=manifest["backend"],
            step=manifest["step"],
            metrics={name: float(value) for name, value in manifest["metrics"].items()},
            metadata=manifest["metadata"],
            created=manifest["created"],
            written_by=manifest["written_by"],
            files={name: file["size"] for name, file in manifest["files"].items()},
            structure=_structure(manifest),
        )
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise StructureError("the manifest lacks what a checkpoint needs", error) from error


def _structure(manifest: Mapping[str, Any]) -> Node:
    return from_json(manifest["structure"])
