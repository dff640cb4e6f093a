"""State dictionaries: any tree as nested dicts with string keys, and back.

A state dictionary is what checkpoints hold: dicts keep their keys (as strings), lists and tuples become
``{"0": ..., "1": ...}``, named tuples and dataclasses ``{field: value}``; everything else is a leaf and stays as it is.

    >>> from fx_core.serialization import from_state_dict, to_state_dict
    >>> tree = {"layers": [1.0, 2.0], "step": 3, "extra": ()}
    >>> state = to_state_dict(tree)
    >>> state
    {'layers': {'0': 1.0, '1': 2.0}, 'step': 3, 'extra': {}}
    >>> from_state_dict(tree, state) == tree
    True

A state dictionary knows nothing of lists, tuples or classes: the *target* of `from_state_dict` brings the structure,
and its leaves are replaced.
"""

import functools
import threading
from collections import OrderedDict, defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, TypeVar

import jax

from fx_core.errors.kinds import ArgumentError
from fx_core.errors.serialization import StateDictMismatchError
from fx_core.frozen_dict import FrozenDict

__all__ = [
    "current_path",
    "from_state_dict",
    "is_serializable",
    "register_serialization_state",
    "to_state_dict",
]

T = TypeVar("T")
ToState = Callable[[Any], Any]
FromState = Callable[[Any, Any], Any]

_registry: dict[type, tuple[ToState, FromState]] = {}
_other_registries: list[Callable[[type], tuple[ToState, FromState] | None]] = []


class _Path(threading.local):
    def __init__(self) -> None:
        self.names: list[str] = []


_path = _Path()


@contextmanager
def _at(name: str) -> Iterator[None]:
    _path.names.append(name)
    try:
        yield
    finally:
        _path.names.pop()


def current_path() -> str:
    """Returns where in the tree the conversion is that runs now, such as ``"./params/kernel"``; empty outside of one.

    For functions given to `register_serialization_state`, so that their errors say where they are.
    """
    return "/".join(_path.names)


def register_serialization_state(
    ty: type, ty_to_state_dict: ToState, ty_from_state_dict: FromState, override: bool = False
) -> None:
    """Returns how a type becomes a state dictionary and back. `fx_core.struct` dataclasses do this by themselves.

    >>> class Counter:
    ...     def __init__(self, n):
    ...         self.n = n
    >>> register_serialization_state(Counter, lambda c: {"n": c.n}, lambda c, state: Counter(state["n"]))
    >>> to_state_dict([Counter(3)])
    {'0': {'n': 3}}

    Args:
      ty: the type; its subclasses are not meant.
      ty_to_state_dict: gives the state dictionary of an object, its parts converted by `to_state_dict`.
      ty_from_state_dict: takes a target object and a state dictionary, gives a new object.
      override: replace functions that are registered already.

    Raises:
      ArgumentError: the type has functions already and ``override`` is False.
    """
    if ty in _registry and not override:
        raise _already_registered(f"{ty.__module__}.{ty.__qualname__}")
    _registry[ty] = (ty_to_state_dict, ty_from_state_dict)


def is_serializable(target: Any) -> bool:
    """Returns whether an object, or the class given, is taken apart in a state dictionary; other things are leaves."""
    ty = target if isinstance(target, type) else type(target)
    return _functions(ty) is not None


def to_state_dict(target: Any) -> Any:
    """Returns the state dictionary of a tree.

    Args:
      target: dicts, lists, tuples, named tuples, dataclasses of `fx_core.struct` and registered types, nested.

    Returns:
      Nested dicts with string keys, whose leaves are those of ``target``; a leaf itself when ``target`` is one.

    Raises:
      ArgumentError: two keys of a dict are the same string.
    """
    functions = _functions(type(target))
    return target if functions is None else functions[0](target)


def from_state_dict(target: T, state: Any, name: str = ".") -> T:
    """Puts the leaves of a state dictionary into a copy of a tree.

    Leaves come as they are in ``state``: neither shape nor dtype is compared with those of ``target``.

    Args:
      target: a tree with the structure that was saved.
      state: its state dictionary.
      name: name of this part of the tree in errors.

    Returns:
      A tree with the structure of ``target`` and the leaves of ``state``.

    Raises:
      StateDictMismatchError: names are missing or unknown, or a leaf came where a dict was needed. The text says at
        which path. Entries of a dict that the target lacks are left out: checkpoints may hold more than one needs.
    """
    functions = _functions(type(target))
    if functions is None:
        return state
    with _at(name):
        return functions[1](target, state)


def _functions(ty: type) -> tuple[ToState, FromState] | None:
    found = _registry.get(ty)
    if found is not None:
        return found
    if _is_namedtuple(ty):
        return _NAMEDTUPLE
    return next(filter(None, (find(ty) for find in _other_registries)), None)


def registered(ty: type) -> tuple[ToState, FromState] | None:
    """For fx-flax and fx-linen: the functions that were registered for a type in this registry, if any were."""
    return _registry.get(ty)


def ask_other_registry(find: Callable[[type], tuple[ToState, FromState] | None]) -> None:
    """For fx-flax: where to ask, from now on, for the functions of types that are not registered here."""
    _other_registries.append(find)


