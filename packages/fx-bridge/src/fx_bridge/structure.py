"""What an NNX module is made of, found out without making it: its structure, and how its values come from random keys.

A Linen module holds no objects, so that an NNX module inside of Linen is made anew in every call. Its constructor is
therefore recorded, as a program from keys to values: ``init`` runs all of it, ``apply`` only the part that the random
streams inside the module need, which is a few operations.
"""

import dataclasses
import enum
import functools
import threading
import weakref
from collections.abc import Callable, Mapping, Sequence
from types import BuiltinFunctionType, FunctionType
from typing import Any

import jax
import numpy as np
from fx_core import meta
from fx_core.array_node import shapes_of
from fx_core.compat.jax import prune_jaxpr
from fx_core.frozen_dict import FrozenDict
from fx_linen import Module as LinenModule
from fx_linen.module import detached
from fx_nnx import GraphDef, Pytree, RngState, Variable, split, variable_name_from_type
from fx_nnx.variables.defaults import default_options

from fx_bridge.errors import bridge_target
from fx_bridge.streams import FALLBACK, ScopeRngs, lacks_fallback
from fx_bridge.trees import CollectionPath, Path

__all__ = ["ARRAYS", "Shapes", "Structure", "place_of", "structure_of"]

ARRAYS = "arrays"
"""The collection of arrays that are attributes of NNX modules by themselves, without a variable around them."""

Program = tuple[Callable[..., list[Any]], list[bool]]
Shapes = tuple[tuple[int, ...], ...]


class Structure:
    """An NNX module without its values.

    Attributes:
      graphdef: its graph definition.
      places: for each of its leaves the place in the collections of Linen; None for the state of RNG streams.
      shapes: for each of them the shapes of the arrays in it.
      random: positions of the leaves that are the state of RNG streams.
      streams: the names of the streams that its constructor may use.
    """

    def __init__(
        self,
        graphdef: GraphDef,
        places: Sequence[CollectionPath | None],
        values: Sequence[Any],
        streams: Sequence[str],
        jaxpr: Any,
        constants: Mapping[int, Any],
    ):
        self.graphdef, self.places, self.streams = graphdef, tuple(places), tuple(streams)
        self.random = tuple(i for i, place in enumerate(places) if place is None)
        self._trees = [jax.tree.structure(value) for value in values]
        leaves = iter(jax.ShapeDtypeStruct(aval.shape, aval.dtype) for aval in jaxpr.out_avals)
        # An array-like parameter of several leaves counts as one array.
        self.shapes: list[Shapes] = [
            shapes_of(tree.unflatten([next(leaves) for _ in range(tree.num_leaves)])) for tree in self._trees
        ]
        self._jaxpr, self._constants = jaxpr, constants
        self._programs: dict[tuple[int, ...], Program] = {}

    def uses(self, leaves: tuple[int, ...]) -> list[str]:
        """Returns the streams that the values of some leaves depend on."""
        return [name for name, used in zip(self.streams, self._program(leaves)[1]) if used]

    def run(self, leaves: tuple[int, ...], keys: Mapping[str, Any]) -> list[Any]:
        """Computes the values of some leaves.

        Args:
          leaves: their positions, in order.
          keys: a key for each of the streams in `uses`.
        """
        program, used = self._program(leaves)
        computed = program(*(keys[name] for name, needed in zip(self.streams, used) if needed))
        values = map(self._constant_or, self._outputs(leaves), computed)
        trees = [self._trees[i] for i in leaves]
        return [jax.tree.unflatten(tree, [next(values) for _ in range(tree.num_leaves)]) for tree in trees]

    def _program(self, leaves: tuple[int, ...]) -> Program:
        found = self._programs.get(leaves)
        if found is None:
            wanted = set(self._outputs(leaves))
            outputs = [index in wanted for index in range(len(self._jaxpr.out_avals))]
            found = self._programs[leaves] = prune_jaxpr(self._jaxpr, outputs)
        return found

    def _outputs(self, leaves: tuple[int, ...]) -> list[int]:
        """Give the positions of the arrays of some leaves among the results of the recorded program."""
        wanted = set(leaves)
        which = [i for i, tree in enumerate(self._trees) for _ in range(tree.num_leaves)]
        return [index for index, leaf in enumerate(which) if leaf in wanted]

    def _constant_or(self, index: int, computed: Any) -> Any:
        constant = self._constants.get(index, computed)
        # A NumPy array may be written to, which must not change what is remembered.
        return constant.copy() if isinstance(constant, np.ndarray) else constant


def structure_of(
    make: Callable[..., Any],
    args: Sequence[Any],
    kwargs: Mapping[str, Any],
    streams: Mapping[str, Any] | None,
    *,
    anew: bool = False,
) -> Structure:
    """Returns the structure of ``make(*args, **kwargs)``.

    What is found out about a class and arguments that cannot change is remembered.

    Args:
      make: a class of NNX modules, or a function that makes one.
      args: its arguments.
      kwargs: more arguments.
      streams: the types of the keys that its ``rngs`` start from, by name; None if it takes no ``rngs``.
      anew: whether to look again, whatever is remembered.

    Raises:
      ArgumentTypeError: it makes no NNX module.
    """
    try:
        known, key = _memory_of(make, args, kwargs, streams)
    except _CanChangeError:
        return _record(make, args, kwargs, streams)
    with _lock:
        found = None if anew else known.get(key)
    if found is None:
        found = _record(make, args, kwargs, streams)
        with _lock:
            while len(known) >= _LIMIT:
                known.pop(next(iter(known)))
            known[key] = found
    return found


