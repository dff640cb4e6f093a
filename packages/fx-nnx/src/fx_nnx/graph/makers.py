"""How one node of a model is made of values, fast.

A model is cloned by making an object for each variable, which Python does in about a tenth of a microsecond; anything
done around it counts. So the code that makes an object together with its variables is written for its attributes, once
for all objects with attributes of the same kinds.
"""

import functools
import keyword
import sys
from collections.abc import Callable, Iterator, Sequence
from operator import itemgetter
from typing import Any, NamedTuple

from fx_nnx.objects.pytree import SharedKinds, Storage, attributes_of, filled_object
from fx_nnx.variables.fields import VariableFields, copied_all

__all__ = ["Make", "Parts", "becomes", "container_maker", "object_maker"]

Make = Callable[[Sequence[Any], object, dict[int, Any]], Any]
"""Makes a node, of all the values, the token of the trace, and objects by number."""


class Parts(NamedTuple):
    """What a node holds.

    Attributes:
      template: all attributes or items, with the static ones in their place.
      kinds: which of them are data.
      keys: which of them are values.
      positions: for each of these its position among all values.
      types: for each of these the type of the variable to be made there; None for a value to be taken as it is.
      metas: for each of these the metadata of that variable.
      children: what else is to be made: key, and how.
    """

    template: dict[Any, Any]
    kinds: dict[Any, bool]
    keys: list[Any]
    positions: list[int]
    types: list[Any]
    metas: list[Any]
    children: list[tuple[Any, Make]]


def becomes(fields: type[Any], cls: type[Any]) -> bool:
    """Returns whether bare fields can become an object of a class; not if that has attributes in slots of its own."""
    made = fields()
    try:
        made.__class__ = cls
    except TypeError:
        return False
    return True


def object_maker(cls: type[Any], parts: Parts, number: int | None) -> Make:
    """Returns what makes objects of a class; ``number`` is theirs, if others refer to them."""
    shared = SharedKinds(parts.kinds)
    if len(parts.keys) <= _LIMIT and becomes(Storage, cls):
        return _written_maker(cls, parts, shared, number)
    fill, children = _filler(parts), parts.children

    def make(leaves: Sequence[Any], trace: object, made: dict[int, Any]) -> Any:
        attributes = fill(leaves, trace)
        new = filled_object(cls, attributes, shared, trace)
        if number is not None:
            made[number] = new  # before its children, which may refer to it
        for key, child in children:
            attributes[key] = child(leaves, trace, made)
        return new

    return make


def container_maker(cls: type[Any], parts: Parts, metadata: Any) -> Make:
    """Returns what makes plain containers, or other pytrees of what their ``metadata`` says."""
    fill, children = _filler(parts), parts.children

    def make(leaves: Sequence[Any], trace: object, made: dict[int, Any]) -> Any:
        items = fill(leaves, trace)
        for key, child in children:
            items[key] = child(leaves, trace, made)
        if metadata is not None:
            return metadata.make(items)
        return items if cls is dict else cls(items.values())

    return make


def _filler(parts: Parts) -> Callable[[Sequence[Any], object], dict[Any, Any]]:
    """Give a function that makes the dictionary of what a node holds, but for its children."""
    template, keys, types, metas = parts.template, parts.keys, parts.types, parts.metas
    if not keys:
        return lambda leaves, trace: template.copy()
    take, making = _taker(parts.positions), any(types)

    def fill(leaves: Sequence[Any], trace: object) -> dict[Any, Any]:
        values = take(leaves)
        made = template.copy()
        made.update(zip(keys, copied_all(types, values, metas, trace) if making else values))
        return made

    return fill


def _taker(positions: Sequence[int]) -> Callable[[Sequence[Any]], Any]:
    """Give a function that takes the values at some positions."""
    where = _slice_of(positions)
    return itemgetter(*positions) if where is None else itemgetter(where)


def _slice_of(positions: Sequence[int]) -> slice | None:
    """Give positions as a slice, if they follow each other."""
    first, last = positions[0], positions[-1]
    return slice(first, last + 1) if list(positions) == list(range(first, last + 1)) else None


_LIMIT = 100
"""More values of one object are not worth code of their own."""


def _written_maker(cls: type[Any], parts: Parts, shared: SharedKinds, number: int | None) -> Make:
    types, metas = list(dict.fromkeys(filter(None, parts.types))), _distinct(parts)
    makes = tuple(
        None if kind is None else (types.index(kind), [meta is m for m in metas].index(True), kind.__qualname__)
        for kind, meta in zip(parts.types, parts.metas)
    )
    where = _slice_of(parts.positions) if parts.keys else None
    names = tuple(parts.template)
    text = _Text(
        makes,
        picked=bool(parts.keys) and where is None,
        inline=names if _INLINE and len(names) < _SHARED_KEYS and all(map(_is_plain_name, names)) else None,
        at=tuple(map(names.index, parts.keys)),
        only_values=len(parts.keys) == len(names),
        referred=number is not None,
        parental=bool(parts.children),
    )
    take = itemgetter(*parts.positions) if text.picked else where
    return _compiled(text)(cls, shared, parts.template, number, parts.children, take, parts.keys, types, metas)


