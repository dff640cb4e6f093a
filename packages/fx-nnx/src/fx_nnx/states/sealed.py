"""States whose structure cannot change."""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, NoReturn

import jax
from fx_core.errors import ArgumentTypeError

from fx_nnx.paths import sorted_keys
from fx_nnx.states.nesting import nested_dicts
from fx_nnx.states.state import State

__all__ = ["SealedState", "seal", "unseal"]


class SealedState(State):
    """A state whose structure cannot change, so that whoever knows it need not look again.

    Optimizers keep theirs in such. The variables in it may change their values as always.

    Args:
      mapping: a nested mapping, which is copied.
    """

    __slots__ = ()

    def __init__(self, mapping: Mapping[Any, Any]):
        super().__init__(mapping)

    @property
    def raw_mapping(self) -> dict[Any, Any]:
        """A copy of the nested dictionaries; changing it changes nothing here."""
        return nested_dicts(self._nested)

    def __getitem__(self, key: Any) -> Any:
        value = _nested(self)[key]
        return _view(value) if isinstance(value, dict) else value

    def __iter__(self) -> Iterator[Any]:
        return iter(_nested(self))

    def __len__(self) -> int:
        return len(_nested(self))

    def _refuse(self) -> NoReturn:
        raise ArgumentTypeError(
            "The structure of a sealed state cannot be changed.",
            got=f"a state with the keys {list(self)!r}",
            fix="change the values of its variables, or a copy: State(state.raw_mapping)",
        )

    def __setitem__(self, key: Any, value: Any) -> None:
        self._refuse()

    def __delitem__(self, key: Any) -> None:
        self._refuse()

    def replace_by_pure_dict(self, pure_dict: Mapping[Any, Any], replace_fn: Any = None) -> None:
        """Not possible, see `ArgumentTypeError`."""
        self._refuse()


def _nested(state: SealedState) -> dict[Any, Any]:
    nested: Any = state._nested
    return nested


def _view(nested: dict[Any, Any]) -> SealedState:
    made = object.__new__(SealedState)
    object.__setattr__(made, "_flat", None)
    object.__setattr__(made, "_nested", nested)
    return made


def _is_state(x: Any) -> bool:
    return isinstance(x, State)


def seal(tree: Any) -> Any:
    """Returns a tree whose states are sealed."""
    return jax.tree.map(lambda x: SealedState(x) if _is_state(x) else x, tree, is_leaf=_is_state)


def unseal(tree: Any) -> Any:
    """Returns a tree with open states in place of sealed ones."""
    return jax.tree.map(lambda x: State(x.raw_mapping, _copy=False) if _is_state(x) else x, tree, is_leaf=_is_state)


def _children(state: SealedState) -> tuple[tuple[Any, ...], list[Any]]:
    nested = _nested(state)
    keys = tuple(sorted_keys(nested))
    return keys, [_view(v) if isinstance(v, dict) else v for v in (nested[key] for key in keys)]


def _flatten_with_keys(state: SealedState) -> tuple[Any, tuple[Any, ...]]:
    keys, children = _children(state)
    return [(jax.tree_util.DictKey(key), child) for key, child in zip(keys, children)], keys


def _flatten(state: SealedState) -> tuple[list[Any], tuple[Any, ...]]:
    keys, children = _children(state)
    return children, keys


def _unflatten(keys: tuple[Any, ...], children: Iterable[Any]) -> SealedState:
    return _view({k: _nested(c) if isinstance(c, SealedState) else c for k, c in zip(keys, children)})


jax.tree_util.register_pytree_with_keys(SealedState, _flatten_with_keys, _unflatten, _flatten)
