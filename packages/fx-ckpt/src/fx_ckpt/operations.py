"""Saving and restoring one checkpoint: a directory with a manifest, and a backend's files below ``data/``."""

import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

from fx_core.collections import not_saved
from fx_core.errors.files import ManifestError
from fx_core.files import local_path, read_manifest, settled, verify_files
from fx_core.plugins import registry
from fx_core.replacing import read_whole

from fx_ckpt import iterators
from fx_ckpt.draft import AUTO, DATA, FORMAT, ITERATORS, VERSION, load_backend, prepare
from fx_ckpt.errors import class_as_target, invalid_structure
from fx_ckpt.formats import digests
from fx_ckpt.info import CheckpointInfo
from fx_ckpt.recognition import refused
from fx_ckpt.tree.apart import put_together
from fx_ckpt.tree.casting import check_cast
from fx_ckpt.tree.fit import compare, fill, placement
from fx_ckpt.tree.selection import ChosenPaths, Select, chosen
from fx_ckpt.tree.structure import Node, from_json
from fx_ckpt.tree.unsaved import kept_by_target

StrPath = str | os.PathLike[str]
T = TypeVar("T")


def save(
    path: StrPath,
    tree: Any,
    *,
    backend: str = AUTO,
    metadata: Mapping[str, Any] | None = None,
    iterators: Mapping[str, Any] | None = None,
    overwrite: bool = False,
) -> Path:
    """Writes a tree as a checkpoint, which appears at ``path`` whole or not at all.

    With several processes, all call this with the same path, each with its part of the same arrays.

    Collections that a plugin registers with ``saved=False`` are left out, as mappings under their name and as NNX
    variables of their type; `inspect` says which. All other collections are stored, those of fx included.

    Args:
      path: the directory to make; ``~`` is the home directory.
      tree: any pytree of arrays, PRNG keys, Python numbers, strings, bytes and None.
      backend: name of the backend: ``"msgpack"``, ``"safetensors"``, ``"orbax"``, or a plugin's. ``"auto"`` takes
        msgpack, the fastest, if this process has all arrays, and Orbax otherwise; `inspect` says which, and why.
      metadata: what else to keep, as JSON.
      iterators: data iterators by name, whose states (``get_state``) are kept beside the tree.
      overwrite: replace a checkpoint at ``path``; readers see the old or the new one. Anything else that is there, and
        a checkpoint to which files were added, is never replaced.

    Returns:
      The path.

    Raises:
      UnsupportedLeafError: the tree holds something that cannot be stored exactly.
      UnsupportedLeafError: so does one of its dictionaries' keys.
      ArgumentError: JSON cannot hold the metadata, or all of the tree is of collections that are not saved.
      AlreadyExistsError: there is something at the path.
      StorageError: the system could not write: the disk is full, or the like. What was there before still is.
      ArgumentError: the path is the URL of another place, or no name of a file.
      UnknownEntryError: there is no such backend.
      ArgumentError: an iterator has no ``get_state`` and ``set_state``.

    Example:
      >>> import tempfile, numpy as np
      >>> path = save(tempfile.mkdtemp() + "/final", {"w": np.ones(2), "step": 3})
      >>> restore(path)
      {'w': array([1., 1.]), 'step': 3}
    """
    place = local_path(path)
    draft = prepare(place, tree, backend=backend, metadata=metadata, overwrite=overwrite, data_iterators=iterators)
    return draft.write()


def restore(
    path: StrPath,
    target: Any = None,
    *,
    only: Select = None,
    cast: Any = False,
    mapped: bool = False,
    iterators: Mapping[str, Any] | None = None,
) -> Any:
    """Reads a checkpoint, after checking every byte of it.

    Args:
      path: where `save` wrote it.
      target: a tree of the same structure, shapes and dtypes; its arrays may be `jax.ShapeDtypeStruct`, and their
        shardings say where to put the values. Functions and other static parts come from it; it keeps its own values of
        collections that are not saved (see `save`). Without a target, named tuples, dataclasses and the like come back
        as dictionaries of their fields.
      only: which part to restore; the rest of the target stays as it is, and without a target is left out. A pattern
        such as ``"params/*/kernel"`` chooses what it matches and all below; a class, such as a variable type, all
        below its objects; a function, called with the keys of each leaf and its `fx_ckpt.tree.structure.Leaf`, what it
        says. A list chooses what any of its members does, `fx_core.scope.DenyList` what its filter does not.
      cast: True to convert arrays to the target's dtypes, within floating-point, integer or complex numbers; a dtype
        to convert all arrays of floating-point numbers to it.
      mapped: leave arrays in the file, where the backend can (safetensors and msgpack): they are read when they are
        used, and take no memory of their own. NumPy arrays are then read-only; JAX's are the file's own memory where it
        is aligned, on a CPU. The file must not be changed or cut while they are used; removing it does no harm.
      iterators: data iterators by name, whose states are set (``set_state``) to the saved ones.

    Returns:
      The tree, with exactly the values that were saved: nothing is cast, dropped or filled in unless asked for.

    Raises:
      ManifestError: this is no checkpoint, and the text says what it is and what reads it; or its manifest is damaged.
      DamagedFilesError: a file was changed, cut, removed or added.
      RestoreMismatchError: the target differs; the text lists every place.
      CastError: the target wants a 64-bit JAX array, and JAX is set to 32 bits.
      CastError: a number does not fit into the dtype that was asked for.
      CheckpointError: other iterators were saved.
      ArgumentError: a filter that chooses nothing, no dtype, or a class as target.

    >>> import tempfile
    >>> import numpy as np
    >>> import fx_ckpt
    >>> path = fx_ckpt.save(tempfile.mkdtemp() + "/final", {"w": np.ones(2), "step": 3})
    >>> fx_ckpt.restore(path, only="step")
    {'step': 3}
    >>> fx_ckpt.restore(path, {"w": np.zeros(2), "step": 0})
    {'w': array([1., 1.]), 'step': 3}
    """

    if isinstance(target, type):
        raise class_as_target(target)

    def act(source: Path, manifest: Mapping[str, Any]) -> tuple[CheckpointInfo, Any]:
        info = _info(source, manifest)
        tree = _restored(info, manifest, target, only, cast, mapped)
        if iterators is not None:
            _restore_iterators(source, iterators, str(path))
        return info, tree

    info, tree = _whole(path, act)
    registry().restored(local_path(path), tree, info.metadata)
    return tree


