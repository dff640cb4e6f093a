"""Walking over whatever holds parameters: dicts, states, object modules, train states.

A model is seen as JAX sees it, one container at a time, so that shared objects stay shared and the kind of every
container is kept.
"""

import dataclasses
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from fx_core.array_node import ArrayNode
from fx_core.meta import AxisMetadata

from fx_compress.errors import RuleError

__all__ = ["Parameter", "by_path", "map_parameters", "parameters"]


@dataclasses.dataclass(frozen=True)
class Parameter:
    """One array of a model, and where it is.

    Attributes:
      path: names from the root, joined by ``/``.
      value: an array, an abstract one, or an array-like node.
      owners: class names of the containers above it, the nearest last: names of layers in object modules.
      kind: class name of the variable that holds it, such as ``"Param"``; None where arrays are bare.
      types: classes of the container right above it, and of the variable if there is one.

    >>> import jax.numpy as jnp
    >>> import fx_compress
    >>> parameter = fx_compress.Parameter("encoder/dense/kernel", jnp.ones((2, 3)), (), None)
    >>> parameter.name, parameter.is_weight
    ('kernel', True)
    """

    path: str
    value: Any
    owners: tuple[str, ...]
    kind: str | None
    types: tuple[type, ...] = ()

    @property
    def name(self) -> str:
        """The last name of the path."""
        return self.path.rpartition("/")[2]

    @property
    def is_weight(self) -> bool:
        """Whether it is a trained float parameter with two dimensions at least, and no bias or scale of a norm.

        These have two dimensions in attention, and where layers are stacked.
        """
        # Variables by collection are the tree, or lie in it under one name.
        first, _, second = self.path.partition("/")
        held = first in _STATE or (first != "params" and second.partition("/")[0] in _STATE)
        state = self.kind not in (None, "Param", "LoRAParam") or (self.kind is None and held)
        floats = jnp.issubdtype(self.value.dtype, jnp.floating)
        return not state and floats and len(self.value.shape) >= 2 and self.name not in ("bias", "scale")


# Collections of Linen, and fields of train states, that hold arrays which are no parameters.
_STATE = frozenset(
    {"batch_stats", "cache", "intermediates", "perturbations", "losses", "observers", "opt_state", "spectral_stats"}
)


def map_parameters(function: Callable[[Parameter], Any], tree: Any, *, share: bool = False) -> Any:
    """Returns a model of the same kind with other arrays.

    Args:
      function: of each array, gives its replacement.
      tree: a pytree; variables of fx-nnx and boxes with axis names are opened and closed again.
      share: whether variables of fx-nnx that keep their values are the same objects in the result, so that what is
        written to them there is written to those of ``tree``.

    >>> map_parameters(lambda p: p.value * 2, {"a": {"kernel": np.ones(1)}})
    {'a': {'kernel': array([2.])}}
    """
    made: dict[int, Any] = {}
    alive: list[Any] = []

    def visit(node: Any, path: tuple[str, ...], owners: tuple[type, ...], kind: type | None) -> Any:
        if _is_array(node):
            names = tuple(owner.__name__ for owner in owners)
            types = (*owners[-1:], *(() if kind is None else (kind,)))
            return function(Parameter("/".join(path), node, names, None if kind is None else kind.__name__, types))
        if id(node) in made:  # one object in two places is one object in the copy
            return made[id(node)]
        found, treedef = jax.tree_util.tree_flatten_with_path(node, is_leaf=lambda x: x is not node)
        if not found or not found[0][0]:
            return node
        if _is_variable(node) or isinstance(node, AxisMetadata):
            inner = type(node) if _is_variable(node) else kind
            children = [visit(child, path, owners, inner) for _, child in found]
            if share and all(new is old for new, (_, old) in zip(children, found)):
                return node
        else:
            above = (*owners, type(node))
            children = [visit(child, (*path, _text(keys[0])), above, None) for keys, child in found]
        copy = treedef.unflatten(children)
        made[id(node)] = copy
        alive.append(node)
        return copy

    return visit(tree, (), (), None)


def parameters(tree: Any) -> Iterator[Parameter]:
    """Returns the arrays of a model, in the order of JAX, shared ones once."""
    found: list[Parameter] = []

    def keep(parameter: Parameter) -> Any:
        found.append(parameter)
        return parameter.value

    map_parameters(keep, tree)
    return iter(found)


def by_path(found: Iterable[Parameter]) -> dict[str, Parameter]:
    """Returns parameters by path.

    Raises:
      RuleError: two have the same path.
    """
    named: dict[str, Parameter] = {}
    for parameter in found:
        if named.setdefault(parameter.path, parameter) is not parameter:
            raise RuleError(
                "Two parameters have the same path.",
                path=parameter.path,
                expected="one array by each path",
                got=f"shapes {named[parameter.path].value.shape} and {parameter.value.shape}",
                fix="leave / out of the keys of dicts, or use one name each",
            )
    return named


def _is_array(node: Any) -> bool:
    return isinstance(node, ArrayNode | jax.Array | np.ndarray | jax.ShapeDtypeStruct)


def _is_variable(node: Any) -> bool:
    """Whether something is a variable of fx-nnx, which this package does not import: a box with metadata."""
    return hasattr(type(node), "get_metadata") and hasattr(type(node), "get_value")


def _text(key: Any) -> str:
    return jax.tree_util.keystr((key,), simple=True)
