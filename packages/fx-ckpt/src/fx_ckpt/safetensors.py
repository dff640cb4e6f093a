"""Trees as plain safetensors, for other programs and from them: one file, or the layout of Hugging Face.

These files hold arrays and nothing else: no manifest, no checksum, no Python values. `fx_ckpt.save` with
``backend="safetensors"`` makes checkpoints.
"""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np
from fx_core import filesystem
from fx_core.errors import AlreadyExistsError, ArgumentError
from fx_core.files import hidden_directory, local_path, make_directory, storing
from fx_core.patterns import glob

from fx_ckpt.errors import RestoreMismatchError, invalid_option, unsupported_leaf
from fx_ckpt.formats.extents import Extent, read_arrays
from fx_ckpt.formats.safetensors_file import has_dtype, read_header
from fx_ckpt.formats.safetensors_shards import LARGEST_FILE, put_in_place, read_headers, write_shards
from fx_ckpt.renaming import SAME, Rule, find, find_back
from fx_ckpt.tree.apart import ROOT, described, take_apart
from fx_ckpt.tree.fit import compare, fill
from fx_ckpt.tree.structure import Branch, Leaf, Node, is_text, state_names

StrPath = str | os.PathLike[str]


def save_safetensors(
    path: StrPath,
    tree: Any,
    *,
    rules: Sequence[Rule] = SAME,
    metadata: Mapping[str, str] | None = None,
    largest_file: int = LARGEST_FILE,
) -> Path:
    """Writes the arrays of a tree for other programs.

    Args:
      path: a file that ends in ``.safetensors``; or a directory, which gets ``model.safetensors``, or numbered files
        and ``model.safetensors.index.json``. What an earlier save wrote there is replaced, in whichever of these
        layouts; other files stay.
      tree: a pytree of arrays, of dtypes that safetensors has.
      rules: how names are translated, and arrays transposed; by default names are paths with dots.
      metadata: text to keep in the files, such as ``{"format": "pt"}``, which some programs ask for.
      largest_file: bytes after which a directory gets another file.

    Returns:
      The path.

    Raises:
      UnsupportedLeafError: the tree holds something else than arrays of these dtypes.
      ArgumentError: no rule is for an array, or two arrays get one name.
      ArgumentError: the metadata is not text by name.
      AlreadyExistsError: a directory is in the place of the file, or a file in that of the directory.
      StorageError: the system could not write: the disk is full, or the like.
      ArgumentError: the path is the URL of another place, or no name of a file.

    Example:
      >>> import tempfile
      >>> from fx_ckpt import torch_rules
      >>> params = {"head": {"kernel": np.ones((2, 3), np.float32), "bias": np.zeros(3, np.float32)}}
      >>> path = save_safetensors(tempfile.mkdtemp() + "/m.safetensors", params, rules=torch_rules())
      >>> load_safetensors(path)["head"]["weight"].shape
      (3, 2)
      >>> load_safetensors(path, params, rules=torch_rules())["head"]["kernel"].shape
      (2, 3)
    """
    arrays = _renamed(tree, rules)
    _check_metadata(metadata)
    path = local_path(path)
    alone = path.suffix == ".safetensors"
    directory = path.parent if alone else path
    if alone and path.is_dir():
        raise AlreadyExistsError(path, "a directory, where a file is to be")
    with storing(path):
        make_directory(directory)
        with hidden_directory(directory / path.name) as hidden:
            write_shards(hidden, arrays, metadata, largest=2**63 if alone else largest_file)
            filesystem.flush_tree(hidden)
            put_in_place(hidden, directory, path.name if alone else None)
            filesystem.flush_directory(directory)
    return path


def load_safetensors(
    path: StrPath,
    target: Any = None,
    *,
    rules: Sequence[Rule] | None = None,
    ignore: Sequence[str] = (),
    follow_links: bool = False,
) -> Any:
    """Reads safetensors of any program.

    Args:
      path: a file, or a directory in the layout of Hugging Face.
      target: a tree; its arrays may be `jax.ShapeDtypeStruct`, and say where to put the values. Its names decide where
        rules would allow several. Without a target, nested dictionaries of NumPy arrays come back.
      rules: how names were translated; by default names are paths with dots.
      ignore: their names that are left out, with ``*`` for anything, such as ``["*.num_batches_tracked"]``, which every
        BatchNorm of PyTorch has and nothing here needs.
      follow_links: read files that are links, as in Hugging Face's cache.

    Returns:
      The tree.

    Raises:
      FileNotFoundError: there is nothing at the path.
      ArgumentError: the path is the URL of another place, or no name of a file.
      DamagedDataError: the files are cut, changed, hostile, or something else.
      RestoreMismatchError: they do not have what the target wants, or more; the text lists everything.
      ArgumentError: no rule is for an array, or several are.

    >>> import tempfile
    >>> import numpy as np
    >>> import fx_ckpt
    >>> params = {"dense": {"kernel": np.ones((2, 3))}}
    >>> path = fx_ckpt.save_safetensors(tempfile.mkdtemp() + "/model.safetensors", params)
    >>> fx_ckpt.load_safetensors(path)["dense"]["kernel"].shape
    (2, 3)
    """
    headers = _headers(local_path(path), follow_links)
    headers = {name: entry for name, entry in headers.items() if not any(glob(name, pattern) for pattern in ignore)}
    if target is None:
        return _nested(headers, rules)
    node = described(target)
    saved: dict[str, Any] = {}
    missing, used = [], set()
    for name, leaf in _leaves(node, ()).items():
        theirs, rule = find(rules or SAME, name, len(leaf.shape))
        if theirs in headers:
            used.add(theirs)
            saved[name] = (headers[theirs], rule)
        else:
            missing.append(f"{name} ({theirs})")
    extra = sorted(headers.keys() - used)
    if missing or extra:
        raise RestoreMismatchError(str(path), missing, extra, [])
    stored = _stored(node, saved, ())
    compare(stored, target, str(path))
    arrays = _read([entry for entry, _ in saved.values()])
    ours = {name: _transposed(array, rule) for array, (name, (_, rule)) in zip(arrays, saved.items())}
    state = _state(node, ours, ())
    return fill(stored, state if isinstance(node, Branch) else {ROOT: state}, target)


