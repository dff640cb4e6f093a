"""States: the variables of a model as nested mappings, without the objects around them."""

from collections.abc import Callable, Iterable, Iterator, Mapping, MutableMapping, Sequence
from typing import Any, Self, cast

import jax

from fx_nnx.errors import StateStructureError
from fx_nnx.filters import Filter, filters_to_predicates
from fx_nnx.paths import Path, as_int_key, sorted_keys
from fx_nnx.representation import Representable, show_value
from fx_nnx.states.flat import FlatState, partition
from fx_nnx.states.nesting import Paths, flatten, is_sortable, nest, nested_dicts, value_twice

__all__ = ["State", "value_of"]


class _Fields:
    """What a state keeps."""

    __slots__ = ("__weakref__", "_flat", "_nested")


class State(Representable, MutableMapping[Any, Any], _Fields):
    """A nested mapping of variables and arrays, keyed by attribute names and item numbers.

    States are what `fx_nnx.split` and `fx_nnx.state` give and `fx_nnx.merge` and `fx_nnx.update` take. They are
    pytrees, read by key or attribute:

    >>> state = State({"encoder": {"kernel": 1, "bias": 2}})
    >>> state["encoder"]["kernel"], state.encoder.bias
    (1, 2)

    A state from a split holds the variables of the model themselves; it costs nothing to make, since its mapping is
    built when it is used.

    Args:
      mapping: a nested mapping, or pairs of key and value.
      _copy: whether to copy the mapping.
    """

    __slots__ = ()
    _shows_numbers = True

    _flat: tuple[Sequence[Path], Sequence[Any]] | None
    _nested: dict[Any, Any] | None

    def __init__(self, mapping: Mapping[Any, Any] | Any = (), *, _copy: bool = True):
        nested = nested_dicts(mapping) if _copy or not isinstance(mapping, dict) else mapping
        object.__setattr__(self, "_flat", None)
        object.__setattr__(self, "_nested", nested)

    @classmethod
    def _from_flat(cls, paths: Sequence[Path], leaves: Sequence[Any]) -> Self:
        """Make a state from sorted paths and their leaves; the mapping is built on first use."""
        self = object.__new__(cls)
        object.__setattr__(self, "_flat", (paths, leaves))
        object.__setattr__(self, "_nested", None)
        return self

    @property
    def raw_mapping(self) -> dict[Any, Any]:
        """The nested dictionaries behind the state; changing them changes the state."""
        nested = self._nested
        if nested is None:
            paths, leaves = cast(Any, self._flat)
            treedef = paths.treedef if type(paths) is Paths else None
            nested = nest(paths, leaves) if treedef is None else treedef.unflatten(leaves)
            object.__setattr__(self, "_nested", nested)
            # From now on the dictionaries may be changed behind our back, through a view of an inner one.
            object.__setattr__(self, "_flat", None)
        return nested

    def _pairs(self) -> tuple[Sequence[Path], Sequence[Any]]:
        """Give sorted paths and leaves."""
        flat = self._flat
        if flat is not None:
            return flat
        pairs = list(flatten(self.raw_mapping))
        return [path for path, _ in pairs], [leaf for _, leaf in pairs]

    # --- mapping --------------------------------------------------------------------------------------------------

    def __getitem__(self, key: Any) -> Any:
        value = self.raw_mapping[key]
        return State(value, _copy=False) if isinstance(value, dict) else value

    def __setitem__(self, key: Any, value: Any) -> None:
        self.raw_mapping[key] = nested_dicts(value) if isinstance(value, Mapping) else value

    def __delitem__(self, key: Any) -> None:
        del self.raw_mapping[key]

    def __iter__(self) -> Iterator[Any]:
        return iter(self.raw_mapping)

    def __len__(self) -> int:
        return len(self.raw_mapping)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__") or name in _Fields.__slots__:
            raise AttributeError(name)
        try:
            return self[name]
        except KeyError:
            raise AttributeError(f"State has no key {name!r}; it has {list(self)}.") from None

    def __setattr__(self, name: str, value: Any) -> None:
        self[name] = value

    def __delattr__(self, name: str) -> None:
        del self[name]

    def __or__(self, other: "State") -> "State":
        return State.merge(self, other) if len(other) else self

    def __sub__(self, other: "State") -> "State":
        left, right = self.flat_state(), {path for path, _ in other.flat_state()}
        kept = [(path, leaf) for path, leaf in left if path not in right]
        return State._from_flat([path for path, _ in kept], [leaf for _, leaf in kept])

    def __getstate__(self) -> dict[Any, Any]:
        return self.raw_mapping

    def __setstate__(self, nested: dict[Any, Any]) -> None:
        object.__setattr__(self, "_flat", None)
        object.__setattr__(self, "_nested", nested)

    def _fields(self) -> dict[Any, Any]:
        return dict(self.raw_mapping)

    def _show(self) -> str:
        return f"State({show_mapping(self.raw_mapping)})"

    # --- parts and wholes -----------------------------------------------------------------------------------------

    def flat_state(self) -> FlatState:
        """Returns paths and leaves as a `FlatState`."""
        return FlatState.from_sorted_keys_values(*self._pairs())

    @classmethod
    def from_flat_path(cls, flat_state: Any) -> "State":
        """Creates a state from a mapping, or pairs, of paths and leaves."""
        pairs = flat_state.items() if isinstance(flat_state, Mapping) else flat_state
        return nested_state(FlatState(pairs, sort=True))

    def map(self, f: Callable[[Path, Any], Any]) -> "State":
        """Returns the state of ``f(path, leaf)`` for every leaf."""
        paths, leaves = self._pairs()
        return State._from_flat(paths, [f(path, leaf) for path, leaf in zip(paths, leaves)])

    def split(self, first: Filter, /, *filters: Filter) -> Any:
        """Returns one state per filter; each leaf goes to the first filter that matches.

        Raises:
          NnxError: no filter matches some leaf.
        """
        states = _select(self, (first, *filters), exhaustive=True)
        return states if filters else states[0]

    def filter(self, first: Filter, /, *filters: Filter) -> Any:
        """Returns one state per filter; leaves that none matches are left out."""
        states = _select(self, (first, *filters), exhaustive=False)
        return states if filters else states[0]

    @staticmethod
    def merge(state: Mapping[Any, Any], /, *states: Mapping[Any, Any]) -> "State":
        """Returns one state with the leaves of all; later ones win."""
        leaves: dict[Path, Any] = {}
        for part in (state, *states):
            leaves.update(flatten(part))
        return State(nest(list(leaves), list(leaves.values())), _copy=False)

    def to_pure_dict(self, extract_fn: Callable[[Any], Any] | None = None) -> dict[Any, Any]:
        """Returns nested dictionaries of values; see `fx_nnx.to_pure_dict`."""
        extract = value_of if extract_fn is None else extract_fn
        paths, leaves = self._pairs()
        return nest(paths, [extract(leaf) for leaf in leaves])

    def replace_by_pure_dict(self, pure_dict: Mapping[Any, Any], replace_fn: Any = None) -> None:
        """Puts in values from nested dictionaries; see `fx_nnx.replace_by_pure_dict`."""
        from_pure = _replaced if replace_fn is None else replace_fn
        nested = self.raw_mapping
        places: dict[tuple[int, Any], tuple[Any, Any]] = {}
        for path, value in flatten(pure_dict):
            node, key = _descend(nested, path)
            if (id(node), key) in places:
                raise value_twice(path)
            places[id(node), key] = node, value
        for (_, key), (node, value) in places.items():
            node[key] = from_pure(node[key], value)


