"""Choosing a part of a tree: the filters of a partial restore."""

from collections.abc import Callable, Collection, Iterator, Mapping
from typing import Any, TypeAlias

from fx_core.patterns import glob
from fx_core.scope import DenyList

from fx_ckpt.errors import invalid_option
from fx_ckpt.tree.nodes import open_node
from fx_ckpt.tree.structure import Leaf, Node, Path, spelled, step_of

Select: TypeAlias = (
    "bool | str | type | Callable[[tuple[Any, ...], Leaf | None], bool] | Collection[Select] | DenyList | None"
)
"""What chooses leaves: see `fx_ckpt.restore`."""


def chooser(select: Select, names: Mapping[Path, str]) -> Callable[[Path, Leaf | None, tuple[Any, ...]], bool]:
    """Returns the function of path, leaf and enclosing classes that a filter stands for.

    Args:
      select: the filter.
      names: how each path is spelled.

    Raises:
      ArgumentError: it is no filter.
    """
    if select is None or isinstance(select, bool):
        return lambda path, leaf, classes: select is not False
    if isinstance(select, str):
        return lambda path, leaf, classes: _matches(names[path], select)
    if isinstance(select, type):
        name = f"{select.__module__}.{select.__qualname__}"
        return lambda path, leaf, classes: any(
            issubclass(cls, select) if isinstance(cls, type) else cls == name for cls in classes
        )
    if isinstance(select, DenyList):
        inner = chooser(select.deny, names)
        return lambda path, leaf, classes: not inner(path, leaf, classes)
    if callable(select):
        return lambda path, leaf, classes: bool(select(tuple(key for _, key in path), leaf))
    if isinstance(select, Collection):
        parts = [chooser(part, names) for part in select]
        return lambda path, leaf, classes: any(part(path, leaf, classes) for part in parts)
    expected = "a pattern, a class, a function of path and leaf, or several of these"
    raise invalid_option("only", expected, select, "Pass only='params/*', only=nnx.Param or the like.")


_SHOWN = 5


class ChosenPaths:
    """Paths of leaves, and of everything that holds them: ``path in chosen``.

    Args:
      ends: the paths of leaves and empty containers; None for all that there are.
    """

    def __init__(self, ends: set[Path] | None = None):
        self.ends = ends
        self._inner = None if ends is None else {path[:length] for path in ends for length in range(len(path) + 1)}

    def __contains__(self, path: Path) -> bool:
        return self._inner is None or path in self._inner


def chosen(select: Select, node: Node, target: Any) -> ChosenPaths:
    """Returns the paths that a filter chooses, in what was saved and in the target.

    Raises:
      ArgumentError: it chooses nothing.
    """
    if select is None or select is True:
        return ChosenPaths()
    saved = {path: leaf for path, leaf, _ in _saved(node, (), ())}
    wanted = {} if target is None else dict(_wanted(target, (), ()))
    names = spelled([*saved, *(path for path in wanted if path not in saved)])
    choose = chooser(select, names)
    found = {path for path, leaf, classes in _saved(node, (), ()) if choose(path, leaf, classes)}
    if target is not None:
        # The classes of a target are live: subclasses count. Elsewhere a class is known by its name.
        found = {path for path in found if path not in wanted}
        found |= {path for path, classes in wanted.items() if choose(path, saved.get(path), classes)}
    if not found:
        some = ", ".join(list(names.values())[:_SHOWN]) + (", …" if len(names) > _SHOWN else "")
        fix = f"Choose among {some}; fx_ckpt.inspect(path).leaves() has all."
        raise invalid_option("only", "a filter that chooses something", select, fix)
    return ChosenPaths(found)


def _matches(text: str, pattern: str) -> bool:
    """Whether a pattern matches a path or what it is in."""
    ends = [index for index, char in enumerate(text) if char in "/[{"] + [len(text)]
    # Only the star is special: paths have brackets and braces of their own.
    return any(glob(text[:end], pattern) for end in ends)


def _saved(node: Node, path: Path, classes: tuple[str, ...]) -> Iterator[tuple[Path, Leaf | None, tuple[str, ...]]]:
    if isinstance(node, Leaf):
        yield path, node, classes
        return
    classes = (*classes, node.type)
    if not node.keys:
        yield path, None, classes
    for key, child in zip(node.keys, node.children):
        yield from _saved(child, (*path, step_of(node.kind, key)), classes)


def _wanted(target: Any, path: Path, classes: tuple[type, ...]) -> Iterator[tuple[Path, tuple[type, ...]]]:
    opened = open_node(target)
    if opened is None or not opened.keys:
        yield path, classes if opened is None else (*classes, type(target))
        return
    for key, child in zip(opened.keys, opened.children):
        yield from _wanted(child, (*path, step_of(opened.kind, key)), (*classes, type(target)))
