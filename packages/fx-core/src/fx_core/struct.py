"""Dataclasses that are pytrees: immutable, with static fields where wanted.

    >>> import jax
    >>> from fx_core import struct
    >>> @struct.dataclass
    ... class Metrics:
    ...     loss: float
    ...     count: int = 0
    ...     name: str = struct.field(pytree_node=False, default="train")
    >>> metrics = Metrics(loss=2.0)
    >>> jax.tree.map(lambda x: x + 1, metrics)
    Metrics(loss=3.0, count=1, name='train')
    >>> metrics.replace(count=5)
    Metrics(loss=2.0, count=5, name='train')

JAX transforms the fields as it does the values of a dict; a field with ``pytree_node=False`` is part of the structure:
it needs ``==`` and a hash, and a new value means a new compilation.
"""

import dataclasses
import functools
from collections.abc import Callable, Mapping
from typing import Any, Self, TypeVar, dataclass_transform, overload

import jax

from fx_core import serialization
from fx_core.errors.kinds import ArgumentTypeError, ImmutableError

__all__ = ["PyTreeNode", "dataclass", "field"]

C = TypeVar("C", bound=type)

_MARK = "_fx_dataclass"
_DATA = "_fx_data_fields"


def field(pytree_node: bool = True, *, metadata: Mapping[str, Any] | None = None, **kwargs: Any) -> Any:
    """Declares a field, as `dataclasses.field` does.

    Args:
      pytree_node: False makes the field static: part of the tree's structure, not a child.
      metadata: kept with the field, beside an entry of ours.
      **kwargs: for `dataclasses.field` (``default``, ``default_factory``, ``init``, ``repr``, ...).
    """
    return dataclasses.field(metadata={**(metadata or {}), "pytree_node": pytree_node}, **kwargs)


@overload
def dataclass(clz: C, **kwargs: Any) -> C: ...
@overload
def dataclass(clz: None = None, **kwargs: Any) -> Callable[[C], C]: ...
@dataclass_transform(field_specifiers=(field,), kw_only_default=False, frozen_default=True)
def dataclass(clz: Any = None, **kwargs: Any) -> Any:
    """Makes a class a frozen dataclass, a pytree node with keys, and known to state dictionaries.

    The class gets a method ``replace(**updates)``, unless it defines one, that gives a changed copy. Rebuilding an
    object in a transform calls its ``__init__`` and ``__post_init__``, with whatever JAX puts in the fields. A field
    with ``init=False`` is derived: it is no part of the tree, and ``__post_init__`` or its default makes it anew.

    Decorating twice is harmless. Subclasses that add fields are decorated again.

    Args:
      clz: the class. None to get a decorator.
      **kwargs: for `dataclasses.dataclass`, such as ``kw_only=True``; ``frozen`` is True unless given.

    Returns:
      The class (a new one with ``slots=True``).

    Raises:
      ArgumentTypeError: it is no class.
      ImmutableError: by instances, when a field is assigned or deleted.
    """
    if clz is None:
        return functools.partial(dataclass, **kwargs)
    if not isinstance(clz, type):
        raise ArgumentTypeError("struct.dataclass decorates classes.", expected="a class", got=repr(clz))
    if _MARK in vars(clz):
        return clz
    cls = dataclasses.dataclass(clz, **{"frozen": True, **kwargs})
    if cls.__dataclass_params__.frozen:
        _explain_frozen(cls)
    data, static, derived = _sort_fields(cls)
    if "replace" not in vars(cls):
        cls.replace = _replace
    setattr(cls, _MARK, True)
    setattr(cls, _DATA, data)
    jax.tree_util.register_dataclass(cls, data, static, drop_fields=derived)
    serialization.register_serialization_state(cls, _to_state, _from_state)
    return cls


@dataclass_transform(field_specifiers=(field,), kw_only_default=False, frozen_default=True)
class PyTreeNode:
    """Base class whose subclasses are dataclasses as by `dataclass`, with types that checkers understand.

    >>> class Point(PyTreeNode):
    ...     x: float
    ...     y: float = 0.0
    >>> Point(1.0).replace(y=2.0)
    Point(x=1.0, y=2.0)

    Keyword arguments of the class statement go to `dataclasses.dataclass`: ``class Point(PyTreeNode, kw_only=True)``.
    """

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__()
        dataclass(cls, **kwargs)

    def replace(self, **overrides: Any) -> Self:
        """Returns a copy with some fields changed.

        Raises:
          ArgumentTypeError: a name is not a field that can be given.
        """
        return _replace(self, **overrides)


def _sort_fields(cls: type) -> tuple[list[str], list[str], list[str]]:
    data, static, derived = [], [], []
    for each in dataclasses.fields(cls):
        if not each.init:
            derived.append(each.name)
        elif each.metadata.get("pytree_node", True):
            data.append(each.name)
        else:
            static.append(each.name)
    return data, static, derived


def _replace(self: Any, **updates: Any) -> Any:
    fields = type(self).__dataclass_fields__
    unknown = [name for name in updates if name not in fields or not fields[name].init]
    if unknown:
        raise ArgumentTypeError(
            f"{type(self).__qualname__} cannot replace what it does not have.",
            expected="fields " + ", ".join([n for n in fields if fields[n].init]),
            got=", ".join(unknown),
            fix="Check the spelling, or declare the field in the class.",
        )
    return dataclasses.replace(self, **updates)


_replace.__name__ = "replace"
_replace.__doc__ = "Returns a copy with some fields changed; raises `ArgumentTypeError` for what is no field."


def _explain_frozen(cls: Any) -> None:
    """Let the errors of frozen instances say what to do instead."""
    forbid_set, forbid_delete = cls.__setattr__, cls.__delattr__

    def set_attribute(self: Any, name: str, value: Any) -> None:
        try:
            forbid_set(self, name, value)
        except dataclasses.FrozenInstanceError:
            raise _frozen_struct(type(self).__qualname__, name) from None

    def delete_attribute(self: Any, name: str) -> None:
        try:
            forbid_delete(self, name)
        except dataclasses.FrozenInstanceError:
            raise _frozen_struct(type(self).__qualname__, name, "delete") from None

    cls.__setattr__, cls.__delattr__ = set_attribute, delete_attribute


def _to_state(target: Any) -> dict[str, Any]:
    return serialization.named_to_state({name: getattr(target, name) for name in getattr(target, _DATA)})


def _from_state(target: Any, state: Any) -> Any:
    names = getattr(target, _DATA)
    state = serialization.matched(state, names, type(target).__qualname__)
    updates = {n: serialization.from_state_dict(getattr(target, n), state[n], n) for n in names}
    return dataclasses.replace(target, **updates)


def _frozen_struct(cls_name: str, field: str, action: str = "set") -> ImmutableError:
    fix = f"Make a changed copy: new = old.replace({field}=...)."
    return ImmutableError(f"Cannot {action} {field!r} of {cls_name}: its instances are immutable.", fix=fix)
