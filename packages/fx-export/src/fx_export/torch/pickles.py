"""The pickles of PyTorch's files, read without Python's unpickler: they make containers, numbers, texts and tensors.

A pickle is a program. This runs only the instructions that build data, and of everything it may name only what is in a
table: nothing is imported, called by name, or set on an object.
"""

import pickletools
import reprlib
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from fx_export.errors import BundleError
from fx_export.torch.errors import unreadable_torch_file

_MOST = 4_000_000
"""Instructions that a pickle may have: some hundred for each tensor."""

_LONGEST = 1 << 16
"""Bytes of a text, and digits of a number."""

_BEGIN = object()


_SHORT = reprlib.Repr()
_SHORT.maxlevel, _SHORT.maxother, _SHORT.maxstring, _SHORT.maxlong = 3, 80, 80, 40
Key = str | int | float | bytes | None


def shown(value: Any) -> str:
    """Describes a value of a pickle in a few letters: tuples that hold themselves twice have no end otherwise."""
    return _SHORT.repr(value)


def are_keys(values: Iterable[Any]) -> bool:
    """Returns whether values are plain: to hash a tuple that holds tuples twice can take forever."""
    return all(isinstance(value, Key) for value in values)


class Marker:
    """Something that a pickle names, and that means something to whoever reads it.

    Args:
      name: its name, module and all.
      call: what its call gives; None for what is only passed along.
    """

    def __init__(self, name: str, call: Callable[..., Any] | None = None):
        self.name, self.call = name, call


def unpickled(data: bytes, path: str, known: Mapping[str, Marker], persistent: Callable[[Any], Any]) -> Any:
    """Runs a pickle.

    Args:
      data: the pickle.
      path: the file, for errors.
      known: what it may name.
      persistent: gives what a reference to something outside stands for.

    Returns:
      What it makes: dicts, lists, tuples, sets, texts, bytes, numbers, None, markers, and what their calls gave.

    Raises:
      BundleError: it is malformed, too large, or wants something else.
    """
    machine = _Machine(path, known, persistent)
    try:
        for count, (opcode, arg, _) in enumerate(pickletools.genops(data)):
            if count > _MOST:
                raise unreadable_torch_file(path, "it has more instructions than any state dictionary.", fix=_TRUST)
            machine.run(opcode.name, arg)
        (result,) = machine.stack
    except BundleError:
        raise
    # What the parser and the stack stumble upon.
    except (ValueError, LookupError, TypeError, AttributeError, OverflowError, RecursionError, StopIteration) as error:
        raise unreadable_torch_file(path, "the pickle is malformed.", got=f"{type(error).__name__}: {error}") from error
    return result


_TRUST = (
    "Load it in PyTorch if you trust it, and save the state dictionary alone: torch.save(model.state_dict(), path)."
)
_CONSTANTS = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False}
_EMPTY: dict[str, Callable[[], Any]] = {"EMPTY_DICT": dict, "EMPTY_LIST": list, "EMPTY_TUPLE": tuple, "EMPTY_SET": set}
_LITERALS = frozenset(
    f"{size}{kind}" for kind in ("BINUNICODE", "BINBYTES", "BINSTRING") for size in ("", "SHORT_")
) | frozenset(["BININT", "BININT1", "BININT2", "LONG1", "LONG4", "BINFLOAT", "BINUNICODE8"])
_FOR_READERS = frozenset(["PROTO", "FRAME", "STOP"])
_SHORT_TUPLES = {"TUPLE1": 1, "TUPLE2": 2, "TUPLE3": 3}


