"""The NNX module inside of a Linen module: made of the variables of a scope, which get back what has changed."""

from collections.abc import Callable, Mapping
from typing import Any

import jax
import numpy as np
from fx_core.array_node import shapes_of
from fx_core.compat.jax import current_trace
from fx_core.errors.scope import ScopeParamShapeError
from fx_core.meta import AxisMetadata
from fx_core.scope import is_filter_empty
from fx_nnx import Pytree, Variable
from fx_nnx.graph.assembly import assembly_of
from fx_nnx.graph.record import record_of
from fx_nnx.objects.pytree import attributes_of
from fx_nnx.rngs.stream import as_key

from fx_bridge.attributes import put_variables
from fx_bridge.boxes import variable_of
from fx_bridge.errors import name_conflict, uninitialized, unknown_path
from fx_bridge.streams import lacks_fallback, mark_absent
from fx_bridge.structure import ARRAYS, Shapes, Structure, place_of, structure_of
from fx_bridge.to_nnx import ToNNX, wrapped_in
from fx_bridge.trees import ABSENT, CollectionPath, Path, leaf_at, leaves_of, nest, text, with_leaf

__all__ = ["InnerCall"]


class InnerCall:
    """One call of an NNX module inside of a Linen module.

    Args:
      owner: the Linen module, a `fx_bridge.ToLinen`.
      metadata_fn: makes a variable the leaf of a collection; None leaves metadata out.

    Attributes:
      module: the NNX module.

    Raises:
      UninitializedError: a variable is missing that cannot be made.
      ScopeParamShapeError: a parameter has another shape than the constructor gives it.
      BridgeError: a variable has no place in the module.
    """

    def __init__(self, owner: Any, metadata_fn: Callable[[Variable[Any]], Any] | None):
        self.owner, self.metadata_fn = owner, metadata_fn
        self.scope = owner.scope
        # A call in `init` makes all variables, also that of a shared module: the last one decides, as in Flax.
        # In an inner trace, such as that of `jax.vmap(layer)`, nothing can be made: what is there is used.
        making = owner.is_initializing() and self.scope._trace == current_trace()
        self.given: Mapping[str, Any] = owner.variables
        if making:  # in `init` of `nn.WeightNorm` the second run sees what the first one has made, and changes nothing
            mutable = self.scope.is_mutable_collection
            self.given = {name: tree for name, tree in self.given.items() if not mutable(name)}
        self.streams = None if owner.skip_rng else _key_types(self.scope)
        structure, leaves = self._fitting()
        self.module = assembly_of(structure.graphdef).make(self._complete(structure, leaves))
        if self.streams is not None and lacks_fallback(self.streams):
            mark_absent(self.module)
        self._attach_more(structure)
        self.before = self._known() if not is_filter_empty(self.scope.mutable) else {}

    # --- making the module --------------------------------------------------------------------------------------------

    def _fitting(self) -> tuple[Structure, list[Any]]:
        """Give the structure of the module, and the leaves that the scope has; ``ABSENT`` for others."""
        owner = self.owner
        structure = structure_of(owner.nnx_class, owner.args, owner.kwargs, self.streams)
        leaves, wrong = self._found(structure)
        if wrong is not None:
            # What is remembered may be outdated; nobody is accused before a second look.
            structure = structure_of(owner.nnx_class, owner.args, owner.kwargs, self.streams, anew=True)
            leaves, wrong = self._found(structure)
            if wrong is not None:
                raise wrong
        return structure, leaves

    def _found(self, structure: Structure) -> tuple[list[Any], ScopeParamShapeError | None]:
        leaves: list[Any] = []
        wrong = None
        for place, shapes in zip(structure.places, structure.shapes):
            leaf = ABSENT if place is None else leaf_at(self.given.get(place[0]), place[1])
            if place is not None and leaf is not ABSENT:
                leaf = _own(leaf)
                if isinstance(leaf, AxisMetadata):
                    leaf = variable_of(place[0], leaf, allow_register=True)
                if place[0] == "params" and wrong is None and _shapes(leaf) != shapes:
                    path = (*self.scope.path, *place[1])
                    wrong = ScopeParamShapeError(
                        str(place[1][-1]), "/" + "/".join(map(str, path[:-1])), _shapes(leaf)[0], shapes[0]
                    )
            leaves.append(leaf)
        return leaves, wrong

    def _complete(self, structure: Structure, leaves: list[Any]) -> list[Any]:
        """Compute the leaves that are absent; those that are variables are put into the scope."""
        wanted = tuple(i for i, leaf in enumerate(leaves) if leaf is ABSENT)
        if not wanted:
            return leaves
        missing = [place for i in wanted if (place := structure.places[i]) is not None]
        for place in missing:
            if not self.scope.is_mutable_collection(place[0]):
                self._refuse(place)
        values = structure.run(wanted, self._keys(structure, wanted, bool(missing)))
        for i, value in zip(wanted, values):
            leaves[i] = value
        if missing:
            made = assembly_of(structure.graphdef).make(leaves)
            parts = dict(zip(structure.places, record_of(made).read()))
            self._put({place: parts[place] for place in missing})
        for i in wanted:
            leaves[i] = _own(leaves[i])
        return leaves

    def _refuse(self, place: CollectionPath) -> None:
        name = getattr(self.owner.nnx_class, "__name__", "the NNX module")
        raise uninitialized(
            f"ToLinen({name})",
            self.scope.path_text,
            text(place) if self.given else None,
            "pass the variables that init makes; changed ones in apply have to be in mutable",
        )

    def _keys(self, structure: Structure, wanted: tuple[int, ...], creating: bool) -> dict[str, Any]:
        """Draw the keys that are needed. The others count as drawn, so that the next call gets its own."""
        uses, keys = structure.uses(wanted), {}
        for name in structure.streams:
            if self.streams is not None and name not in self.streams:
                # No key was given: only values that nobody sees before they are drawn from may depend on it.
                if creating and name in structure.uses(tuple(i for i in wanted if structure.places[i] is not None)):
                    self.scope.make_rng(name)
                keys[name] = as_key(0)
            elif name in uses:
                keys[name] = as_key(self.scope.make_rng(name))
            else:
                self.scope.counters.next(name)
        return keys

    def _attach_more(self, structure: Structure) -> None:
        """Give the module variables that its constructor does not make: what was sown or cached in earlier calls."""
        known = {(collection, tuple(map(str, path))) for collection, path in filter(None, structure.places)}
        for (collection, path), leaf in leaves_of(self.given).items():
            names = tuple(map(str, path))
            # A variable may hold a dictionary, whose items are no variables.
            if not any((collection, names[:depth]) in known for depth in range(1, len(names) + 1)):
                _attach(self.module, collection, path, leaf)

    # --- what has changed ---------------------------------------------------------------------------------------------

    def _known(self) -> dict[int, tuple[Any, CollectionPath | None, Any]]:
        record = record_of(self.module)
        return {
            id(leaf): (leaf, place_of(path, leaf), leaf.get_raw_value())
            for path, leaf in zip(record.graphdef.paths, record.leaves)
            if isinstance(leaf, Variable)
        }

    def finish(self) -> None:
        """Puts what the call has changed or made into the mutable collections.

        In ``init``, that is what Linen modules inside have made: NNX modules have their variables before they are
        called.
        """
        if not self.before and is_filter_empty(self.scope.mutable):
            return
        record = record_of(self.module)
        mine = self._made_by_linen() if self.owner.is_initializing() else None
        changed: dict[CollectionPath, Any] = {}
        for path, leaf in zip(record.graphdef.paths, record.read()):
            known, place, value = self.before.get(id(leaf), (None, None, None))
            if known is None:
                place = place_of(path, leaf)
            elif leaf.get_raw_value() is value:
                continue
            if place is None or (mine is not None and (known is not None or id(leaf) not in mine)):
                continue
            if self.scope.is_mutable_collection(place[0]):
                changed[place] = leaf
        self._put(changed)

    def _made_by_linen(self) -> set[int]:
        made: set[int] = set()
        for wrapped in wrapped_in(self.module):
            made.update(id(leaf) for leaf in record_of(wrapped).read())
        return made

    def _put(self, leaves: Mapping[CollectionPath, Any]) -> None:
        for (collection, path), leaf in leaves.items():
            top, *rest = (str(path[0]), *path[1:])
            if isinstance(leaf, Variable):
                leaf = leaf.get_raw_value() if self.metadata_fn is None else self.metadata_fn(leaf)
            old = self.scope.get_variable(collection, top)
            self.scope.put_variable(collection, top, with_leaf(old, tuple(rest), leaf))


