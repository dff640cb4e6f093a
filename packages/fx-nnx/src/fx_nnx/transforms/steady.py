"""What is known of the arguments of an earlier call, so that a call in the steady state looks at no structure.

A plan is kept with the record of the first object among the arguments, and says what came of the walk through all of
them. It is true as long as all their records are, since whatever changes structure, references included, drops those.
"""

import itertools
import weakref
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
from fx_core.compat.jax import current_trace

from fx_nnx.captures import constants, warn_of_constant
from fx_nnx.graph.children import Item
from fx_nnx.graph.kinds import is_node, kind_of, known_kinds
from fx_nnx.graph.record import Record, record_of
from fx_nnx.transforms.layout import Layout, odd_keys_of
from fx_nnx.variables.fields import VariableFields, put_value

__all__ = ["Plan", "find_plan", "keep_plan", "write_values"]

_LIMIT = 64
_odd: dict[Any, bool] = {}


class Plan(NamedTuple):
    """What is known of a tuple of arguments.

    Attributes:
      layout: their layout.
      others: the records of the objects after the first one, held weakly.
      order: for each value the number of the record and the number of the value there; None if they follow each other.
      plain: whether all values are those of variables.
    """

    layout: Layout
    others: Sequence[weakref.ref[Record]]
    order: Sequence[tuple[int, int]] | None
    plain: bool


def find_records(tree: tuple[Any, ...]) -> tuple[list[Any], list[Record], list[Any], list[Any]] | None:
    """Returns the leaves of arguments, the records of the objects, the arrays, and what distinguishes the records.

    None if something among them is neither an object with a lasting record nor an array.
    """
    if not tree[1]:  # most often, there are no containers to look into
        # What a function is bound to comes last, and must not be mistaken for an argument.
        found = _records_of(list(tree[0]), []) if len(tree) == 2 else _records_of([*tree[0], *tree[2]], [len(tree[2])])
        if found is not None:
            return found
    leaves, treedef = jax.tree.flatten(tree, is_leaf=is_node)
    odd = _odd.get(treedef)
    if odd is None:
        if len(_odd) >= _LIMIT:
            _odd.clear()
        odd = _odd[treedef] = bool(odd_keys_of([path for path, _ in jax.tree.leaves_with_path(tree, is_leaf=is_node)]))
    # Tree definitions whose keys are 1 and True are equal, but the trees are not the same.
    return None if odd else _records_of(leaves, [treedef])


def _records_of(leaves: list[Any], key: list[Any]) -> tuple[list[Any], list[Record], list[Any], list[Any]] | None:
    records: list[Record] = []
    arrays: list[Any] = []
    for arg in leaves:
        kind = known_kinds.get(type(arg)) or kind_of(arg)
        if kind == "object":
            record = arg._nnx_record
            if record is None or not record.alive or (record.contents and not record.holds()):
                record = record_of(arg)
                if not record.lasting:
                    return None
            records.append(record)
            key.append(id(record))
        elif kind == "leaf":
            arrays.append(arg)
            key.append(None)
        else:
            return None
    return (leaves, records, arrays, key) if records else None


def find_plan(key: tuple[Any, ...], records: Sequence[Record]) -> tuple[Plan, list[Any]] | None:
    """Returns what was kept for a key, if it is about these records, and the variables and items."""
    try:
        plan: Any = records[0]._groups.get(key)
    except TypeError:  # a container with an unhashable part, of which the walk will tell more
        return None
    if plan is None or not all(ref() is record for ref, record in zip(plan.others, records[1:])):
        return None
    leaves = [record.leaves for record in records]
    if len(leaves) == 1:
        return plan, leaves[0]
    if plan.order is None:
        return plan, list(itertools.chain.from_iterable(leaves))
    return plan, [leaves[i][j] for i, j in plan.order]


def keep_plan(key: tuple[Any, ...], records: Sequence[Record], layout: Layout, targets: Sequence[Any]) -> None:
    """Keeps what a walk found."""
    position = {
        (id(leaf) if type(leaf) is not Item else (id(leaf.container), leaf.key)): (i, j)
        for i, record in reversed(list(enumerate(records)))
        for j, leaf in enumerate(record.leaves)
    }
    order = [position[id(t) if type(t) is not Item else (id(t.container), t.key)] for t in targets]
    straight = [(i, j) for i, record in enumerate(records) for j in range(len(record.leaves))]
    kept: Any = records[0]._groups
    if len(kept) >= _LIMIT:
        kept.clear()
    others = [weakref.ref(record) for record in records[1:]]
    plain = all(record.only_variables for record in records)
    kept[key] = Plan(layout, others, None if order == straight else order, plain)


_set_trace: Any = VariableFields.__dict__["_nnx_trace"].__set__
_latest: list[object] = [None]


def write_values(targets: Sequence[Any], numbers: Sequence[int], values: Sequence[Any]) -> None:
    """Puts values into variables, without hooks, and into items.

    Raises:
      TraceLevelError: a variable was made outside the transform that runs.
    """
    here = current_trace()
    if here == _latest[0]:
        here = _latest[0]
    else:
        _latest[0] = here
    for number, value in zip(numbers, values):
        target = targets[number]
        if type(target) is Item:
            target.write(value)
            continue
        if target._nnx_trace is not here:
            if target._nnx_trace != here:
                target._nnx_check_trace()
            _set_trace(target, here)  # the same trace, so that the next comparison is one of identity
        if constants:
            warn_of_constant(target)
        put_value(target, value)
