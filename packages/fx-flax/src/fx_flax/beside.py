"""fx beside Flax in one process, with nothing in the place of anything."""

import importlib
import sys
from typing import Any

from fx_core import frozen_dict, meta, serialization

from fx_flax.errors import FlaxImportedError
from fx_flax.modules import FlaxModule, find_place

__all__ = ["from_flax", "interop"]

_TYPES_OF_STATE = ("fx_nnx.states.state", "State"), ("fx_nnx.variables.variable", "Variable")


def interop() -> None:
    """Lets Flax and fx read each other's trees, where both are used in one process.

    From then on

    - ``flax.serialization``, and what is built on it, takes fx's dataclasses, train states, frozen dicts, states and
      variables of `fx_nnx` apart and puts them together; those that are defined later, too;
    - `fx_core.serialization`, and checkpoints of `fx_ckpt`, do so with the types that are registered with Flax;
    - boxes of metadata, such as ``flax.linen.Partitioned``, are taken for boxes where fx meets them in variables.

    A second call does nothing. Modules of Flax stay modules of Flax; `from_flax` turns their states into those of fx.

    Raises:
      FlaxImportedError: Flax cannot be imported, or fx is in its place.

    ::

        import flax.serialization
        import fx_flax, fx_nnx

        fx_flax.interop()
        encoded = flax.serialization.to_bytes(fx_nnx.state(model))
    """
    real = _flax("flax.serialization")
    if isinstance(real._STATE_DICT_REGISTRY, _Shared):
        return
    own = real._STATE_DICT_REGISTRY
    real._STATE_DICT_REGISTRY = _Shared(own)
    serialization.ask_other_registry(lambda ty: dict.get(real._STATE_DICT_REGISTRY, ty))
    serialization.ask_other_registry(_of_state)
    meta.AxisMetadata.register(_flax("flax.core.meta").AxisMetadata)


def _flax(module: str) -> Any:
    if isinstance(sys.modules.get("flax"), FlaxModule):
        raise FlaxImportedError(
            "fx is in the place of Flax in this process, so there is nothing to work together with.",
            fix="leave fx_flax.install() out to use Flax and fx side by side",
        )
    try:
        importlib.import_module("flax")
    except ModuleNotFoundError as error:
        if error.name != "flax":
            raise
        raise FlaxImportedError("Flax is not installed.", fix="pip install flax") from error
    return importlib.import_module(module)


class _Shared(dict[type, Any]):
    """Flax's registry, which also knows what is registered with fx."""

    def __contains__(self, ty: object) -> bool:
        return super().__contains__(ty) or (isinstance(ty, type) and _of_fx(ty) is not None)

    def __missing__(self, ty: type) -> Any:
        found = _of_fx(ty)
        if found is None:
            raise KeyError(ty)
        return found


def _of_fx(ty: type) -> Any:
    return serialization.registered(ty) or _of_state(ty)


def _of_state(ty: type) -> Any:
    """The functions for states and variables of fx_nnx, which do not exist before fx_nnx is imported."""
    for (module, name), functions in zip(_TYPES_OF_STATE, (_STATE, _VARIABLE)):
        kind = getattr(sys.modules.get(module), name, None)
        if kind is not None and issubclass(ty, kind):
            return functions
    return None


def _state_from_dict(target: Any, state: Any) -> Any:
    restored = serialization.from_state_dict(dict(target), state)
    return type(target)(restored)


def _value_from_dict(target: Any, state: Any) -> Any:
    return target.replace(serialization.from_state_dict(target.get_raw_value(), state))


_STATE = (lambda target: serialization.to_state_dict(dict(target)), _state_from_dict)
_VARIABLE = (lambda target: serialization.to_state_dict(target.get_raw_value()), _value_from_dict)


def from_flax(tree: Any) -> Any:
    """Returns a tree of Flax as one of fx: what `fx_nnx.update`, `fx_nnx.merge` and checkpoints of fx take.

    Args:
      tree: frozen dicts, states and variables of ``flax.nnx``, boxes of metadata, in dicts, lists and tuples. Arrays
        are not copied.

    Returns:
      The same with fx's types. Variables keep their metadata and are of the type of fx that has the name of theirs; for
      a type that the program has defined there is a new one, `fx_nnx.variable_type_from_name` of its name.

    Raises:
      FlaxImportedError: Flax cannot be imported, or fx is in its place.
      MissingPackageError: there are states or variables, and fx-nnx is not installed.

    ::

        import flax.nnx
        import fx_flax, fx_nnx

        state = flax.nnx.state(flax.nnx.Linear(2, 3, rngs=flax.nnx.Rngs(0)))
        layer = fx_nnx.Linear(2, 3, rngs=fx_nnx.Rngs(0))
        fx_nnx.update(layer, fx_flax.from_flax(state))
    """
    core = _flax("flax.core")
    if isinstance(tree, core.FrozenDict):
        return frozen_dict.freeze({key: from_flax(value) for key, value in tree.items()})
    if isinstance(tree, core.meta.Partitioned):
        return _box(tree)
    if type(tree) in (list, tuple):
        return type(tree)(map(from_flax, tree))
    if type(tree) is dict:
        return {key: from_flax(value) for key, value in tree.items()}
    if isinstance(tree, tuple) and hasattr(tree, "_fields"):
        return type(tree)(*map(from_flax, tree))
    return _nnx(tree)


def _box(box: Any) -> Any:
    """A box of metadata, as the class of fx that has its name."""
    if type(box).__name__ == "Partitioned":
        return meta.Partitioned(from_flax(box.value), names=box.names, mesh=box.mesh)
    spmd, _ = find_place("LogicallyPartitioned", "fx_linen.spmd:LogicallyPartitioned")
    return spmd.LogicallyPartitioned(from_flax(box.value), names=box.names, mesh=box.mesh, rules=box.rules)


def _nnx(tree: Any) -> Any:
    theirs = sys.modules.get("flax.nnx")  # nobody has a state before that is imported
    if theirs is None or not isinstance(tree, theirs.State | theirs.Variable):
        return tree
    mine, _ = find_place("A state of flax.nnx", "fx_nnx:State")
    if isinstance(tree, theirs.State):
        return mine.State({key: from_flax(value) for key, value in tree.raw_mapping.items()})
    return _kind(mine, type(tree), theirs.Variable)(from_flax(tree.get_raw_value()), **tree.get_metadata())


def _kind(mine: Any, theirs: type, top: type) -> Any:
    """The variable type of fx that has the name of one of Flax's, made where a program has defined Flax's itself."""
    if theirs is top:
        return mine.Variable
    known = getattr(mine, theirs.__name__, None)
    if isinstance(known, type) and issubclass(known, mine.Variable):
        return known
    base = next(parent for parent in theirs.__bases__ if issubclass(parent, top))
    return mine.variable_type_from_name(theirs.__name__, base=_kind(mine, base, top), allow_register=True)
