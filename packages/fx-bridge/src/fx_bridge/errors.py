"""Mistakes at the border between Linen and NNX. What goes wrong inside a module has the errors of its own package."""

from collections.abc import Iterable, Sequence
from typing import Any

from fx_core.errors import ArgumentTypeError, FxError, InvalidAttributeError

__all__ = ["ArgumentTypeError", "BridgeError", "InvalidAttributeError", "UninitializedError"]


def show_path(path: Sequence[Any]) -> str:
    """Writes a path as ``/encoder/layers/0``."""
    return "/" + "/".join(map(str, path))


class BridgeError(FxError, ValueError):
    """Variables, names, streams or places of a Linen and an NNX module do not fit each other.

    An NNX module keeps the variables of all collections, its submodules and its methods as attributes, so that names
    must differ where Linen lets collections share them. A module inside of Linen has the streams that ``apply`` got::

        model.apply(variables, x)                                        # wrong, if the model has a Dropout
        model.apply(variables, x, rngs={"dropout": jax.random.key(1)})   # right
    """


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
    """


def uninitialized(module: str, path: str | None, missing: str | None, fix: str) -> UninitializedError:
    """A wrapped module was called before it had variables."""
    return UninitializedError(
        f"{module} has no variables yet." if missing is None else f"{module} lacks the variable {missing}.",
        path=path,
        expected="the variables that init makes",
        got="none" if missing is None else "variables without it",
        fix=fix,
    )


def unknown_path(module: str, collection: str | None, path: Sequence[Any]) -> BridgeError:
    """A variable lies below a part that the model does not have."""
    return BridgeError(
        f"{module} has no place for a variable.",
        path=show_path(path),
        collection=collection,
        expected="variables of this model",
        got="a variable below a part that the model does not have",
        fix="use the variables that init of this model made, or convert_variables(..., rename=...)",
    )


def bridge_method(module: str, method: Any, known: Iterable[str]) -> InvalidAttributeError:
    """A method was named that the wrapped module does not have."""
    return InvalidAttributeError(
        f"{module} has no method {method!r}.",
        path=module,
        expected=f"one of {', '.join(sorted(name for name in known if name == '__call__' or name[:1] != '_'))}",
        got=repr(method),
        fix="pass the name of a method of the wrapped module, or a function of it",
    )


def name_conflict(module: str, name: Any, new: str, old: str) -> BridgeError:
    """Two things would have one name."""
    return BridgeError(
        f"The name {name!r} is taken in {module}.",
        path=f"{module}.{name}",
        expected="a name of its own for each variable, submodule and method",
        got=f"{new}, while {old} has the name",
        fix="rename one of them",
    )


def bridge_target(caller: str, expected: str, got: Any) -> ArgumentTypeError:
    """Something was to be wrapped or initialized that is no module."""
    return ArgumentTypeError(
        f"{caller} cannot take this.", expected=expected, got=f"{type(got).__name__}: {got!r}", fix=f"pass {expected}"
    )


def bridge_place(what: str, expected: str, fix: str) -> BridgeError:
    """Something of bridge modules was used where it means nothing."""
    return BridgeError(f"{what} cannot be used here.", expected=expected, got="a call from elsewhere", fix=fix)
