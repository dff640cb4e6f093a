"""Taking networks apart: the arrays of variables, states and modules by path, and putting others in their place."""

import dataclasses
import functools
from collections.abc import Iterator, Mapping
from typing import Any

import jax
import numpy as np
from fx_core.array_node import is_array_node
from fx_core.identity import identity_of
from fx_core.meta import AxisMetadata
from fx_core.stored_dtypes import NUMBERS

from fx_export.errors import unsupported_weight
from fx_export.torch.errors import TorchMismatchError

Path = tuple[str, ...]

_COLLECTIONS = frozenset(["cache", "intermediates", "perturbations", "losses"])
_TYPES = frozenset(["RngState", "Cache", "Intermediate", "Perturbation"])
"""What runs leave behind, and RNG streams: no weights."""

_DEEPEST = 200


@dataclasses.dataclass(frozen=True)
class Leaf:
    """One leaf of a tree.

    Attributes:
      path: where it is, without the collection; None for what is no weight.
      value: the array.
      holder: the variable that holds it, None where none does.
    """

    path: Path | None
    value: Any
    holder: Any = None


class Network:
    """A network's arrays by path.

    Args:
      tree: variables by collection, parameters, a state, or a module.

    Attributes:
      leaves: all leaves, in JAX's order.
      objects: what stands at a path, where that is an object such as a layer.

    Raises:
      ArgumentTypeError: a weight is no array of numbers.
      TorchMismatchError: two collections have an array at one path.
    """

    def __init__(self, tree: Any):
        self._tree = tree
        self.objects: dict[Path, Any] = {}
        self.leaves = list(self._collected(tree))
        paths = [leaf.path for leaf in self.leaves if leaf.path is not None]
        twice = sorted(
            {"/".join(path) for path in paths if paths.count(path) > 1} if len(set(paths)) < len(paths) else ()
        )
        if twice:
            raise TorchMismatchError([], [], [f"{path}: several collections have it" for path in twice])

    @functools.cached_property
    def arrays(self) -> dict[Path, Any]:
        """The weights by path."""
        return {leaf.path: leaf.value for leaf in self.leaves if leaf.path is not None}

    def twins(self) -> dict[Path, Path]:
        """For each path whose variable is at an earlier path, too, the earlier one."""
        first: dict[int, Path] = {}
        found: dict[Path, Path] = {}
        for leaf in self.leaves:
            if leaf.path is not None and leaf.holder is not None:
                earlier = first.setdefault(id(leaf.holder), leaf.path)
                if earlier != leaf.path:
                    found[leaf.path] = earlier
        return found

    def filled(self, arrays: Mapping[Path, np.ndarray]) -> Any:
        """Returns such a tree with other arrays; a module gets them itself."""
        values = [leaf.value if leaf.path is None else _placed(arrays[leaf.path], leaf.value) for leaf in self.leaves]
        if identity_of(self._tree) != "object":
            return jax.tree.unflatten(jax.tree.structure(self._tree, is_leaf=is_array_node), values)
        for leaf, value in zip(self.leaves, values):
            if leaf.path is not None:
                leaf.holder.set_value(value)
        return self._tree

    def _collected(self, tree: Any) -> Iterator[Leaf]:
        if isinstance(tree, Mapping) and "params" in tree:
            for name, part in _opened(tree) or ():
                yield from self._walk(part, (), None, name not in _COLLECTIONS)
        else:
            yield from self._walk(tree, (), None, True)

    def _walk(self, node: Any, path: Path, holder: Any, counts: bool) -> Iterator[Leaf]:
        if len(path) > _DEEPEST:
            raise unsupported_weight("/".join(path)[:200], "a tree that is nested too deeply")
        if identity_of(node) == "variable":
            holder = node
            counts = counts and not _TYPES & {cls.__name__ for cls in type(node).__mro__}
        elif identity_of(node) == "object":
            self.objects[path] = node
        children = None if is_array_node(node) else _opened(node)
        if children is None:
            yield Leaf(path if counts else None, _checked(path, node) if counts else node, holder)
            return
        # A variable, and a box with the names of axes, are no step on the way.
        within = identity_of(node) == "variable" or isinstance(node, AxisMetadata)
        for name, child in children:
            yield from self._walk(child, path if within else (*path, name), holder, counts)


def _opened(node: Any) -> list[tuple[str, Any]] | None:
    """Give the children of a pytree node with their names, None for a leaf."""
    found, _ = jax.tree_util.tree_flatten_with_path(node, is_leaf=lambda x: x is not node)
    if found and not found[0][0]:
        return None
    return [(jax.tree_util.keystr(keys[:1], simple=True), child) for keys, child in found if child is not None]


def _checked(path: Path, value: Any) -> Any:
    dtype = getattr(value, "dtype", None)
    if is_array_node(value) or getattr(dtype, "name", None) not in NUMBERS:
        what = f"{type(value).__name__}" + ("" if dtype is None else f" of dtype {dtype}")
        raise unsupported_weight("/".join(path), what)
    return value


def _placed(array: np.ndarray, like: Any) -> Any:
    array = np.ascontiguousarray(array).reshape(array.shape)
    if isinstance(like, np.ndarray | np.generic):
        return array
    sharding = like.sharding if isinstance(like, jax.ShapeDtypeStruct) or getattr(like, "committed", False) else None
    return jax.device_put(array, sharding)


def flattened(tree: Any, prefix: str = "", depth: int = 0) -> Iterator[tuple[str, Any]]:
    """Returns the leaves of nested dictionaries with dotted names.

    Raises:
      TorchMismatchError: they are nested without end.
    """
    if depth > _DEEPEST:
        raise TorchMismatchError([], [f"{prefix[:80]}: dictionaries that are nested too deeply"], [])
    for name, value in tree.items():
        if isinstance(value, Mapping):
            yield from flattened(value, f"{prefix}{name}.", depth + 1)
        else:
            yield f"{prefix}{name}", value
