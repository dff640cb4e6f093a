"""A module's access to its variables and random keys."""

from collections.abc import Callable, Mapping
from typing import Any, TypeVar, overload

import jax
from fx_core.errors import ArgumentError
from fx_core.scope import Scope, Variable

from fx_linen.module._base import ModuleBase, where
from fx_linen.module._errors import UnboundModuleError
from fx_linen.module._naming import claim_variable

__all__ = ["VariableAccess"]

T = TypeVar("T")


def bound_scope(module: ModuleBase, action: str) -> Scope:
    """Returns the module's scope.

    Raises:
      UnboundModuleError: it has none.
    """
    scope = module.scope
    if scope is None:
        raise UnboundModuleError(action, type(module).__name__)
    return scope


def _check_place(module: ModuleBase, what: str, name: str) -> Scope:
    scope = bound_scope(module, f"make the variable {name!r}")
    state = module._state
    if state.initialized and not (state.in_compact or state.in_setup or state.name_scope is not None):
        raise ArgumentError(
            f"{what} must be initialized in `setup()` or in a method wrapped in `@compact`.",
            path=where(module),
            got=f"{name!r} made by another method",
            fix=f"Make {name!r} in setup(), or put @nn.compact on the method.",
        )
    return scope


class VariableAccess(ModuleBase):
    """Parameters, variables and keys of a bound module."""

    def param(self, name: str, init_fn: Callable[..., T], *init_args: Any, unbox: bool = True, **init_kwargs: Any) -> T:
        """Creates or reads a parameter: a variable of the collection ``"params"``.

        Args:
          name: its name, unique in the module.
          init_fn: called as ``init_fn(key, *init_args, **init_kwargs)`` when the parameter does not exist yet.
          *init_args: usually the shape and the dtype.
          unbox: take the value out of an `AxisMetadata` box such as `Partitioned`.
          **init_kwargs: more arguments of ``init_fn``.

        Returns:
          The parameter's value.

        Raises:
          NameInUseError: a submodule or another parameter has the name.
          ArgumentError: called outside of ``setup`` and compact methods.
          ScopeParamShapeError: the stored value has another shape than the initializer gives.
        """
        scope = _check_place(self, "Parameters", name)
        claim_variable(self, "param", "params", name)
        return scope.param(name, init_fn, *init_args, unbox=unbox, **init_kwargs)

    def variable(
        self,
        col: str,
        name: str,
        init_fn: Callable[..., Any] | None = None,
        *init_args: Any,
        unbox: bool = True,
        **init_kwargs: Any,
    ) -> Variable[Any]:
        """Creates or finds a variable of any collection.

        Unlike a parameter's, the initializer gets no key: use ``self.make_rng`` in it where needed.

        Args:
          col: the collection.
          name: its name, unique in the module and collection.
          init_fn: called as ``init_fn(*init_args, **init_kwargs)`` when the variable does not exist yet.
          *init_args: its arguments.
          unbox: take values out of `AxisMetadata` boxes when reading, put them back when writing.
          **init_kwargs: more arguments of ``init_fn``.

        Returns:
          The variable; read and assign its ``value``.

        Raises:
          NameInUseError: a submodule or another variable of the collection has the name.
          ArgumentError: called outside of ``setup`` and compact methods.
        """
        scope = _check_place(self, "Variables", name)
        claim_variable(self, "variable", col, name)
        return scope.variable(col, name, init_fn, *init_args, unbox=unbox, **init_kwargs)

    @overload
    def get_variable(self, col: str, name: str) -> Any: ...
    @overload
    def get_variable(self, col: str, name: str, default: T) -> Any | T: ...

    def get_variable(self, col: str, name: str, default: Any = None) -> Any:
        """Reads a variable's value.

        Args:
          col: the collection.
          name: the variable.
          default: what to return when there is none.
        """
        return bound_scope(self, "read variables").get_variable(col, name, default)

    def put_variable(self, col: str, name: str, value: Any) -> None:
        """Writes a variable's value.

        Args:
          col: the collection, which has to be mutable.
          name: the variable.
          value: its new value.

        Raises:
          ModifyScopeVariableError: the collection is not mutable.
        """
        bound_scope(self, "write variables").put_variable(col, name, value)

    def has_variable(self, col: str, name: str) -> bool:
        """Returns whether the module has a variable of that name in the collection."""
        return bound_scope(self, "look for variables").has_variable(col, name)

    def is_mutable_collection(self, col: str) -> bool:
        """Returns whether variables of the collection can be written."""
        return bound_scope(self, "check whether a collection is mutable").is_mutable_collection(col)

    def has_rng(self, name: str) -> bool:
        """Returns whether keys for the stream were given."""
        return bound_scope(self, "look for RNG streams").has_rng(name)

    def make_rng(self, name: str = "params") -> jax.Array:
        """Draws a new key from a stream; ``"params"`` serves those that were not given.

        Args:
          name: the stream, such as ``"dropout"``.

        Raises:
          InvalidRngError: neither it nor ``"params"`` was given.
        """
        return bound_scope(self, "make PRNG keys").make_rng(name)

    def is_initializing(self) -> bool:
        """Returns whether ``init`` is running, rather than ``apply``."""
        return bool(bound_scope(self, "know whether init is running").get_flag("initializing", False))

    @property
    def variables(self) -> Mapping[str, Mapping[str, Any]]:
        """The module's variables by collection, its submodules' included."""
        return bound_scope(self, "read variables").variables()

    @property
    def path(self) -> tuple[str, ...]:
        """The names from the top module to this one."""
        return bound_scope(self, "know its path").path
