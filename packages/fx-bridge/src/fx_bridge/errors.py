"""Mistakes at the border between Linen and NNX. What goes wrong inside a module has the errors of its own package."""

from collections.abc import Iterable, Sequence
from typing import Any

from fx_core.errors import FxError

__all__ = [
    "AbsentStreamError",
    "BridgeAttributeError",
    "BridgeError",
    "BridgeMethodError",
    "BridgePlaceError",
    "BridgeRngsError",
    "BridgeTargetError",
    "NameConflictError",
    "UninitializedError",
    "UnknownCollectionError",
    "UnknownPathError",
]


def show_path(path: Sequence[Any]) -> str:
    """Writes a path as ``/encoder/layers/0``."""
    return "/" + "/".join(map(str, path))


class BridgeError(FxError, ValueError):
    """Base class of the errors of `fx_bridge`."""


class UninitializedError(BridgeError):
    """A wrapped module was called before it had variables.

    ::

        model = bridge.ToNNX(nn.Dense(3), rngs=nnx.Rngs(0))
        model(x)                              # wrong
        bridge.lazy_init(model, x)            # right: now it has

        model = bridge.to_linen(nnx.Linear, 2, 3)
        model.apply({}, x)                    # wrong
        variables = model.init(key, x)        # right
        model.apply(variables, x)

    Args:
      module: the wrapped module.
      path: where it is.
      missing: the first variable that it has not, as collection and path.
      fix: how to make the variables.
    """

    def __init__(self, module: str, path: str | None, missing: str | None, fix: str):
        super().__init__(
            f"{module} has no variables yet." if missing is None else f"{module} lacks the variable {missing}.",
            path=path,
            expected="the variables that init makes",
            got="none" if missing is None else "variables without it",
            fix=fix,
        )


class UnknownCollectionError(BridgeError):
    """``mutable`` names a collection that neither the module has, nor this process or a plugin knows.

    Args:
      name: the collection.
      known: collections that would be right.
    """

    def __init__(self, name: str, known: Iterable[str]):
        super().__init__(
            f"There is no collection {name!r}.",
            collection=name,
            expected=f"one of {', '.join(sorted(known))}",
            got=repr(name),
            fix="check the spelling; if the module only makes it sometimes, fx_nnx.register_variable_name(name, type)",
        )


class UnknownPathError(BridgeError):
    """A variable lies below a part that the model does not have.

    Args:
      module: the model.
      collection: of the variable, if it is known.
      path: of the variable.
    """

    def __init__(self, module: str, collection: str | None, path: Sequence[Any]):
        super().__init__(
            f"{module} has no place for a variable.",
            path=show_path(path),
            collection=collection,
            expected="variables of this model",
            got="a variable below a part that the model does not have",
            fix="use the variables that init of this model made, or convert_variables(..., rename=...)",
        )


class BridgeMethodError(FxError, AttributeError):
    """A method was named that the wrapped module does not have.

    Args:
      module: class of the wrapped module.
      method: the name.
      known: methods that there are.
    """

    def __init__(self, module: str, method: Any, known: Iterable[str]):
        super().__init__(
            f"{module} has no method {method!r}.",
            path=module,
            expected=f"one of {', '.join(sorted(name for name in known if name == '__call__' or name[:1] != '_'))}",
            got=repr(method),
            fix="pass the name of a method of the wrapped module, or a function of it",
        )


class BridgeAttributeError(FxError, AttributeError):
    """A wrapped Linen module has no attribute of that name; before `lazy_init`, it has no variables.

    Args:
      module: the wrapped module.
      name: the attribute.
      initialized: whether it has variables.
    """

    def __init__(self, module: str, name: str, initialized: bool):
        super().__init__(
            f"{module} has no attribute {name!r}" + ("." if initialized else "; it has no variables yet."),
            path=module,
            expected="a variable, a submodule, or a method of the Linen module",
            got=name,
            fix="check the spelling" if initialized else "call bridge.lazy_init(model, x) once",
        )


class NameConflictError(BridgeError):
    """Two things would have one name.

    An NNX module keeps the variables of all collections, its submodules and its methods as attributes, so that names
    must differ where Linen lets collections share them.

    Args:
      module: where.
      name: the attribute.
      new: what should get it.
      old: what has it.
    """

    def __init__(self, module: str, name: Any, new: str, old: str):
        super().__init__(
            f"The name {name!r} is taken in {module}.",
            path=f"{module}.{name}",
            expected="a name of its own for each variable, submodule and method",
            got=f"{new}, while {old} has the name",
            fix="rename one of them",
        )


class BridgeTargetError(FxError, TypeError):
    """Something was to be wrapped or initialized that is no module.

    Args:
      caller: the function, as in ``"ToNNX"``.
      expected: what it takes.
      got: what it got.
    """

    def __init__(self, caller: str, expected: str, got: Any):
        super().__init__(
            f"{caller} cannot take this.",
            expected=expected,
            got=f"{type(got).__name__}: {got!r}",
            fix=f"pass {expected}",
        )


class BridgeRngsError(FxError, TypeError):
    """RNG streams were given in a form that is not known.

    Args:
      got: what was given.
    """

    def __init__(self, got: Any):
        super().__init__(
            "These are no RNG streams.",
            expected="an fx_nnx.Rngs, a key, or a dictionary of keys by stream name",
            got=f"{type(got).__name__}: {got!r}",
            fix="pass rngs=nnx.Rngs(0, dropout=1) or rngs={'dropout': key}",
        )


class AbsentStreamError(FxError, ValueError):
    """An NNX module inside of Linen draws from a stream that ``apply`` did not get.

    ::

        model.apply(variables, x)                          # wrong if the module drops at random
        model.apply(variables, x, rngs={"dropout": key})   # right

    Args:
      stream: the stream, or ``"params"``, which serves those that were not given.
    """

    def __init__(self, stream: str):
        super().__init__(
            "An NNX module draws from an RNG stream that was not given.",
            expected=f"a key for the stream, or for {stream!r}, which serves streams that were not given",
            got="neither",
            fix="pass rngs={'dropout': key}, or what the stream is called, or set the layer to be deterministic",
        )


class BridgePlaceError(BridgeError):
    """Something of bridge modules was used where it means nothing.

    ::

        bridge.nnx_in_bridge_mdl(lambda rngs: nnx.Linear(2, 3, rngs=rngs))    # wrong outside of a compact method

        class Block(bridge.Module):
            @bridge.compact
            def __call__(self, x):
                return bridge.nnx_in_bridge_mdl(lambda rngs: nnx.Linear(2, 3, rngs=rngs))(x)   # right

    Args:
      what: what was used.
      expected: where it belongs.
      fix: what to do.
    """

    def __init__(self, what: str, expected: str, fix: str):
        super().__init__(f"{what} cannot be used here.", expected=expected, got="a call from elsewhere", fix=fix)