def _is_namedtuple(ty: type) -> bool:
    return issubclass(ty, tuple) and hasattr(ty, "_fields")


def matched(state: Any, names: Sequence[str], what: str, strict: bool = True) -> Mapping[str, Any]:
    """For modules of fx: check that ``state`` is a dict that has all ``names`` and, if strict, no other ones."""
    if not isinstance(state, Mapping):
        wanted = "a dict with " + (", ".join(map(repr, names)) or "no entries")
        raise StateDictMismatchError(what, current_path(), wanted, f"{type(state).__name__}: {state!r:.80}")
    missing = tuple(name for name in names if name not in state)
    unknown = tuple(str(name) for name in state if name not in set(names)) if strict else ()
    if missing or unknown:
        raise StateDictMismatchError(what, current_path(), list(names), list(state), missing, unknown)
    return state


def named_to_state(named: Mapping[str, Any]) -> dict[str, Any]:
    """For modules of fx: the state dictionary of parts with names."""
    state = {}
    for name, value in named.items():
        with _at(name):
            state[name] = to_state_dict(value)
    return state


def _dict_to_state(target: Mapping[Any, Any]) -> dict[str, Any]:
    named = {str(key): value for key, value in target.items()}
    if len(named) < len(target):
        texts = [str(key) for key in target]
        raise ArgumentError(
            "State dictionaries have string keys, and several keys here become the same string.",
            path=current_path(),
            expected="keys with distinct str(key)",
            got=", ".join(map(repr, tuple(key for key in target if texts.count(str(key)) > 1))),
            fix="Rename one of the keys.",
        )
    return named_to_state(named)


def _dict_items(target: Mapping[Any, Any], state: Any) -> dict[Any, Any]:
    state = matched(state, [str(key) for key in target], "dict", strict=False)
    return {key: from_state_dict(value, state[str(key)], str(key)) for key, value in target.items()}


def _defaultdict_from_state(target: defaultdict[Any, Any], state: Any) -> defaultdict[Any, Any]:
    return defaultdict(target.default_factory, _dict_items(target, state))


def _sequence_to_state(target: Sequence[Any]) -> dict[str, Any]:
    return named_to_state({str(index): value for index, value in enumerate(target)})


def _sequence_from_state(make: Callable[[list[Any]], Any], target: Sequence[Any], state: Any) -> Any:
    names = [str(index) for index in range(len(target))]
    state = matched(state, names, f"{type(target).__name__} of {len(target)}")
    return make([from_state_dict(value, state[name], name) for name, value in zip(names, target)])


def _namedtuple_to_state(target: Any) -> dict[str, Any]:
    return named_to_state(dict(zip(target._fields, target)))


def _namedtuple_from_state(target: Any, state: Any) -> Any:
    if isinstance(state, Mapping) and state.keys() == {"name", "fields", "values"} != set(target._fields):
        state = _old_namedtuple(state)
    state = matched(state, target._fields, f"named tuple {type(target).__name__}")
    return type(target)(*(from_state_dict(value, state[name], name) for name, value in zip(target._fields, target)))


def _old_namedtuple(state: Mapping[str, Any]) -> dict[str, Any]:
    """Checkpoints of old Flax versions hold named tuples as their name, fields and values."""
    return {state["fields"][index]: value for index, value in state["values"].items()}


def _partial_to_state(target: jax.tree_util.Partial) -> dict[str, Any]:
    return named_to_state({"args": target.args, "keywords": target.keywords})


def _partial_from_state(target: jax.tree_util.Partial, state: Any) -> jax.tree_util.Partial:
    state = matched(state, ["args", "keywords"], "Partial")
    args = from_state_dict(target.args, state["args"], "args")
    return jax.tree_util.Partial(target.func, *args, **from_state_dict(target.keywords, state["keywords"], "keywords"))


_NAMEDTUPLE = (_namedtuple_to_state, _namedtuple_from_state)

register_serialization_state(dict, _dict_to_state, _dict_items)
register_serialization_state(FrozenDict, _dict_to_state, lambda target, state: FrozenDict(_dict_items(target, state)))
register_serialization_state(OrderedDict, _dict_to_state, lambda target, state: OrderedDict(_dict_items(target, state)))
register_serialization_state(defaultdict, _dict_to_state, _defaultdict_from_state)
register_serialization_state(list, _sequence_to_state, functools.partial(_sequence_from_state, list))
register_serialization_state(tuple, _sequence_to_state, functools.partial(_sequence_from_state, tuple))
register_serialization_state(jax.tree_util.Partial, _partial_to_state, _partial_from_state)

_BYTES = ("MAX_CHUNK_SIZE", "from_bytes", "msgpack_restore", "msgpack_serialize", "to_bytes")


def __getattr__(name: str) -> Any:
    if name in _BYTES:
        # The bytes need msgpack and belong to checkpoints, which stand on the core.
        raise AttributeError(
            f"fx_core.serialization has no {name!r}: bytes are written and read by fx-ckpt. Install it and write "
            f"`from fx_ckpt import {name}`."
        )
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def _already_registered(type_name: str) -> ArgumentError:
    return ArgumentError(
        f"State dictionary functions for {type_name} are registered already.",
        got=type_name,
        fix="Register once, or pass override=True to replace them.",
    )
