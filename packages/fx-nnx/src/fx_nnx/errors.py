"""The errors of fx-nnx, and of the transforms of its modules."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from fx_core.errors import (
    ArgumentError,
    ArgumentTypeError,
    FxError,
    InvalidAttributeError,
    ShapeMismatchError,
    TraceContextError,
    UnsupportedOperationError,
)

from fx_nnx.paths import show_path

__all__ = [
    "ArgumentError",
    "ArgumentNumberError",
    "ArgumentTypeError",
    "HiddenDataError",
    "InvalidAttributeError",
    "NnxError",
    "PrefixError",
    "ShapeMismatchError",
    "SharedReferenceError",
    "StateStructureError",
    "StaticArgumentError",
    "TraceContextError",
    "TraceLevelError",
    "UnsupportedOperationError",
    "VariableConversionError",
]


class NnxError(FxError, ValueError):
    """What goes wrong with modules, variables and states of `fx_nnx`, and the base class of its other errors."""


class TraceLevelError(NnxError, TraceContextError):
    """A variable or module was changed inside a JAX transform that did not get it as an argument.

    The change would put a tracer into an object that outlives the trace::

        model = nnx.Linear(2, 3, rngs=nnx.Rngs(0))

        @jax.jit
        def step(x):
            model.bias[...] = x      # wrong: `model` comes from outside

        @jax.jit
        def step(graphdef, state, x):
            model = nnx.merge(graphdef, state)
            model.bias[...] = x      # right: this one was made inside
            return nnx.state(model)

    `jax.grad` and `jax.vjp` give arguments that they do not differentiate to the function as they are, so that a merge
    inside has the variables from outside, unless it copies them: ``nnx.merge(graphdef, params, rest, copy=True)``.
    """

    def __init__(self, kind: str, path: str | None = None, call: str | None = None):
        where = f" (at {call})" if call else ""
        super().__init__(
            f"Cannot change {kind} from a different trace level{where}.",
            path=path,
            expected="an object that was made inside this transform, or passed to it as an argument",
            got="an object from outside the transform",
            fix="pass it as an argument; what was split outside and merged inside of jax.grad and the like has to be "
            "merged with variables of its own: nnx.merge(graphdef, state, copy=True), and its new state returned",
        )


class HiddenDataError(NnxError):
    """Arrays or variables were put into a plain container, where they are not found.

    ::

        self.layers = [nnx.Linear(...)]             # wrong
        self.layers = nnx.List([nnx.Linear(...)])   # right
        self.layers = nnx.data([nnx.Linear(...)])   # right: a plain list, declared to hold data
    """

    def __init__(self, owner: str, name: Any, container: type, found: Iterable[str]):
        super().__init__(
            f"The attribute {name!r} of {owner} is static, but its {container.__name__} holds data.",
            path=f"{owner}.{name}",
            expected="a static attribute without arrays, variables or modules",
            got=f"a {container.__name__} with {', '.join(sorted(set(found)))}",
            fix="use nnx.List or nnx.Dict, wrap the value in nnx.data(...), or annotate the class attribute with it",
        )


class SharedReferenceError(NnxError):
    """One object is reachable on two paths although the structure is to be a tree."""

    def __init__(self, kind: str, first: Sequence[Any], second: Sequence[Any], fix: str | None = None):
        super().__init__(
            f"{kind} is reachable on two paths.",
            path=show_path(second),
            expected="a tree",
            got=f"the same object at {show_path(first)} and {show_path(second)}",
            fix=fix or "use graph=True, which keeps shared references, or copy the object",
        )


class StateStructureError(NnxError):
    """A state does not belong to a graph definition, or two states overlap."""

    def __init__(
        self, what: str, path: Sequence[Any], *, expected: Any = None, got: Any = None, fix: str | None = None
    ):
        super().__init__(
            what,
            path=show_path(path),
            expected=expected,
            got=got,
            fix=fix or "merge the graph definition with all states of the split that made it",
        )


class VariableConversionError(NnxError):
    """The variables of a Linen model and of an NNX model do not match.

    The report of a conversion, which the text holds, lists what is missing, what is left over, and which shapes differ.
    Models whose parts have other names need a ``rename``.
    """

    def __init__(self, report: str):
        super().__init__(
            "The variables do not match the model.",
            expected="a value of the same shape for each variable, and nothing else",
            got=report,
            fix="pass rename=..., which maps the paths of one model to those of the other, or strict=False",
        )


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


def wrong_metadata(kind: str, what: str, *, fix: str) -> NnxError:
    """Metadata of a variable was to change in a way that it cannot."""
    return NnxError(f"The metadata of {kind}: {what}.", path=kind, fix=fix)


def unhashable_static(path: Sequence[Any], value: Any) -> ArgumentTypeError:
    """A static attribute has no hash, so JAX cannot cache what it compiles for the module."""
    return ArgumentTypeError(
        "A static attribute is not hashable.",
        path=show_path(path),
        expected="a hashable value, or one whose content can be looked at: a list, dict, set, dataclass, array",
        got=f"{type(value).__name__}: {value!r}",
        fix="use a frozen dataclass; wrap arrays and what shall change in nnx.data or a Variable",
    )


def no_initializer(kind: str, args: Sequence[Any], kwargs: Mapping[str, Any]) -> ArgumentTypeError:
    """Arguments were given to a class without ``__init__``, which Python would drop."""
    given = [*map(repr, args), *(f"{name}={value!r}" for name, value in kwargs.items())]
    return ArgumentTypeError(
        f"{kind} takes no arguments.",
        expected="none, since the class has no __init__",
        got=f"{', '.join(given):.200}",
        fix="define __init__, or decorate the class with nnx.dataclass, which makes one of annotations",
    )


def not_a_node(got: Any, tree_path: Sequence[Any] | None = None) -> NnxError:
    """Something was split or searched that is not made of modules; or, at ``tree_path``, is no part of a tree."""
    if tree_path is None:
        return NnxError(
            "The value is not a graph node.",
            expected="a Module, a Pytree, or a pytree of them",
            got=f"{type(got).__name__}: {got!r}",
        )
    return NnxError(
        f"{type(got).__name__} has pytree=False, and so is no part of a tree.",
        path=show_path(tree_path),
        expected="with graph=False, objects that are pytrees",
        got=f"an object of type {type(got).__name__}",
        fix="use graph=True, or a class without pytree=False",
    )


def unknown_reference(index: int) -> NnxError:
    """A graph definition refers to an object of another model, which is not there."""
    return NnxError(
        f"The graph definition refers to the object or variable with number {index}, which is not in it.",
        expected="a definition of a whole model, or index_ref with what other models share with it",
        got=f"a reference to number {index}",
        fix="unflatten the models in the order in which they were flattened, with one dictionary as index_ref",
    )


def missing_attribute(names: Iterable[str]) -> NnxError:
    """`set_attributes` found no module with the attributes."""
    return NnxError(
        f"No module has the attribute(s) {sorted(names)!r}.",
        expected="at least one module with each attribute",
        got="none",
        fix="check the spelling and the filters, or pass raise_if_not_found=False",
    )


def mode_value(name: str, got: Any) -> ArgumentTypeError:
    """A setting such as ``set_graph_mode`` was given something else than True or False."""
    return ArgumentTypeError(
        f"{name} is on or off.", expected="True or False", got=repr(got), fix=f"{name}(True) or {name}(False)"
    )


def variable_value(kind: str, path: str | None, what: str, *, expected: Any, got: Any, fix: str) -> NnxError:
    """A value does not fit the place in a variable that it is to be written to."""
    return NnxError(f"{kind}: {what}.", path=path or kind, expected=expected, got=got, fix=fix)


def layer_call(layer: str, what: str, *, expected: Any = None, got: Any = None, fix: str | None = None) -> NnxError:
    """A layer was made or called with arguments that do not fit."""
    return NnxError(f"{layer}: {what}", path=layer, expected=expected, got=got, fix=fix)


def wrong_tangent(reason: str) -> NnxError:
    """Tangents or cotangents do not fit the arguments that they are for."""
    return NnxError(
        "The tangents do not fit the arguments.",
        expected="one for each argument: for modules a state or module, for arrays an array, or None",
        got=reason,
        fix="give each argument a tangent of its form",
    )


def variable_type(kind: str, got: str) -> NnxError:
    """Returns the error for a variable copied from one of another type."""
    return NnxError(
        f"{kind} cannot be copied from {got}.",
        expected=kind,
        got=got,
        fix="update_from_state(other), which ignores the type, or set_value(other.get_value())",
    )


def static_attribute(owner: str, name: Any, got: type) -> NnxError:
    """Returns the error for data assigned to an attribute that is static."""
    return NnxError(
        f"Cannot assign data to the static attribute {name!r} of {owner}.",
        path=f"{owner}.{name}",
        expected="a static value, as at the first assignment",
        got=f"a value of type {got.__name__}",
        fix=f"declare it: _.{name} = nnx.data(...), or annotate the class attribute with nnx.data()",
    )


def cache_missing(layer: str, path: str | None) -> NnxError:
    """Returns the error for decoding without a cache."""
    return NnxError(
        f"{layer}: there is no cache to decode with.",
        path=path or layer,
        expected="a cache for the batch and the longest sequence",
        got="none",
        fix="call init_cache((*batch, length, features)), or set_view(batch_size=..., max_length=...)",
    )