def _record(make: Any, args: Any, kwargs: Any, streams: Mapping[str, Any] | None) -> Structure:
    found: dict[str, Any] = {}
    args, kwargs = _unbound(tuple(args)), _unbound(dict(kwargs))
    dtypes = {} if streams is None else {**streams}
    if streams is not None and lacks_fallback(dtypes):
        dtypes[FALLBACK] = jax.random.key(0).dtype

    def construct(*keys: Any) -> list[Any]:
        options = kwargs if streams is None else {**kwargs, "rngs": ScopeRngs(**dict(zip(dtypes, keys)))}
        with detached():
            module = make(*args, **options)
        if not isinstance(module, Pytree):
            raise bridge_target("ToLinen", "a class of NNX modules, or a function that makes one", module)
        graphdef, state = split(module)
        paths, leaves = state._pairs()
        found["graphdef"], found["places"] = graphdef, [place_of(path, leaf) for path, leaf in zip(paths, leaves)]
        found["values"] = values = [_value(leaf) for leaf in leaves]
        # A program would turn NumPy's arrays and Python's numbers into JAX arrays, which may have fewer bits.
        found["constants"] = {i: leaf for i, leaf in enumerate(jax.tree.leaves(values)) if _is_constant(leaf)}
        return jax.tree.map(lambda leaf: np.zeros(np.shape(leaf), bool) if _is_constant(leaf) else leaf, values)

    jaxpr = jax.make_jaxpr(construct)(*(jax.ShapeDtypeStruct((), dtype) for dtype in dtypes.values()))
    return Structure(found["graphdef"], found["places"], found["values"], tuple(dtypes), jaxpr, found["constants"])


def place_of(path: Path, leaf: Any) -> CollectionPath | None:
    """Returns the place of a leaf of an NNX module in the collections of Linen; None for the state of random
    streams.
    """
    if not isinstance(leaf, Variable):
        return ARRAYS, path
    if isinstance(leaf, RngState):
        return None
    return variable_name_from_type(type(leaf), allow_register=True), path


def _value(leaf: Any) -> Any:
    if not isinstance(leaf, Variable):
        return leaf
    value = leaf.get_raw_value()
    return value[...] if leaf.ref else value


def _is_constant(leaf: Any) -> bool:
    return isinstance(leaf, np.ndarray | np.generic | bool | int | float | complex)


def _unbound(value: Any) -> Any:
    """Give arguments in which no Linen module belongs to the one that was given the arguments."""
    if isinstance(value, LinenModule):
        return value.clone(parent=None, name=None, _deep_clone=True, _reset_names=True)
    if type(value) in (list, tuple):
        return type(value)(_unbound(item) for item in value)
    if isinstance(value, dict | FrozenDict):
        return {key: _unbound(item) for key, item in value.items()}
    return value


# --- memory -----------------------------------------------------------------------------------------------------------

_LIMIT = 64
_lock = threading.Lock()
_memory: weakref.WeakKeyDictionary[type, dict[Any, Structure]] = weakref.WeakKeyDictionary()

_ATOMS = (int, float, complex, str, bytes, bool, type(None), type(Ellipsis), np.dtype, enum.Enum, type)
_CONSTANT = (jax.sharding.PartitionSpec, jax.sharding.Mesh, jax.sharding.NamedSharding, BuiltinFunctionType, np.ufunc)


class _CanChangeError(Exception):
    """A value may be another one the next time, although it is the same object."""


def _memory_of(make: Any, args: Any, kwargs: Any, streams: Any) -> tuple[dict[Any, Structure], Any]:
    """Give what is remembered of a class, and the key for some arguments.

    Raises:
      _CanChangeError: the arguments may change, or it is a function, which may look at anything.
    """
    if not isinstance(make, type):
        raise _CanChangeError
    kinds = None if streams is None else tuple(streams.items())
    around = (tuple(default_options(None, None, None).items()), meta.get_global_mesh())
    key = (_frozen(tuple(args)), _frozen(dict(kwargs)), kinds, around)
    with _lock:
        return _memory.setdefault(make, {}), key


def _frozen(value: Any) -> Any:
    """Give something to compare values by that cannot change.

    Raises:
      _CanChangeError: there is none.
    """
    kind = type(value)
    if isinstance(value, _ATOMS):
        return kind, value
    if isinstance(value, _CONSTANT):
        return value
    if kind is tuple or kind is list:
        return kind, tuple(map(_frozen, value))
    if kind is dict or kind is FrozenDict:
        return tuple((key, _frozen(item)) for key, item in value.items())
    if kind is functools.partial:
        return kind, _frozen(value.func), _frozen(value.args), _frozen(value.keywords)
    if kind is FunctionType:
        # Initializers are closures, made anew each time; what they close over tells them apart.
        cells = tuple(_frozen(cell.cell_contents) for cell in value.__closure__ or ())
        return value.__code__, cells, _frozen(value.__defaults__), _frozen(value.__kwdefaults__)
    if dataclasses.is_dataclass(value) and kind.__dataclass_params__.frozen:  # type: ignore[attr-defined]
        return kind, tuple(_frozen(getattr(value, field.name)) for field in dataclasses.fields(value))
    raise _CanChangeError
