"""Putting values into a model, after looking whether they belong there."""

import collections
import difflib
import re
import warnings
from collections.abc import Iterator, Mapping, Sequence
from operator import attrgetter
from typing import Any

from fx_core.compat.jax import array_aval, at_top_level, current_trace

from fx_nnx.captures import constants, frames, note_all
from fx_nnx.errors import ArgumentTypeError, StateStructureError, variable_value
from fx_nnx.graph.assembly import assembly_of
from fx_nnx.graph.children import Item
from fx_nnx.graph.kinds import kind_of
from fx_nnx.graph.record import Record, record_of
from fx_nnx.objects.pytree import Pytree
from fx_nnx.paths import Path, as_int_key, show_path, sorted_keys
from fx_nnx.states.flat import FlatState
from fx_nnx.states.nesting import value_twice
from fx_nnx.states.state import State
from fx_nnx.variables.fields import put_value
from fx_nnx.variables.kinds import Param
from fx_nnx.variables.variable import Variable
from fx_nnx.variables.writing import is_ref, own_value, write_ref, written

__all__ = ["update"]


def update(node: Any, state: Any, /, *states: Any) -> None:
    """Puts values into a model.

    A bare value takes the place of one that the model has, of the same shape; a `jax.Ref` that the model has stays, and
    gets the value. A variable brings its metadata along,
    and may be new to the model, as what was sown is. A parameter that has another shape, or whose name is nearly that
    of one that the model has, is warned of.

    >>> import jax.numpy as jnp
    >>> import fx_nnx as nnx
    >>> model = nnx.Dict(w=nnx.Param(jnp.ones(2)))
    >>> update(model, {"w": jnp.zeros(2)})
    >>> model.w[...]
    Array([0., 0.], dtype=float32)

    Args:
      node: the model; on an error it stays as it was.
      state: values by path: variables or bare values.
      *states: more of the same.

    Raises:
      ArgumentTypeError: a state is no state.
      StateStructureError: there is a bare value at a path that the model has no value at, a value where the model
        has several, or two values for one path, such as ``0`` and ``"0"``.
      NnxError: a bare value has another shape than the one that it replaces, or is no array.
      TraceLevelError: the model was made outside the transform that runs.
    """
    if isinstance(node, Variable):
        return _update_variable(node, state)
    parts = (state, *states)
    record = record_of(node)
    if len(parts) == 1 and isinstance(state, State) and _put_all(record, state):
        return None
    targets = dict(zip(record.graphdef.paths, record.leaves))
    placed = [pair for part in parts for pair in _placed(part, targets)]
    for path, leaf in placed:
        target = targets.get(path)
        if target is None or target is not leaf:
            _check(node, targets, path, target, leaf)
    for path, leaf in placed:
        target = targets.get(path)
        if target is None:
            _add(node, path, leaf)
        elif target is not leaf:
            _write(target, leaf)
    return None


_shape_of = attrgetter("shape")


def _put_all(record: Record, state: State) -> bool:
    """Put in all values, if that takes no more than putting them in."""
    leaves = record.graphdef.leaves_of(state)
    try:
        # Variables of any types: what comes along is their metadata.
        if leaves is None or not assembly_of(record.graphdef).has_metadata(leaves):
            return False
    except AttributeError:  # bare values
        return False
    if constants or record.trace() != current_trace():
        return False
    values = [leaf._raw_value for leaf in leaves]  # since Python 3.12 in a third of the time of `map`
    if not _same_shapes(record, values):
        return False
    if frames or not at_top_level():
        note_all(list(leaves))
    collections.deque(map(put_value, record.leaves, values), maxlen=0)
    return True


