"""Errors of the transforms of object modules."""

from collections.abc import Iterable, Sequence
from typing import Any

from fx_core.errors._base import FxError
from fx_core.errors.nnx import NnxError, show_path


class PrefixError(NnxError):
    """Axes, shardings or parts of a derivative do not fit the arguments or results that they are for.

    ::

        nnx.vmap(f, in_axes=(0, 0))(model)                                  # wrong: one argument, two entries
        nnx.vmap(f, in_axes=(nnx.StateAxes({nnx.Param: 0}),))(model)        # wrong if there are batch statistics
        nnx.vmap(f, in_axes=(nnx.StateAxes({nnx.Param: 0, ...: None}),))(model)
    """

    @classmethod
    def mismatch(cls, name: str, prefix: Any, reason: str) -> "PrefixError":
        """The tree of entries is not a prefix."""
        return cls(
            f"{name} does not fit what it is for.",
            expected="one entry for all, or a tree of entries that begins like the arguments or results",
            got=f"{prefix!r} ({reason})",
            fix=f"give {name} one entry per positional argument or result",
        )

    @classmethod
    def unmatched(cls, kind: str, path: Sequence[Any], variable: type, filters: Iterable[Any]) -> "PrefixError":
        """No filter matches a variable."""
        return cls(
            f"{kind} has no entry for a variable.",
            path=show_path(path),
            expected=f"a filter that matches, among {list(filters)!r}",
            got=f"a {variable.__name__}",
            fix="add an entry for `...` at the end",
        )

    @classmethod
    def misplaced(cls, name: str, got: Any, expected: str) -> "PrefixError":
        """An entry that the transform has no use for."""
        return cls(f"{name} has an entry that it cannot have.", expected=expected, got=repr(got))


class OutputAliasError(NnxError):
    """A function that is not to change its arguments' structure returns a variable of an argument, or one twice.

    ::

        @nnx.jit(graph_updates=False)
        def f(model):
            return model                    # wrong: the caller has it
            return nnx.clone(model)         # right: a second model
    """

    def __init__(self, transform: str, kind: str, first: str, second: str):
        super().__init__(
            f"The function given to {transform} returns a {kind} that the caller has already.",
            path=second,
            expected="results without variables of the arguments, and each variable once",
            got=f"the same {kind} at {first} and {second}",
            fix="return its value or a copy, or use graph=True and graph_updates=True, which keep identities",
        )


class StaticArgumentError(FxError, TypeError, ValueError):
    """An argument that a function is to be compiled for has no hash, or is a module.

    ::

        nnx.jit(f, static_argnums=1)(model, [1, 2])     # wrong
        nnx.jit(f, static_argnums=1)(model, (1, 2))     # right

        nnx.jit(f, static_argnums=0)(model, x)          # wrong: its parameters would be constants
        nnx.jit(f)(model, x)                            # right
    """

    def __init__(
        self,
        transform: str,
        argument: int | str,
        value: Any,
        problem: str = "is not hashable",
        expected: str = "a hashable value, such as a tuple or a frozen dataclass",
        fix: str = "make it hashable, or do not declare it static",
    ):
        super().__init__(
            f"The static argument {argument!r} of {transform} {problem}.",
            expected=expected,
            got=f"{type(value).__name__}: {value!r}",
            fix=fix,
        )

    @classmethod
    def of_module(cls, transform: str, argument: int | str, value: Any) -> "StaticArgumentError":
        """It is a module, or holds or is bound to one."""
        return cls(
            transform,
            argument,
            value,
            "holds modules or variables, whose values would become constants of what is compiled",
            "a static argument without modules",
            f"pass the module as an ordinary argument, nnx.{transform}(f)(model, x), or transform its bound method, "
            f"nnx.{transform}(model.method)(x)",
        )


class ArgumentNumberError(FxError, TypeError, ValueError):
    """An option of a transform names an argument that is not there, or that the option cannot be for.

    Arguments are counted from 0, as in JAX::

        nnx.grad(loss, argnums=2)(model, x)      # wrong: there are two
        nnx.grad(loss, argnums=1)(model, x)      # right: by x
    """

    @classmethod
    def out_of_range(cls, transform: str, option: str, given: Any, arguments: Sequence[Any]) -> "ArgumentNumberError":
        """There is no such argument."""
        names = ", ".join(f"{n}: {name}" for n, name in enumerate(arguments)) or "none"
        return cls(
            f"{option} of {transform} names an argument that the function has not, or does not get by position.",
            expected=f"numbers or names among the arguments given ({names})",
            got=f"{option}={given!r}",
            fix="count from 0 and leave out `self` of bound methods; arguments that are counted are given by position",
        )

    @classmethod
    def both(cls, transform: str, first: str, second: str, given: Any) -> "ArgumentNumberError":
        """Two options exclude each other."""
        return cls(
            f"An argument of {transform} cannot be in {first} and in {second}.",
            expected="arguments in one of them",
            got=repr(given),
            fix=f"take it out of {second}",
        )