def inspect(path: StrPath) -> CheckpointInfo:
    """Returns what a checkpoint holds, from its manifest alone.

    Raises:
      ManifestError: this is no checkpoint, or its manifest is damaged.

    Example:
      >>> import tempfile, numpy as np
      >>> path = save(tempfile.mkdtemp() + "/final", {"w": np.ones((2, 3))})
      >>> {name: str(leaf) for name, leaf in inspect(path).leaves().items()}
      {'w': 'float64[2, 3]'}
    """
    source = settled(path)
    return _info(source, manifest_of(source))


def verify(path: StrPath) -> CheckpointInfo:
    """Checks every byte of a checkpoint.

    Raises:
      ManifestError: this is no checkpoint, or its manifest is damaged.
      DamagedFilesError: a file was changed, cut, removed or added.

    >>> import tempfile
    >>> import fx_ckpt
    >>> path = fx_ckpt.save(tempfile.mkdtemp() + "/final", {"step": 3})
    >>> fx_ckpt.verify(path).backend
    'msgpack'
    """
    return _whole(path, _verified)


def manifest_of(source: Path) -> dict[str, Any]:
    """Reads the manifest of a checkpoint.

    Raises:
      ManifestError: there is none, and the text says what is there; or it is damaged.
    """
    try:
        return read_manifest(source, format=FORMAT, version=VERSION)
    except ManifestError as error:
        cause = refused(source, error)
        if cause is error:
            raise
        raise cause from error.__context__


def _whole(path: StrPath, act: Callable[[Path, Mapping[str, Any]], T]) -> T:
    """Read something of one checkpoint, though others may replace it meanwhile."""
    return read_whole(path, "checkpoint", lambda source: act(source, manifest_of(source)))


def _verified(source: Path, manifest: Mapping[str, Any]) -> CheckpointInfo:
    verify_files(source, manifest, matches=digests.matches)
    return _info(source, manifest)


def _restored(
    info: CheckpointInfo, manifest: Mapping[str, Any], target: Any, only: Select, cast: Any, mapped: bool
) -> Any:
    wanted, cast = chosen(only, info.structure, target), check_cast(cast, target)
    wanted = kept_by_target(wanted, info.structure, target, not_saved())
    if target is not None:
        compare(info.structure, target, str(info.path), wanted, cast)
    verify_files(info.path, manifest, matches=digests.matches)
    return _read(info, target, wanted, cast, mapped)


def _read(info: CheckpointInfo, target: Any, wanted: ChosenPaths, cast: Any, mapped: bool) -> Any:
    everything = target is None and wanted.ends is None
    like = None if everything else placement(info.structure, target, wanted)
    backend: Any = load_backend(info.backend)
    mapped = mapped and hasattr(backend, "restore_mapped")
    try:
        state = (backend.restore_mapped if mapped else backend.restore)(info.path / DATA, like)
    except FileNotFoundError as error:
        # Every file in the manifest is there; one that the backend always writes is not in it.
        raise invalid_structure(f"the backend {info.backend!r} lacks a file", error.filename) from None
    if target is None:
        return put_together(info.structure, state, wanted, cast, mapped)
    return fill(info.structure, state, target, wanted, cast, mapped)


def _restore_iterators(source: Path, named: Mapping[str, Any], where: str) -> None:
    iterators.restore(source / ITERATORS, named, where)


def _info(path: Path, manifest: Mapping[str, Any]) -> CheckpointInfo:
    try:
        return CheckpointInfo(
            path=path,
            backend=_text(manifest["backend"]),
            backend_reason=_text(manifest.get("backend_reason", "asked for")),
            step=_step(manifest["step"]),
            metrics={name: float(value) for name, value in manifest["metrics"].items()},
            metadata=manifest["metadata"],
            created=_text(manifest["created"]),
            written_by={name: _text(version) for name, version in manifest["written_by"].items()},
            files={name: file["size"] for name, file in manifest["files"].items()},
            structure=_structure(manifest),
            left_out=tuple(map(_text, manifest.get("left_out", ()))),
        )
    except (KeyError, TypeError, ValueError, OverflowError, AttributeError) as error:
        raise invalid_structure("the manifest lacks what a checkpoint needs", error) from error


def _structure(manifest: Mapping[str, Any]) -> Node:
    return from_json(manifest["structure"])


def _step(value: Any) -> int | None:
    if value is not None and type(value) is not int:
        raise TypeError(f"a step is {value!r:.80}")
    return value


def _text(value: Any) -> str:
    if type(value) is not str:
        raise TypeError(f"a text is {value!r:.80}")
    return value