def _same_shapes(record: Record, values: Sequence[Any]) -> bool:
    """Whether values are arrays of the shapes of those that they replace."""
    try:
        # The results of a compiled function have the same types, as objects, each time that it is called, and a list
        # looks at identity first. Keys make theirs each time, in 8 us.
        avals = list(map(array_aval, values))
    except TypeError:
        avals = None
    try:
        shapes = [] if avals else list(map(_shape_of, values))
        if (avals or shapes) == record.avals:
            return True
        same = list(map(_shape_of, avals or values)) == [leaf._raw_value.shape for leaf in record.leaves]
    except AttributeError:  # no array
        return False
    record.avals = (avals or shapes) if same else None
    return same


def _update_variable(variable: Variable[Any], state: Any) -> None:
    if isinstance(state, State):  # what `fx_nnx.state` gives where nothing matches
        if len(state):
            path, leaf = state.flat_state()[0]
            raise StateStructureError(
                "A variable cannot take the values of several.", path, expected="a value", got=type(leaf).__name__
            )
    elif variable is not state:
        _write(variable, state)


def _placed(part: Any, targets: Mapping[Path, Any]) -> list[tuple[Path, Any]]:
    """Give the paths and values of one state, which has one value for each path."""
    pairs = list(_leaves(part, targets))
    if len(dict(pairs)) < len(pairs):
        raise value_twice(next(path for n, (path, _) in enumerate(pairs) if path in dict(pairs[:n])))
    return pairs


def _leaves(part: Any, targets: Mapping[Path, Any], prefix: Path = ()) -> Iterator[tuple[Path, Any]]:
    """Give paths and values; what is below a variable is the value of that variable."""
    if isinstance(part, State | FlatState) and not prefix:
        yield from part.flat_state() if isinstance(part, State) else part
        return
    if not isinstance(part, Mapping):
        raise ArgumentTypeError(
            "nnx.update takes states.",
            expected="what nnx.state gives, or a nested dictionary of values",
            got=f"{type(part).__name__} {part!r:.80}",
        )
    for key in sorted_keys(part):
        path, value = (*prefix, key), part[key]
        if isinstance(value, Mapping) and not isinstance(value, Variable) and not _holds_mapping(targets.get(path)):
            yield from _leaves(value, targets, path)
        else:
            yield path if path in targets else _with_numbers(path, targets), value


def _with_numbers(path: Path, targets: Mapping[Path, Any]) -> Path:
    """Give a path that the model has for one whose numbers a file format made text."""
    numbered = tuple(map(as_int_key, path))
    return numbered if numbered in targets else path


def _holds_mapping(target: Any) -> bool:
    return isinstance(target, Variable) and isinstance(target.get_raw_value(), Mapping)


def _check(node: Any, targets: Mapping[Path, Any], path: Path, target: Any, leaf: Any) -> None:
    """Look whether a value belongs to a path of the model."""
    if target is None:
        _check_new(node, targets, path, leaf)
        return
    old = target if is_ref(target) else target.read() if type(target) is Item else target.get_raw_value()
    new = leaf.get_raw_value() if isinstance(leaf, Variable) else leaf
    wanted, got = getattr(old, "shape", None), getattr(new, "shape", None)
    if wanted is None or wanted == got:
        return
    where = f"{type(node).__name__}{show_path(path)}"
    if not isinstance(leaf, Variable) and (got is not None or wanted or not isinstance(new, int | float | complex)):
        raise variable_value(
            type(target).__name__ if isinstance(target, Variable) else "array",
            where,
            "the value does not belong here",
            expected=f"an array of shape {tuple(wanted)}",
            got=repr(new) if got is None else f"an array of shape {tuple(got)}",
            fix="load what was saved for this model; variable.set_value(value) puts in anything",
        )
    if isinstance(leaf, Variable) and isinstance(target, Param):
        warnings.warn(f"nnx.update: {where} had shape {tuple(wanted)} and now has {got}.", stacklevel=3)