class _Machine:
    """The stack, the memo, and what each instruction does with them."""

    def __init__(self, path: str, known: Mapping[str, Marker], persistent: Callable[[Any], Any]):
        self._path, self._known, self._persistent = path, known, persistent
        self.stack: list[Any] = []
        self._memo: dict[int, Any] = {}

    def run(self, name: str, arg: Any) -> None:
        stack = self.stack
        if name in _CONSTANTS:
            stack.append(_CONSTANTS[name])
        elif name in _EMPTY:
            stack.append(_EMPTY[name]())
        elif name in _LITERALS:
            stack.append(self._limited(arg))
        elif name in _SHORT_TUPLES:
            parts = [stack.pop() for _ in range(_SHORT_TUPLES[name])]
            stack.append(tuple(reversed(parts)))
        elif name not in _FOR_READERS:
            method = getattr(self, f"_{name.lower()}", None)
            if method is None:
                raise unreadable_torch_file(self._path, f"its pickle has the instruction {name}.", fix=_TRUST)
            method(arg)

    def _limited(self, value: Any) -> Any:
        size = value.bit_length() if isinstance(value, int) else len(value) if isinstance(value, (str, bytes)) else 0
        if size > _LONGEST:
            raise unreadable_torch_file(self._path, "a text or number in it is longer than any name.", got=f"{size}")
        return value

    def _popped(self) -> list[Any]:
        """Everything above the last mark."""
        # By identity: arrays compare element by element.
        at = next(i for i in range(len(self.stack) - 1, -1, -1) if self.stack[i] is _BEGIN)
        found = self.stack[at + 1 :]
        del self.stack[at:]
        return found

    def _mark(self, _: Any) -> None:
        self.stack.append(_BEGIN)

    def _pop(self, _: Any) -> None:
        self.stack.pop()

    def _tuple(self, _: Any) -> None:
        self.stack.append(tuple(self._popped()))

    def _list(self, _: Any) -> None:
        self.stack.append(self._popped())

    def _dict(self, _: Any) -> None:
        found = self._popped()
        self.stack.append({})
        self._set(found)

    def _append(self, _: Any) -> None:
        value = self.stack.pop()
        self._into(list).append(value)

    def _appends(self, _: Any) -> None:
        values = self._popped()
        self._into(list).extend(values)

    def _additems(self, _: Any) -> None:
        values = self._popped()
        if not are_keys(values):
            raise unreadable_torch_file(self._path, "a set in it holds something else than texts and numbers.")
        self._into(set).update(values)

    def _setitem(self, _: Any) -> None:
        value, key = self.stack.pop(), self.stack.pop()
        self._set([key, value])

    def _setitems(self, _: Any) -> None:
        self._set(self._popped())

    def _set(self, items: list[Any]) -> None:
        target = self._into(dict)
        for key, value in zip(items[::2], items[1::2], strict=True):
            if not are_keys([key]):
                raise unreadable_torch_file(self._path, "a dictionary in it has keys that are no texts or numbers.")
            target[key] = value

    def _into(self, kind: type) -> Any:
        target = self.stack[-1]
        if type(target) is not kind:
            raise unreadable_torch_file(self._path, "its pickle changes something that is no container.", fix=_TRUST)
        return target

    def _binput(self, index: int) -> None:
        self._memo[index] = self.stack[-1]

    _long_binput = _binput

    def _memoize(self, _: Any) -> None:
        self._memo[len(self._memo)] = self.stack[-1]

    def _binget(self, index: int) -> None:
        self.stack.append(self._memo[index])

    _long_binget = _binget

    def _global(self, names: str) -> None:
        self.stack.append(self._named(names.replace(" ", ".", 1)))

    def _stack_global(self, _: Any) -> None:
        name, module = self.stack.pop(), self.stack.pop()
        self.stack.append(self._named(f"{module}.{name}"))

    def _named(self, name: str) -> Marker:
        if name not in self._known:
            raise unreadable_torch_file(
                self._path, "it holds objects of Python, whose code would have to run.", name[:200], _TRUST
            )
        return self._known[name]

    def _reduce(self, _: Any) -> None:
        arguments, called = self.stack.pop(), self.stack.pop()
        if not (isinstance(called, Marker) and called.call and isinstance(arguments, tuple)):
            raise unreadable_torch_file(self._path, "its pickle calls something.", fix=_TRUST)
        self.stack.append(called.call(*arguments))

    def _newobj(self, _: Any) -> None:
        self._reduce(None)

    def _build(self, _: Any) -> None:
        # Attributes: state dictionaries have versions of their modules in one. Nothing here has any.
        self.stack.pop()
        if type(self.stack[-1]) is not dict:
            raise unreadable_torch_file(self._path, "its pickle sets attributes of something.", fix=_TRUST)

    def _binpersid(self, _: Any) -> None:
        self.stack.append(self._persistent(self.stack.pop()))
