"""What a function did to its arguments: the hashable part, and what the body of a loop hands on."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
from fx_transforms.carrier import Outcome, Static
from fx_transforms.errors import CarryChangedError

from fx_nnx.graph.children import Item
from fx_nnx.graph.definition import GraphDef
from fx_nnx.graph.kinds import is_node
from fx_nnx.graph.record import Walk
from fx_nnx.transforms.layout import Group, Inner, Layout, read_value
from fx_nnx.variables.variable import Variable

__all__ = [
    "GAP",
    "Change",
    "Fresh",
    "Result",
    "Returned",
    "changes_of",
    "identical",
    "is_gap",
    "take_carry",
    "write_value",
]


class Result(NamedTuple):
    """The structure of a result that has objects in it, or whose arrays are in groups.

    Attributes:
      treedef: its tree definition.
      nodes: which of its leaves are objects.
      grouped: whether the arrays are in groups, not in the result.
      refs: for each leaf that is a `jax.Ref` its number and what it is: ``~number`` of a value of the arguments, the
        number of an earlier leaf, or its own number for one that was made inside, whose value comes out.
    """

    treedef: Any
    nodes: tuple[bool, ...]
    grouped: bool
    refs: tuple[tuple[int, int], ...]

    def fill(self, made: Sequence[Any], arrays: Sequence[Any], out: Any, known: Any, new_ref: Any = jax.new_ref) -> Any:
        """Returns the result.

        Args:
          made: its objects.
          arrays: its arrays, if they are grouped.
          out: it with gaps, if they are not.
          known: a function from the number of a value of the arguments to the reference that it is.
          new_ref: makes a reference that holds a value.
        """
        objects = iter(made)
        if not self.grouped and not self.refs:
            return jax.tree.map(lambda x: next(objects) if is_gap(x) else x, out, is_leaf=is_gap)
        if self.grouped:
            rest = iter(arrays)
            leaves = [next(objects if node else rest) for node in self.nodes]
        else:
            emptied = jax.tree.leaves(out, is_leaf=is_gap)
            leaves = [next(objects) if node else leaf for node, leaf in zip(self.nodes, emptied)]
        for number, source in self.refs:
            if source < 0:
                leaves[number] = known(~source)
            else:
                leaves[number] = new_ref(leaves[number]) if source == number else leaves[source]
        return self.treedef.unflatten(leaves)

    def emptied(self, leaves: Sequence[Any]) -> Any:
        """Returns the result, whose arrays are not grouped, with gaps where objects are."""
        emptied = [GAP if node else leaf for leaf, node in zip(leaves, self.nodes)]
        for number, source in self.refs:
            emptied[number] = leaves[number][...] if source == number else GAP
        return jax.tree.unflatten(self.treedef, emptied)


GAP = Static("object")


def is_gap(x: Any) -> bool:
    """Returns whether something stands for an object."""
    return type(x) is Static


class Fresh(NamedTuple):
    """The structure of arguments and result, where there is something in it that is new to the caller.

    Attributes:
      graphdef: the structure of the arguments and of the objects in the result.
      groups: groups of the values that making it takes: those of new variables and of attributes. For a value that the
        arguments have already, ``~number``.
      skip: how many of its roots, the first ones, the caller has as they are.
      head: how many of the others are arguments.
      outer: pairs of a number in the structure and the number among the arguments, for what exists.
      refs: those of the values, by position, that a new `jax.Ref` is to hold, with the position whose reference it is.
    """

    graphdef: GraphDef
    groups: tuple[int, ...]
    skip: int = 0
    head: int = 0
    outer: tuple[tuple[int, int], ...] = ()
    refs: tuple[tuple[int, int], ...] = ()


class Change(NamedTuple):
    """What a function did to its arguments: what a `Static` holds as the shape on the way out.

    Attributes:
      written: numbers of the values that were changed.
      returned: numbers of the values that come back, which those are among.
      fresh: what is new to the caller, if anything is.
      result: the structure of the result, if it has objects or is in groups.
      arrays: groups of the arrays of the result, if they are in groups.
      plain: if nothing but written values of targets comes back besides the result, for each group which of the targets
        they are for, and an empty tuple if there are none; None otherwise.
    """

    written: tuple[int, ...]
    returned: tuple[int, ...]
    fresh: Fresh | None
    result: Result | None
    arrays: tuple[int, ...]
    plain: tuple[tuple[bool, ...], ...] | None


def changes_of(loop: Callable[..., Outcome], layout: Layout, *args: Any) -> Outcome:
    """Runs a loop, and returns what it leaves behind, without the values that steps hand on and none has written."""
    outcome = loop(layout, *args)
    change: Change = outcome.shape.value
    count, written = len(layout.graphdef.numbers), frozenset(change.written)
    returned = tuple([number for number in change.returned if number >= count or number in written])
    groups: list[Group | None] = []
    for index, group in enumerate(outcome.groups):
        if group is not None:
            numbers = [number for number in change.returned if layout.groups[number] == index]
            kept = [at for at, number in enumerate(numbers) if number >= count or number in written]
            kept += range(len(numbers), len(group.values))
            group = Group(Static(None, [group.paths.note[at] for at in kept]), [group.values[at] for at in kept])
        groups.append(group)
    plain = None
    if returned == change.written and change.fresh is None and change.result is None and len(groups) == 1:
        plain = layout.by_group(returned, 1)
    return Outcome(Static(change._replace(returned=returned, plain=plain)), tuple(groups), outcome.out)


def write_value(target: Any, value: Any) -> None:
    """Puts a value into a variable, without hooks, or into an item."""
    if type(target) is Item:
        target.write(value)
    else:
        target.set_raw_value(value)


def identical(now: Any, before: Any) -> bool:
    """Returns whether a value is the one that came in."""
    if now is before:
        return True
    if isinstance(now, jax.Array | Variable) or isinstance(before, jax.Array | Variable):
        return False
    (new, new_def), (old, old_def) = jax.tree.flatten(now), jax.tree.flatten(before)
    return new_def == old_def and all(a is b for a, b in zip(new, old))


class Returned(NamedTuple):
    """What the body of a loop gives.

    Attributes:
      carry: what takes the place of the carried argument in the next step.
      out: the rest of the result.
    """

    carry: Any
    out: Any


def take_carry(transform: str, inner: Inner, position: int, carry: Any) -> None:
    """Puts what a step hands on in the place of what it got.

    Objects that were not there before give their values to the ones in their place, if they have the same structure.

    Raises:
      CarryChangedError: it has another structure.
    """
    layout = inner.layout
    args, *rest = layout.tree(inner.roots, inner.now)  # as it came in, whatever a step did to lists and dicts
    handed_on = (*args[:position], carry, *args[position + 1 :]), *rest
    leaves, treedef = jax.tree.flatten(handed_on, is_leaf=is_node)
    nodes = tuple([is_node(leaf) for leaf in leaves])
    if treedef != layout.treedef or nodes != layout.nodes:
        shown = [str(jax.tree.structure(tree, is_leaf=is_node)) for tree in (args[position], carry)]
        before, after = (text.removeprefix("PyTreeDef") for text in shown)
        raise CarryChangedError(transform, [f"structure {before} in, {after} out"])
    inner.now = [leaf for leaf, node in zip(leaves, nodes) if not node]
    moves: list[tuple[Any, Any]] = []
    for before, after in zip(inner.roots, [leaf for leaf, node in zip(leaves, nodes) if node]):
        if after is not before:
            moves += _moves(transform, before, after)
    for target, value in moves:
        write_value(target, value)


def _moves(transform: str, before: Any, after: Any) -> list[tuple[Any, Any]]:
    """Pairs of a place and its new value, where one object takes the place of another."""
    walks = [Walk(), Walk()]
    for walk, root in zip(walks, (before, after)):
        walk.root(root, ())
    old, new = walks
    if old.graphdef() != new.graphdef():
        raise CarryChangedError(
            transform, [f"{type(before).__name__} in, {type(after).__name__} of another structure out"]
        )
    return [(target, read_value(source)) for target, source in zip(old.leaves, new.leaves)]
