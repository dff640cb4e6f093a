"""How inputs and outputs go together, as JSON: dicts, lists, tuples and None around numbered leaves."""

from collections.abc import Iterator, Sequence
from typing import Any

from fx_export.errors import unreadable_bundle, unsupported_program

_DEPTH = 64


def described(tree: Any) -> Any:
    """Describes a pytree of plain containers; its leaves are numbered in JAX's order.

    Raises:
      UnsupportedProgramError: it has other containers.

    >>> described({"y": (0.5, None), "x": 1})
    {'dict': {'x': 0, 'y': {'tuple': [1, None]}}}
    """
    return _described(tree, iter(range(1 << 30)))


def _described(tree: Any, numbers: Iterator[int]) -> Any:
    if tree is None:
        return None
    if type(tree) in (list, tuple):
        return {type(tree).__name__: [_described(part, numbers) for part in tree]}
    if type(tree) is dict and all(isinstance(key, str) for key in tree):
        return {"dict": {key: _described(tree[key], numbers) for key in sorted(tree)}}
    if not hasattr(tree, "shape") and not isinstance(tree, (bool, int, float, complex)):
        raise unsupported_program(f"{type(tree).__name__} among inputs or outputs")
    return next(numbers)


def rebuilt(description: Any, leaves: Sequence[Any], path: str) -> Any:
    """Merges leaves as a description says.

    Args:
      description: what `described` gave.
      leaves: by number.
      path: the file that it comes from, for the error.

    Raises:
      BundleError: it is no such description.
    """
    return _rebuilt(description, leaves, path, _DEPTH)


def _rebuilt(description: Any, leaves: Sequence[Any], path: str, depth: int) -> Any:
    if description is None:
        return None
    if type(description) is int and 0 <= description < len(leaves):
        return leaves[description]
    if isinstance(description, dict) and len(description) == 1 and depth:
        ((kind, parts),) = description.items()
        if kind == "dict" and isinstance(parts, dict):
            return {key: _rebuilt(part, leaves, path, depth - 1) for key, part in parts.items()}
        if kind in ("list", "tuple") and isinstance(parts, list):
            built = [_rebuilt(part, leaves, path, depth - 1) for part in parts]
            return tuple(built) if kind == "tuple" else built
    raise unreadable_bundle(path, "the description of inputs or outputs is malformed.", got=str(description)[:100])