def _renamed(tree: Any, rules: Sequence[Rule]) -> dict[str, Any]:
    node, state = take_apart(tree)
    arrays: dict[str, Any] = {}
    for name, array in _arrays(node, state if isinstance(node, Branch) else state[ROOT], ()):
        theirs, rule = find(rules, name, array.ndim)
        if theirs in arrays:
            raise ArgumentError(f"Two arrays would be called {theirs!r}.", got=name, fix="Add a Rule for it.")
        arrays[theirs] = array if rule.axes is None else np.transpose(np.asarray(array), rule.axes)
    return arrays


def _check_metadata(metadata: Any) -> None:
    for name, text in ({} if metadata is None else dict(metadata)).items():
        if type(name) is not str or type(text) is not str or not (is_text(name) and is_text(text)):
            fix = "Write numbers as text: metadata={'step': '3'}."
            raise invalid_option("metadata", "text by name", {name: text}, fix)


def _arrays(node: Node, state: Any, path: tuple[str, ...]) -> Any:
    if isinstance(node, Leaf):
        name = "/".join(path) or ROOT
        if node.kind != "array" or node.raw or not has_dtype(node.dtype):
            fix = "Leave it out, or use fx_ckpt.save with backend='safetensors', which stores everything."
            raise unsupported_leaf(name, f"{node}, which safetensors does not have", fix)
        yield name, state if isinstance(state, jax.Array) else np.asarray(state)
        return
    for name, child in zip(state_names(node), node.children):
        yield from _arrays(child, state[name], (*path, name))


def _headers(path: Path, follow_links: bool) -> dict[str, tuple[Path, Extent]]:
    if path.is_dir():
        return read_headers(path, follow_links)[0]
    return {name: (path, extent) for name, extent in read_header(path)[0].items()}


def _nested(headers: Mapping[str, tuple[Path, Extent]], rules: Sequence[Rule] | None) -> dict[str, Any]:
    tree: dict[str, Any] = {}
    arrays = _read(list(headers.values()))
    for (name, (_, extent)), array in zip(headers.items(), arrays):
        ours, rule = find_back(rules or SAME, name, len(extent.shape))
        *parents, last = ours.split("/")
        inner = tree
        for parent in parents:
            inner = inner.setdefault(parent, {}) if isinstance(inner, dict) else inner
        if not isinstance(inner, dict) or last in inner:
            raise ArgumentError(f"Two arrays would be at {ours!r}.", got=name, fix="Add a Rule for it.")
        inner[last] = _transposed(array, rule)
    return tree


def _transposed(array: np.ndarray, rule: Rule) -> np.ndarray:
    return array if rule.axes is None else np.ascontiguousarray(np.transpose(array, rule.inverse_axes))


def _read(entries: list[tuple[Path, Extent]]) -> list[np.ndarray]:
    paths = {path for path, _ in entries}
    found: dict[int, np.ndarray] = {}
    for path in paths:
        indices = [index for index, entry in enumerate(entries) if entry[0] == path]
        found.update(zip(indices, read_arrays(path, [entries[index][1] for index in indices])))
    return [found[index] for index in range(len(entries))]


def _leaves(node: Node, path: tuple[str, ...]) -> dict[str, Leaf]:
    if isinstance(node, Leaf):
        return {"/".join(path) or ROOT: node}
    found: dict[str, Leaf] = {}
    for name, child in zip(state_names(node), node.children):
        found.update(_leaves(child, (*path, name)))
    return found


def _stored(node: Node, saved: Mapping[str, Any], path: tuple[str, ...]) -> Node:
    """The structure of the target, with the arrays that the files have."""
    if isinstance(node, Leaf):
        (_, extent), rule = saved["/".join(path) or ROOT]
        shape = extent.shape if rule.axes is None else tuple(extent.shape[axis] for axis in rule.inverse_axes)
        return Leaf("array", extent.dtype.name, shape, origin=node.origin if node.kind == "array" else "numpy")
    children = [_stored(child, saved, (*path, name)) for name, child in zip(state_names(node), node.children)]
    return Branch(node.kind, node.type, node.keys, tuple(children))


def _state(node: Node, arrays: Mapping[str, Any], path: tuple[str, ...]) -> Any:
    if isinstance(node, Leaf):
        return arrays["/".join(path) or ROOT]
    return {name: _state(child, arrays, (*path, name)) for name, child in zip(state_names(node), node.children)}