def _check_new(node: Any, targets: Mapping[Path, Any], path: Path, leaf: Any) -> None:
    owner, held = _owner(node, path)
    held = _NOTHING if held is None else held
    known = [show_path(other) for other in targets]
    where = f"{type(node).__name__}{show_path(path)}"
    if held is not _NOTHING and kind_of(held) not in ("variable", "leaf"):
        what = "The state has one value where the model has several."
        raise StateStructureError(what, path, expected=f"values below {where}", got=_shown(leaf), fix=_FIX)
    if held is not _NOTHING and isinstance(owner, dict | list) and not _is_shared(held):
        return  # a number in a plain container
    if _is_shared(held):  # reachable on another path too
        _check(node, targets, path, held, leaf)
        return
    if not isinstance(leaf, Variable) or not isinstance(owner, Pytree | dict | list):
        near = difflib.get_close_matches(show_path(path), known, 3, 0.5) or known[:5]
        what = "The state has a value that the model has no place for."
        raise StateStructureError(what, path, expected=f"one of {', '.join(near)}", got=_shown(leaf), fix=_FIX)
    near = _misspelt(path, targets) if isinstance(leaf, Param) else None
    if near is not None:
        warnings.warn(f"nnx.update: {where} is new to the model, which has {show_path(near)}.", stacklevel=4)


def _is_shared(held: Any) -> bool:
    """Whether something may be in a model on several paths, of which its structure has the first one."""
    return isinstance(held, Variable) or is_ref(held)


def _misspelt(path: Path, targets: Mapping[Path, Any]) -> Path | None:
    """Give the path that was meant, if the last name of a path looks like that of one beside it."""
    beside = {str(other[-1]): other for other in targets if other[:-1] == path[:-1]}
    for name in difflib.get_close_matches(str(path[-1]), beside, 3, 0.75):
        if re.sub("[0-9]", "", name) != re.sub("[0-9]", "", str(path[-1])):  # which numbers tell apart
            return beside[name]
    return None


def _shown(leaf: Any) -> str:
    shape = getattr(leaf, "shape", None)
    return f"{type(leaf).__name__} of shape {tuple(shape)}" if shape is not None else f"{type(leaf).__name__} {leaf!r}"


_NOTHING: Any = object()
_FIX = "compare the paths with those of nnx.state(model)"


def _owner(node: Any, path: Path) -> tuple[Any, Any]:
    """Give what holds the value at a path, and the value."""
    for depth, key in enumerate(path[:-1], 1):
        node = _child(node, key)
        if node is _NOTHING:
            what = "The state has values below something that the model has not."
            raise StateStructureError(what, path[:depth], fix=_FIX)
    return node, _child(node, path[-1])


def _child(node: Any, key: Any) -> Any:
    try:
        return dict(node._nnx_items())[key] if isinstance(node, Pytree) else node[key]
    except (KeyError, IndexError, TypeError):
        return _NOTHING


def _write(target: Any, leaf: Any) -> None:
    if type(target) is Item:
        held = target.read()
        if is_ref(held):
            _write(held, leaf)
        else:
            target.write(leaf)
    elif is_ref(target):
        if leaf is not target:
            write_ref(target, target, leaf[...] if is_ref(leaf) else leaf)
    elif isinstance(leaf, Variable):
        target.update_from_state(leaf)
    elif isinstance(leaf, int | float | complex) and isinstance(getattr(target.get_raw_value(), "shape", None), tuple):
        target.set_raw_value(written(target, ..., leaf))
    else:
        target.set_raw_value(dict(leaf) if isinstance(leaf, State) else own_value(type(target), leaf))


def _add(node: Any, path: Path, leaf: Any) -> None:
    """Give a model a value at a path that it has no value at."""
    owner, held = _owner(node, path)
    if _is_shared(held):
        _write(held, leaf)
    elif isinstance(owner, Pytree):
        owner._nnx_set(path[-1], leaf)
    elif isinstance(owner, list) and path[-1] == len(owner):
        owner.append(leaf)
    else:
        owner[path[-1]] = leaf
