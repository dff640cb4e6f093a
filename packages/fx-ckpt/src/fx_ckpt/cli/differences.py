"""What differs between two checkpoints."""

from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from fx_core.stored_dtypes import NUMBERS

from fx_ckpt import operations as checkpoint
from fx_ckpt.draft import DATA, load_backend
from fx_ckpt.info import CheckpointInfo
from fx_ckpt.tree.apart import child_state, root_state
from fx_ckpt.tree.structure import Branch, Leaf, Node, render, state_names, step_of
from fx_ckpt.tree.structure import Path as TreePath


class Difference(NamedTuple):
    """One leaf that differs.

    Attributes:
      path: where in the tree.
      first: what the first checkpoint has there.
      second: what the second has.
      largest: for arrays of one dtype and shape, the largest difference of two elements.
    """

    path: str
    first: str
    second: str
    largest: float | None = None


def differences(first: Path, second: Path, values: bool = True) -> list[Difference]:
    """Compares two checkpoints leaf by leaf.

    Args:
      first: a checkpoint.
      second: another one, of any backend.
      values: compare values, too, after checking every byte; otherwise only what the manifests say.
    """
    infos = [(checkpoint.verify if values else checkpoint.inspect)(path) for path in (first, second)]
    ours, theirs = [_leaves(info, values) for info in infos]
    lines: list[Difference] = []
    for path in sorted(ours.keys() | theirs.keys(), key=render):
        (leaf, value), (other_leaf, other) = ours.get(path, _ABSENT), theirs.get(path, _ABSENT)
        if str(leaf) != str(other_leaf):
            lines.append(Difference(render(path), str(leaf), str(other_leaf)))
        elif values and not _same(value, other):
            lines.append(
                Difference(render(path), _shown(leaf, value), _shown(other_leaf, other), _largest(leaf, value, other))
            )
    return lines


_ABSENT: tuple[Any, Any] = ("absent", None)


def _leaves(info: CheckpointInfo, values: bool) -> dict[TreePath, tuple[Any, Any]]:
    state: Any = load_backend(info.backend).restore(info.path / DATA) if values else None
    state = root_state(info.structure, state) if values else None
    found: dict[TreePath, tuple[Any, Any]] = {}
    _collect(info.structure, state, (), found)
    return found


def _collect(node: Node, state: Any, path: TreePath, found: dict[TreePath, tuple[Any, Any]]) -> None:
    if isinstance(node, Leaf):
        found[path] = (node, state)
        return
    if not node.keys:
        found[path] = (f"empty {_kind(node)}", None)
    for name, key, child in zip(state_names(node), node.keys, node.children):
        below = None if state is None else child_state(state, name, path)
        _collect(child, below, (*path, step_of(node.kind, key)), found)


def _kind(node: Branch) -> str:
    return "dictionary" if node.kind == "mapping" else "sequence or class"


def _same(value: Any, other: Any) -> bool:
    if hasattr(value, "dtype") and hasattr(other, "dtype"):
        # To the bit: a NaN is the same as itself, and -0.0 is not 0.0.
        return np.asarray(value).tobytes() == np.asarray(other).tobytes()
    return repr(value) == repr(other)


def _shown(leaf: Any, value: Any) -> str:
    return str(leaf) if hasattr(value, "dtype") and value.ndim else f"{leaf} {value}"


def _largest(leaf: Any, value: Any, other: Any) -> float | None:
    # Bytes and strings are stored as arrays, too, of their own lengths.
    if not isinstance(leaf, Leaf) or leaf.kind != "array" or leaf.raw:
        return None
    arrays = [x for x in (value, other) if hasattr(x, "dtype") and x.dtype.name in NUMBERS]
    if len(arrays) < 2 or value.shape != other.shape or not value.size:
        return None
    wide = np.complex128 if value.dtype.kind == "c" else np.float64
    with np.errstate(invalid="ignore"):
        return float(np.max(np.abs(np.asarray(value).astype(wide) - np.asarray(other).astype(wide))))
