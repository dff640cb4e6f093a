"""Errors of the values of variables of object modules."""

from typing import Any

from fx_core.errors.nnx import NnxError

__all__ = ["VariableValueError"]


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