class DerivativeDtypeError(FxError, TypeError):
    """A derivative was asked for that does not exist, since the value is of integers or Booleans.

    ::

        nnx.grad(loss)(model)                                                  # wrong if a Param holds int8
        nnx.grad(loss, argnums=nnx.DiffState(0, nnx.LoRAParam))(model)         # right: by those of floating point
    """

    def __init__(self, transform: str, path: str, dtype: Any):
        super().__init__(
            f"{transform} is for a value that has no derivative.",
            path=path,
            expected="a dtype of floating point",
            got=str(dtype),
            fix="choose other variables with argnums=nnx.DiffState(0, filter), or pass allow_int=True",
        )


class DonatedBufferError(NnxError):
    """Two values share a buffer, and it is donated, so that one of them would lose it.

    ::

        agent.target = nnx.clone(agent.online)                   # wrong where `agent` is donated: same arrays
        agent.target = nnx.clone(agent.online, arrays=True)      # right: arrays of its own
    """

    def __init__(self, first: str, second: str):
        super().__init__(
            "Two values share a buffer that is donated.",
            path=second,
            expected="a buffer for each value that is donated",
            got=f"the same buffer at {first} and {second}",
            fix="copy one of them: nnx.clone(module, arrays=True), or jax.tree.map(jnp.copy, nnx.state(module))",
        )


class StaleConstantError(NnxError):
    """A compiled program is called after variables have changed that it read without getting them as arguments.

    ::

        compiled = nnx.jit(lambda x: model(x)).lower(x).compile()        # wrong if `model` is to change
        compiled = nnx.jit(lambda model, x: model(x)).lower(model, x).compile()
        compiled = nnx.jit(model.__call__).lower(x).compile()
    """

    def __init__(self, name: str):
        super().__init__(
            f"The program compiled of {name} has old values of variables as constants.",
            expected="variables as they were when it was compiled",
            got="variables from outside with new values",
            fix="pass their modules as arguments, or lower and compile again",
        )


class SealedStateError(FxError, TypeError):
    """A state whose structure is fixed, such as that of an optimizer, was to be changed."""

    def __init__(self, keys: Iterable[Any]):
        super().__init__(
            "The structure of a sealed state cannot be changed.",
            got=f"a state with the keys {list(keys)!r}",
            fix="change the values of its variables, or a copy: State(state.raw_mapping)",
        )


class TangentError(NnxError):
    """Tangents or cotangents do not fit the arguments that they are for.

    ::

        nnx.jvp(f, (model, x), (x_tangent,))                                       # wrong: one for two
        nnx.jvp(f, (model, x), (None, x_tangent))                                  # right: the model stands still
        nnx.jvp(f, (model, x), (jax.tree.map(jnp.ones_like, nnx.state(model)), x_tangent))
    """

    def __init__(self, reason: str):
        super().__init__(
            "The tangents do not fit the arguments.",
            expected="one for each argument: for modules a state or module, for arrays an array, or None",
            got=reason,
            fix="give each argument a tangent of its form",
        )


class CustomRuleError(FxError, TypeError, ValueError):
    """A function with a backward rule of its own was called before it got one, or its rule gives the wrong thing.

    ::

        @nnx.custom_vjp
        def f(model, x): ...

        f.defvjp(forward, backward)
    """

    def __init__(self, what: str, *, expected: Any = None, got: Any = None, fix: str | None = None):
        super().__init__(what, expected=expected, got=got, fix=fix)


class ContextTagError(NnxError):
    """A split or merge belongs to an update context that is not there."""

    def __init__(self, tag: Any, known: Iterable[Any]):
        super().__init__(
            f"There is no update context {tag!r}.",
            expected=f"one of {list(known)!r}",
            got=repr(tag),
            fix=f"do it inside of `with nnx.update_context({tag!r}):`",
        )


class NodeStatesError(NnxError):
    """Something was asked of `NodeStates` that they have not."""

    def __init__(self, what: str, expected: Any, got: Any):
        super().__init__(what, expected=expected, got=got, fix="make them with NodeStates.from_split, or use .states")
