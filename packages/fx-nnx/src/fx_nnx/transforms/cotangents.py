"""Cotangents of what a function left behind, in the form of what it got and gave."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from fx_transforms.carrier import Outcome

from fx_nnx.graph.assembly import assembly_of
from fx_nnx.graph.children import Item
from fx_nnx.graph.kinds import is_node
from fx_nnx.graph.record import Walk
from fx_nnx.states.state import State
from fx_nnx.transforms.change import Change, is_gap
from fx_nnx.transforms.layout import Handle, Inner, is_variable, result_paths

__all__ = ["ArgumentCotangents", "ResultCotangents"]


class ResultCotangents:
    """The form of a result, noted where it is made.

    Args:
      out: the result.
      inner: the arguments.
      updates: whether the result may have variables of the arguments. Then cotangents of objects are states, of what is
        new to the caller; else they are objects.
    """

    def __init__(self, out: Any, inner: Inner, *, updates: bool):
        self.updates = updates
        known = {id(thing) for thing in inner.index.values()}
        names, leaves, _ = result_paths((out,))
        walk = Walk().through(leaves, names)
        self.roots = [(name, is_variable(leaf)) for name, leaf in zip(names, leaves) if is_node(leaf)]
        self.variables: list[tuple[Any, Any, Any]] = [
            (path[0], path[1:], target)
            for path, target in zip(walk.paths, walk.leaves)
            if type(target) is Item or id(target) not in known
        ]

    def of(self, out: Any, values: Sequence[Any], collected: Outcome) -> Any:
        """Returns the cotangent of the result.

        Args:
          out: that of its arrays, with gaps for objects.
          values: those of all values that came back.
          collected: what came back.
        """
        change: Change = collected.shape.value
        if not self.roots:
            return out
        if self.updates:
            made = iter(self._states(values, collected.groups[0].paths.note))
        else:
            assert change.fresh is not None, "a result with objects has a structure"
            made = iter(assembly_of(change.fresh.graphdef).models(values[len(change.returned) :]))
        return jax.tree.map(lambda x: next(made) if is_gap(x) else x, out, is_leaf=is_gap)

    def _states(self, values: Sequence[Any], paths: Sequence[Any]) -> Iterator[Any]:
        found = {(path[0], tuple(path[1:])): value for path, value in zip(paths, values)}
        pairs = [
            (root, path, target.replace(found[root, path]) if is_variable(target) else found[root, path])
            for root, path, target in self.variables
            if (root, path) in found  # else it is an attribute of an argument
        ]
        for name, is_single in self.roots:
            mine = [(path, leaf) for root, path, leaf in pairs if root == name]
            yield (mine[0][1] if mine else None) if is_single else State.from_flat_path(mine)


class ArgumentCotangents:
    """The form of arguments, whose values a function has changed.

    Args:
      handle: the arguments of the caller.
      inner: the arguments that the function got.
      updates: whether the cotangents of objects are states of all variables, with zeros for what did not change; else
        they are objects, with None for that.
    """

    def __init__(self, handle: Handle, inner: Inner, *, updates: bool):
        self.handle, self.layout, self.updates = handle, inner.layout, updates
        self.kinds = [jax.tree.map(jax.typeof, value) for value in inner.values]

    def of(self, values: Sequence[Any], returned: Sequence[int], is_active: Callable[[int], bool]) -> tuple[Any, ...]:
        """Returns the cotangents of the arguments that take part.

        Args:
          values: those of the values that came back, in the order of their numbers.
          returned: their numbers.
          is_active: returns whether the argument at a position takes part.
        """
        layout, by_number = self.layout, dict(zip(returned, values))
        objects, made = iter(layout.roots), iter(() if self.updates else self._trees(by_number))
        leaves: list[Any] = []
        for leaf, node in zip(self.handle.leaves, layout.nodes):
            if not node:
                leaves.append(None)
            elif self.updates:
                leaves.append(self._state(next(objects), leaf, by_number))
            else:
                leaves.append(next(made))
        args = jax.tree.unflatten(layout.treedef, leaves)[0]
        return tuple(arg for n, arg in enumerate(args) if is_active(n))

    def _trees(self, by_number: dict[int, Any]) -> list[Any]:
        """Creates objects with None in the places of variables that have no value."""
        assembly = assembly_of(self.layout.graphdef)
        values = [by_number.get(number) for number in range(len(self.handle.targets))]
        pairs = zip(values, assembly.variables(values))
        return assembly.build([None if value is None else leaf for value, leaf in pairs], {})[0]

    def _state(self, root: Any, leaf: Any, by_number: dict[int, Any]) -> Any:
        pairs = []
        for number, (path, target) in enumerate(zip(self.layout.paths, self.handle.targets)):
            if path[0] is root and is_variable(target):
                value = by_number[number] if number in by_number else _zeros(self.kinds[number])
                pairs.append((path[1:], target.replace(value)))
        return (pairs[0][1] if pairs else None) if is_variable(leaf) else State.from_flat_path(pairs)


def _zeros(kind: Any) -> Any:
    def zero(aval: Any) -> Any:
        if jnp.issubdtype(aval.dtype, jnp.inexact):
            return jnp.zeros(aval.shape, aval.dtype)
        return np.zeros(aval.shape, jax.dtypes.float0)

    return jax.tree.map(zero, kind)