def _distinct(parts: Parts) -> list[Any]:
    """Give the metadata of the variables to be made, each once; they need no hash for that."""
    return list({id(meta): meta for kind, meta in zip(parts.types, parts.metas) if kind is not None}.values())


_INLINE = sys.version_info < (3, 13)
"""Whether attributes are set one by one on a bare object, which is faster here than giving it a dictionary."""

_SHARED_KEYS = 30
"""Python gives objects a dictionary each if their class has more attributes than about as many."""


def _is_plain_name(name: Any) -> bool:
    # Python rewrites other names when it compiles them, by Unicode normalization and in classes.
    plain = type(name) is str and name.isascii() and name.isidentifier() and not name.startswith("__")
    return plain and not keyword.iskeyword(name)


class _Text(NamedTuple):
    """What the code of a maker depends on.

    Attributes:
      makes: for each value None to take it, or the numbers of type and metadata of the variable to make. The name of
        the type is only there so that other types have other code, as Python specializes code for the types in it.
      picked: whether the values are at positions that do not follow each other.
      inline: the names of all attributes, if they are set one by one.
      at: for each value the number of its attribute.
      only_values: whether all attributes are values.
      referred: whether other objects refer to the one to be made.
      parental: whether there are attributes that are made by makers of their own.
    """

    makes: tuple[tuple[int, int, str] | None, ...]
    picked: bool
    inline: tuple[str, ...] | None
    at: tuple[int, ...]
    only_values: bool
    referred: bool
    parental: bool

    def lines(self) -> Iterator[str]:
        """Write it."""
        count = len(self.makes)
        yield "def outer(cls, kinds, template, number, children, take, keys, types, metas):"
        yield from _unpacked("keys", "k", count)
        yield from _unpacked("types", "t", 1 + max((make[0] for make in self.makes if make), default=-1))
        yield from _unpacked("metas", "m", 1 + max((make[1] for make in self.makes if make), default=-1))
        yield from _unpacked("template.values()", "c", len(self.inline or ()))
        yield " def make(leaves, trace, made):"
        for line in _unpacked("take(leaves)" if self.picked else "leaves[take]", "v", count):
            yield " " + line
        for i, make in enumerate(self.makes):
            if make is not None:
                yield "  new = VariableFields()"
                yield f"  new._raw_value = v{i}._raw_value"
                yield f"  new._nnx_meta = m{make[1]}"
                yield "  new._nnx_trace = trace"
                yield "  new._nnx_links = None"
                yield f"  new.__class__ = t{make[0]}"
                yield f"  v{i} = new"
        yield from self.attributes()
        yield "  new._nnx_kinds = kinds"
        yield "  new._nnx_links = None"
        yield "  new._nnx_record = None"
        yield "  new._nnx_trace = trace"
        yield "  new.__class__ = cls"
        if self.referred:
            yield "  made[number] = new"  # before its children, which may refer to it
        if self.parental:
            if self.inline is not None:
                yield "  attributes = attributes_of(new)"
            yield "  for key, child in children:"
            yield "   attributes[key] = child(leaves, trace, made)"
        yield "  return new"
        yield " return make"

    def attributes(self) -> Iterator[str]:
        """Write how a bare object gets its attributes."""
        yield "  new = Storage()"
        if self.inline is not None:
            values = {at: f"v{i}" for i, at in enumerate(self.at)}
            for number, name in enumerate(self.inline):
                yield f"  new.{name} = {values.get(number, f'c{number}')}"
            return
        count = range(len(self.makes))
        if self.only_values:
            yield f"  attributes = {{{', '.join(f'k{i}: v{i}' for i in count)}}}"
        else:
            yield "  attributes = template.copy()"
            for i in count:
                yield f"  attributes[k{i}] = v{i}"
        yield "  new.__dict__ = attributes"


def _unpacked(what: str, name: str, count: int) -> list[str]:
    return [f" {''.join(f'{name}{i}, ' for i in range(count))}= {what}"] if count else []


@functools.lru_cache(maxsize=1024)
def _compiled(text: _Text) -> Callable[..., Make]:
    scope: dict[str, Any] = {"VariableFields": VariableFields, "attributes_of": attributes_of}
    # Attributes that are set one by one share their names with those of a class, which must have no others.
    scope["Storage"] = Storage if text.inline is None else type("Storage", (Storage,), {"__slots__": ()})
    exec("\n".join(text.lines()), scope)  # of numbers and names only
    return scope["outer"]