def nested_state(flat: FlatState) -> State:
    """Returns the leaves of a flat state as a `State`; also the method ``to_nested_state`` of flat states."""
    return State._from_flat(flat.paths, flat.leaves)


# The two classes turn into each other; this direction is added here, so that the modules import one way.
FlatState.to_nested_state = nested_state


def _select(state: State, filters: tuple[Filter, ...], *, exhaustive: bool) -> tuple[State, ...]:
    paths, leaves = state._pairs()
    parts = partition(paths, leaves, filters_to_predicates(filters), exhaustive=exhaustive)
    return tuple(State._from_flat([paths[i] for i in part], [leaves[i] for i in part]) for part in parts)


def _descend(nested: dict[Any, Any], path: Path) -> tuple[dict[Any, Any], Any]:
    """Give the dictionary that has the leaf at a path, and its key there."""
    node: Any = nested
    for depth, key in enumerate(path):
        known = isinstance(node, dict)
        if known and key not in node:
            key = as_int_key(key)  # how formats with names for keys write it
        if not known or key not in node:
            from_here = f"keys {sorted_keys(node)}" if known else type(node).__name__
            raise StateStructureError(
                "The pure dictionary has a path that the state has not.", path[: depth + 1], got=from_here
            )
        if depth == len(path) - 1:
            return node, key
        node = node[key]
    raise StateStructureError("A state has no value at the empty path.", path)


