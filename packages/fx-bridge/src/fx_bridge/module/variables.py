"""Variables of bridge modules as collections, and back."""

from collections.abc import Iterator, Mapping
from typing import Any

from fx_nnx import Dict, Pytree, Variable, VariableMetadata
from fx_nnx.objects.fields import is_array
from fx_nnx.objects.pytree import attributes_of
from fx_nnx.paths import key_order

from fx_bridge.attributes import put_variables
from fx_bridge.boxes import BOX_TYPE, laid_out, to_linen_var, variable_of
from fx_bridge.errors import name_conflict, unknown_path
from fx_bridge.module.priority import AttrPriority
from fx_bridge.module.scope import Scope
from fx_bridge.structure import ARRAYS, place_of
from fx_bridge.to_nnx import ToNNX
from fx_bridge.trees import Path, leaves_of, nest

__all__ = ["Pending", "collect", "load", "new_variable", "take_over", "unpack"]


class Pending(Dict[Any]):
    """Variables for a submodule that is not there yet."""


def collect(module: Any) -> dict[str, Any]:
    """Returns the variables of a module by collection, each under the path of the attribute that owns it."""
    leaves = {}
    for path, leaf in _walk(module, (), set()):
        place = place_of(path, leaf)
        if place is not None:
            leaves[place] = to_linen_var(leaf) if isinstance(leaf, Variable) else leaf
    return nest(leaves)


def _walk(node: Any, path: Path, seen: set[int]) -> Iterator[tuple[Path, Any]]:
    if isinstance(node, Scope) or id(node) in seen:
        return
    if isinstance(node, Variable):
        seen.add(id(node))
        yield path, node
    elif is_array(node):
        yield path, node
    elif isinstance(node, Pytree):
        seen.add(id(node))
        attributes = attributes_of(node)
        for key in _ordered(node, attributes):
            if node._nnx_kinds[key]:
                yield from _walk(attributes[key], (*path, key), seen)
    elif isinstance(node, Mapping):
        for key in sorted(node, key=key_order):
            yield from _walk(node[key], (*path, key), seen)
    elif isinstance(node, list | tuple):
        for key, item in enumerate(node):
            yield from _walk(item, (*path, key), seen)


def _ordered(node: Any, attributes: Mapping[Any, Any]) -> list[Any]:
    priorities: Mapping[str, int] = attributes.get("attr_priorities", {})
    return sorted(attributes, key=lambda key: (priorities.get(key, AttrPriority.DEFAULT), key_order(key)))


def unpack(variables: Mapping[str, Any]) -> Pending:
    """Returns the variables of collections, as they will be attributes.

    Raises:
      BridgeError: two of them have one path.
    """
    made = Pending()
    for (collection, path), leaf in leaves_of(variables).items():
        node: Any = made
        for key in path[:-1]:
            inner = attributes_of(node).get(str(key))
            if inner is None:
                inner = node[str(key)] = Pending()
            elif not isinstance(inner, Pending):
                raise name_conflict("the variables", "/".join(map(str, path)), repr(collection), "another variable")
            node = inner
        name = str(path[-1])
        if name in node:
            raise name_conflict("the variables", "/".join(map(str, path)), repr(collection), "another collection")
        node[name] = leaf if collection == ARRAYS else variable_of(collection, leaf, allow_register=True)
    return made


def load(node: Any, pending: Pending, path: Path = ()) -> None:
    """Puts variables into a module, a list, or another part of one; what is not there yet stays pending.

    Raises:
      BridgeError: a part has no place for a variable.
    """
    if isinstance(node, ToNNX):
        put_variables(node, collect(pending))
        return
    for name, value in list(pending.items()):
        children: Any = attributes_of(node) if isinstance(node, Pytree) else node
        key, old = _child(children, name)
        if old is None:
            if not isinstance(node, Pytree):
                raise unknown_path(type(node).__name__, None, (*path, name))
            node._nnx_set(name, value)
        elif old is value:
            continue
        elif isinstance(value, Pending):
            load(old, value, (*path, name))
        elif isinstance(old, Variable) and isinstance(value, Variable):
            old.copy_from(value)
        elif isinstance(old, Pytree | Mapping | list | tuple | Variable):
            raise name_conflict(type(node).__name__, name, "a variable", f"a {type(old).__name__}")
        elif isinstance(node, Pytree):
            node._nnx_set(key, value)
        else:
            node[key] = value


def _child(children: Any, name: str) -> tuple[Any, Any]:
    if isinstance(children, Mapping):
        for key in (name, int(name)) if name.isdigit() else (name,):
            if key in children:
                return key, children[key]
        return name, None
    if isinstance(children, list | tuple) and name.isdigit() and int(name) < len(children):
        return int(name), children[int(name)]
    return name, None


def take_over(new: Any, old: Any) -> None:
    """Returns a module what an earlier one of its name has: variables and submodules, but not its scope."""
    if isinstance(old, Pending):
        load(new, old)
        return
    attributes, mine = attributes_of(old), attributes_of(new)
    for name, value in list(attributes.items()):
        if not old._nnx_kinds[name] or isinstance(value, Scope):
            continue
        if name not in mine:
            new._nnx_set(name, value)
        elif isinstance(value, Variable):
            mine[name].copy_from(value)
        elif isinstance(value, Pytree) and value is not mine[name]:
            take_over(mine[name], value)


def new_variable(kind: type[Variable[Any]], collection: str, value: Any) -> Variable[Any]:
    """Returns a variable for what an initializer made, with its metadata."""
    if isinstance(value, VariableMetadata) and BOX_TYPE in value.metadata:
        box = value.metadata[BOX_TYPE].from_nnx_metadata({**value.metadata, "value": value.raw_value})
        return kind.from_metadata(laid_out(box).value, value.metadata)  # as of boxes of Linen: no mesh is needed
    if isinstance(value, VariableMetadata | Variable):
        return kind(value)
    return variable_of(collection, laid_out(value), allow_register=True)
