"""Containers of modules, variables and arrays that notice when they change."""

import inspect
from collections.abc import Callable, Iterable, Iterator, MutableMapping, MutableSequence
from typing import Any, Generic, TypeVar

from fx_core.errors.ops import empty_sequential

from fx_nnx.errors import ArgumentTypeError
from fx_nnx.links import announce
from fx_nnx.modules.module import Module
from fx_nnx.objects.pytree import attributes_of, owned_kinds
from fx_nnx.representation import show_value

__all__ = ["Dict", "List", "Sequential"]

A = TypeVar("A")


class List(Module, MutableSequence[A], Generic[A]):
    """A list of anything: items that are data become part of the state, under their number.

    >>> layers = List([1, 2])
    >>> layers.append(3)
    >>> layers[-1], layers[:2], len(layers)
    (3, [1, 2], 3)

    Args:
      it: the first items.
    """

    __hash__ = object.__hash__
    __eq__ = object.__eq__

    def __init__(self, it: Iterable[A] | None = None, /):
        for number, value in enumerate(it or ()):
            self._nnx_set(number, value)

    def _values(self) -> list[Any]:
        attributes = attributes_of(self)
        return [attributes[number] for number in range(len(self))]

    def _position(self, index: Any) -> int:
        size = len(self)
        position = index + size if index < 0 else index
        if not 0 <= position < size:
            raise IndexError(f"index {index} of a List of {size} items")
        return position

    def __len__(self) -> int:
        return sum(isinstance(key, int) for key in attributes_of(self))

    def __iter__(self) -> Iterator[A]:
        return iter(self._values())

    def __getitem__(self, index: Any) -> Any:
        if isinstance(index, slice):
            return self._values()[index]
        return attributes_of(self)[self._position(index)]

    def __setitem__(self, index: Any, value: Any) -> None:
        if isinstance(index, slice):
            values = self._values()
            values[index] = value
            self._refill(values)
        else:
            self._nnx_set(self._position(index), value)

    def __delitem__(self, index: Any) -> None:
        values = self._values()
        del values[index]
        self._refill(values)

    def insert(self, index: int, value: A) -> None:
        """Puts a value before the item at ``index``."""
        values = self._values()
        values.insert(index, value)
        self._refill(values)

    def append(self, value: A) -> None:
        """Puts a value at the end."""
        self._nnx_set(len(self), value)

    def _nnx_kind(self, name: Any, value: Any, known: bool | None) -> bool:
        # Items move, so that the kind of an earlier item at this place says nothing about this one.
        return super()._nnx_kind(name, value, None)

    def _nnx_delete(self, name: Any) -> None:
        # Whoever takes an item out of the graph takes it out of the list.
        if isinstance(name, int):
            del self[name]
        else:
            super()._nnx_delete(name)

    def _refill(self, values: list[Any]) -> None:
        """Number the items anew; each keeps being data or static, unless it is new."""
        self._nnx_check_trace()
        attributes, kinds = attributes_of(self), owned_kinds(self)
        known = {id(attributes[n]): kinds[n] for n in range(len(self))}
        fresh = [known[id(v)] if id(v) in known else self._nnx_kind(n, v, None) for n, v in enumerate(values)]
        for number in range(len(self)):
            del attributes[number], kinds[number]
        for number, (value, kind) in enumerate(zip(values, fresh)):
            attributes[number], kinds[number] = value, kind
        announce(self)

    def _fields(self) -> list[Any]:
        return self._values()

    def _show(self) -> str:
        return _show_items("List", "[", [show_value(value) for value in self], "]")


class Dict(Module, MutableMapping[str, A], Generic[A]):
    """A dictionary of anything with string keys, which are also its attributes.

    >>> layers = Dict(first=1)
    >>> layers["second"] = 2
    >>> layers.second, list(layers)
    (2, ['first', 'second'])
    """

    __hash__ = object.__hash__  # type: ignore[assignment]  # equal only to itself, unlike other mappings
    __eq__ = object.__eq__

    def __init__(self, *args: Any, **kwargs: Any):
        for name, value in dict(*args, **kwargs).items():
            self[name] = value

    def __getitem__(self, key: str) -> Any:
        return attributes_of(self)[key]

    def __setitem__(self, key: str, value: Any) -> None:
        if not isinstance(key, str):
            raise ArgumentTypeError("The keys of a Dict are strings.", expected="a string", got=repr(key))
        self._nnx_set(key, value)

    def __delitem__(self, key: str) -> None:
        self._nnx_delete(key)

    def __iter__(self) -> Iterator[str]:
        return iter(attributes_of(self))

    def __len__(self) -> int:
        return len(attributes_of(self))

    def _fields(self) -> dict[str, Any]:
        return dict(self)

    def _show(self) -> str:
        return _show_items("Dict", "{", [f"{key!r}: {show_value(value)}" for key, value in self.items()], "}")


class Sequential(Module):
    """Calls one function or module after the other.

    A tuple that one returns becomes the arguments of the next, a dictionary its keyword arguments.

    >>> Sequential(lambda x: (x, 1), lambda a, b: a + b)(2)
    3

    Args:
      *layers: modules and functions.
    """

    def __init__(self, *layers: Callable[..., Any]):
        self.layers = List(layers)

    def __call__(self, *args: Any, rngs: Any = None, **kwargs: Any) -> Any:
        """Calls the first with the arguments, and each next one with the result.

        Without functions the result is the one argument, or what a function would hand on: a tuple, or a dictionary.

        Args:
          *args: for the first.
          rngs: streams or a key for each that has a parameter of this name, such as `Dropout`, instead of its own.
          **kwargs: for the first.

        Raises:
          ArgumentError: there are no functions, and arguments of both kinds.
        """
        if not len(self.layers):
            if args and kwargs:
                raise empty_sequential()
            return kwargs or (args[0] if len(args) == 1 else args or None)
        out: Any = None
        for i, layer in enumerate(self.layers):
            if i:
                args, kwargs = _arguments(out)
            if rngs is not None and _takes_rngs(layer):
                kwargs = {**kwargs, "rngs": rngs}
            out = layer(*args, **kwargs)
        return out


def _takes_rngs(layer: Callable[..., Any]) -> bool:
    try:
        parameter = inspect.signature(layer).parameters.get("rngs")
    except ValueError:  # functions of C may have none
        return False
    return parameter is not None and parameter.kind in (parameter.POSITIONAL_OR_KEYWORD, parameter.KEYWORD_ONLY)


def _arguments(out: Any) -> tuple[tuple[Any, ...], dict[str, Any]]:
    if isinstance(out, dict):
        return (), out
    return (out if isinstance(out, tuple) else (out,)), {}


def _show_items(name: str, left: str, items: list[str], right: str) -> str:
    if not items:
        return f"{name}({left}{right})"
    body = ",\n".join(items).replace("\n", "\n  ")
    return f"{name}({left}\n  {body}\n{right})"