def value_of(leaf: Any) -> Any:
    """Returns what a variable of a state stores; other leaves as they are."""
    if not hasattr(leaf, "get_raw_value"):
        return leaf
    return leaf.get_raw_value()[...] if leaf.ref else leaf.get_raw_value()


def _replaced(leaf: Any, value: Any) -> Any:
    return leaf.replace(value) if hasattr(leaf, "get_raw_value") else value


def show_mapping(mapping: Mapping[Any, Any]) -> str:
    """Shows nested dictionaries, indented."""
    if not mapping:
        return "{}"
    lines = []
    for key, value in mapping.items():
        shown = show_mapping(value) if isinstance(value, dict) else show_value(value)
        lines.append(f"{key!r}: {shown}".replace("\n", "\n  "))
    return "{\n  " + ",\n  ".join(lines) + "\n}"


def _children(state: State) -> tuple[tuple[Any, ...], list[Any]]:
    """Give keys and children: dictionaries as they are, which JAX takes apart fastest, unless it sorts otherwise."""
    flat = state._flat
    sortable = flat is not None and type(flat[0]) is Paths and flat[0].treedef is not None
    nested = state.raw_mapping
    keys = sorted_keys(nested)
    children = [nested[key] for key in keys]
    if not sortable:
        children = [_wrapped(x) if isinstance(x, dict) and not is_sortable(x) else x for x in children]
    return tuple(keys), children


def _wrapped(nested: dict[Any, Any]) -> State:
    # A bare object takes its fields faster than one that guards its attributes.
    made: Any = _Fields()
    made._flat = None
    made._nested = nested
    made.__class__ = State
    return made


def flatten_with_keys(state: State) -> tuple[Any, tuple[Any, ...]]:
    """Returns the children of a state as a pytree, with their keys, and what else `unflatten_state` needs."""
    keys, children = _children(state)
    return [(jax.tree_util.DictKey(key), child) for key, child in zip(keys, children)], keys


def flatten_state(state: State) -> tuple[list[Any], tuple[Any, ...]]:
    """Returns the children of a state as a pytree, and what else `unflatten_state` needs."""
    keys, children = _children(state)
    return children, keys


def unflatten_state(keys: tuple[Any, ...], children: Iterable[Any]) -> State:
    """Creates a state of its children."""
    nested = {}
    for key, child in zip(keys, children):
        nested[key] = child.raw_mapping if isinstance(child, State) else child
    return _wrapped(nested)


jax.tree_util.register_pytree_with_keys(State, flatten_with_keys, unflatten_state, flatten_state)
