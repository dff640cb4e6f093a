"""Errors of variables of object modules: their names and their values."""

from collections.abc import Iterable
from typing import Any

from fx_core.errors.nnx import NnxError


class SowTargetError(NnxError, TypeError):
    """A value was sown, or a perturbation asked for, under the name of another attribute.

    Args:
      owner: class of the module.
      name: the attribute.
      expected: type of the variable that was to be there.
      got: type of what is there.
    """

    def __init__(self, owner: str, name: str, expected: str, got: str):
        super().__init__(
            f"{owner}.{name}: expected {expected}, got {got}.",
            path=f"{owner}.{name}",
            expected=f"a variable of type {expected}, or nothing",
            got=got,
            fix="sow under another name",
        )


class VariableValueError(NnxError):
    """A value does not fit the place in a variable that it is to be written to.

    A variable that is backed by a reference has one shape and one dtype for life::

        weight = nnx.Param(jnp.ones((2, 3)), ref=True)
        weight[...] = jnp.ones((3, 2))               # wrong: another shape
        weight[...] = jnp.ones((2, 3), jnp.int32)    # wrong: another dtype
        weight[...] = jnp.zeros((2, 3))              # right

    So has a part of a variable: ``weight[0] = jnp.ones(4)`` is wrong, ``weight[0] = jnp.ones(3)`` right.

    Args:
      kind: type of the variable.
      path: where it is.
      what: what cannot be done.
      expected: what would fit.
      got: what came.
      fix: what to do.
    """

    def __init__(self, kind: str, path: str | None, what: str, *, expected: Any, got: Any, fix: str):
        super().__init__(f"{kind}: {what}.", path=path or kind, expected=expected, got=got, fix=fix)


class UnknownVariableNameError(NnxError):
    """A collection name has no variable type, or a variable type no collection name."""

    def __init__(self, what: str, known: Iterable[str]):
        super().__init__(
            f"{what} is not registered.",
            expected=f"one of {', '.join(sorted(known))}",
            got=what,
            fix="register_variable_name(name, type), allow_register=True, or a plugin with a collection entry",
        )


class VariableNameTakenError(NnxError):
    """A collection name was registered twice."""

    def __init__(self, name: str, owner: type):
        super().__init__(
            f"The variable name {name!r} is taken.",
            collection=name,
            got=f"a second type; {owner.__module__}.{owner.__qualname__} has the name",
            fix="choose another name, or register it with overwrite=True",
        )
