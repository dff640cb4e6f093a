"""The variables of a wrapped Linen module, which are its attributes."""

from collections.abc import Mapping
from typing import Any

from fx_nnx import Dict, Variable, variable_name_from_type
from fx_nnx.objects.pytree import attributes_of

from fx_bridge.boxes import laid_out, to_linen_var, variable_of
from fx_bridge.errors import name_conflict
from fx_bridge.trees import Path, leaves_of

__all__ = ["INITIALIZING", "MODULE", "RNGS", "collections_of", "name_of", "put_variables"]

MODULE, RNGS, INITIALIZING = "to_nnx__module", "to_nnx__rngs", "to_nnx__initializing"
"""The attributes of a wrapper that are not variables."""


def put_variables(module: Any, variables: Mapping[str, Any]) -> None:
    """Puts variables of the Linen module into their attributes; collections without a variable type get one.

    Raises:
      BridgeError: a name is taken by something else.
    """
    for (collection, path), leaf in leaves_of(variables).items():
        _put(module, collection, path, leaf)


def _put(module: Any, collection: str, path: Path, leaf: Any) -> None:
    kind = f"a variable of {collection!r}"
    node: Any = module
    for key in path[:-1]:
        inner = attributes_of(node).get(key)
        if inner is None:
            _check_free(module, node, key, "a submodule")
            inner = Dict()
            node._nnx_set(key, inner)
        elif not isinstance(inner, Dict):
            raise name_conflict(name_of(module), key, "a submodule", _describe(inner))
        node = inner
    name = path[-1]
    old = attributes_of(node).get(name)
    if old is None:
        _check_free(module, node, name, kind)
        node._nnx_set(name, variable_of(collection, laid_out(leaf), allow_register=True))
        return
    if isinstance(old, Variable) and old.get_raw_value() is leaf:
        return
    made = variable_of(collection, laid_out(leaf), allow_register=True)
    if type(old) is not type(made):
        raise name_conflict(name_of(module), "/".join(path), kind, _describe(old))
    if made.get_metadata() == old.get_metadata():
        value = made.get_raw_value()
        old.set_raw_value(value[...] if made.ref else value)
    else:
        old.copy_from(made)


def _check_free(module: Any, node: Any, name: str, what: str) -> None:
    if node is not module:
        return
    if name in (MODULE, RNGS, INITIALIZING) or hasattr(type(module), name):
        raise name_conflict(name_of(module), name, what, "ToNNX itself")


def _describe(value: Any) -> str:
    if not isinstance(value, Variable):
        return "a submodule" if isinstance(value, Dict) else f"a {type(value).__name__}"
    return f"a variable of {variable_name_from_type(type(value), allow_register=True)!r}"


def name_of(module: Any) -> str:
    """Returns the text that a wrapper has in errors."""
    return f"ToNNX({type(module.to_nnx__module).__name__})"


def collections_of(module: Any) -> dict[str, dict[str, Any]]:
    """Returns the variables of a wrapped module as Linen has them."""
    variables: dict[str, dict[str, Any]] = {}
    names: dict[type, str] = {}

    def visit(node: Any, path: Path) -> None:
        for key, value in attributes_of(node).items():
            if isinstance(value, Variable):
                kind = type(value)
                collection = names.get(kind)
                if collection is None:
                    collection = names[kind] = variable_name_from_type(kind, allow_register=True)
                tree = variables.setdefault(collection, {})
                for outer in path:
                    tree = tree.setdefault(outer, {})
                tree[key] = to_linen_var(value)
            elif isinstance(value, Dict):
                visit(value, (*path, key))

    visit(module, ())
    return variables