def _own(leaf: Any) -> Any:
    """Give a leaf whose NumPy arrays are copies: `self.count[...] += 1` writes into them, and they are the caller's."""
    if isinstance(leaf, jax.Array):
        return leaf
    return jax.tree.map(lambda part: part.copy() if isinstance(part, np.ndarray) else part, leaf)


def _key_types(scope: Any) -> dict[str, Any]:
    return {name: as_key(lazy.rng).dtype for name, lazy in scope.rngs.items()}


def _shapes(leaf: Any) -> Shapes:
    value = leaf.get_raw_value() if isinstance(leaf, Variable) else leaf
    if hasattr(value, "shape"):
        return (tuple(value.shape),)
    return shapes_of(value)


def _attach(module: Any, collection: str, path: Path, leaf: Any) -> None:
    node = module
    for depth, key in enumerate(path):
        if isinstance(node, ToNNX):
            put_variables(node, nest({(collection, path[depth:]): leaf}))
            return
        children = attributes_of(node) if isinstance(node, Pytree) else node
        if isinstance(key, str) and key not in children and key.isdigit() and int(key) in children:
            key = int(key)
        if depth < len(path) - 1:
            if not isinstance(node, Pytree) or key not in children:
                raise unknown_path(type(module).__name__, collection, path)
            node = children[key]
        elif not isinstance(node, Pytree):
            raise unknown_path(type(module).__name__, collection, path)
        elif key in children or hasattr(type(node), str(key)):
            raise name_conflict(type(node).__name__, key, f"a variable of {collection!r}", "another attribute")
        else:
            value = leaf if collection == ARRAYS else variable_of(collection, leaf, allow_register=True)
            node._nnx_set(key, value)
