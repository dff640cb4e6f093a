"""Errors of object modules: variables, attributes, graphs, states and RNG streams."""

from collections.abc import Iterable, Sequence
from typing import Any

from fx_core.errors._base import FxError
from fx_core.errors.scope import TraceContextError


def show_path(path: Sequence[Any]) -> str:
    """Writes a path of attributes and items as ``/encoder/layers/0``."""
    return "/" + "/".join(str(key) for key in path)


class NnxError(FxError, ValueError):
    """Base class of the errors of `fx_nnx`; also a `ValueError`, as those of the reference library are."""


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


class InPlaceOperationError(FxError, NotImplementedError):
    """``variable += x`` would make a name point at an array instead of changing the variable."""

    def __init__(self, kind: str, operator: str):
        super().__init__(
            f"{kind} does not support the in-place operator {operator!r}.",
            fix=f"write variable[...] {operator} value",
        )


class VariableAttributeError(FxError, AttributeError):
    """An attribute of a variable was set; metadata has its own door."""

    def __init__(self, kind: str, attribute: str):
        super().__init__(
            f"Cannot set attribute {attribute!r} of {kind}.",
            fix=f"variable.set_metadata({attribute}=value) for metadata, variable[...] = value for the value",
        )


class MetadataError(NnxError, ValueError):
    """Metadata of a variable was to change in a way that it cannot."""

    def __init__(self, kind: str, what: str, *, fix: str):
        super().__init__(f"The metadata of {kind}: {what}.", path=kind, fix=fix)


class VariableTypeError(NnxError):
    """A variable was to take over the value of one of another type."""

    def __init__(self, kind: str, got: str):
        super().__init__(
            f"{kind} cannot be copied from {got}.",
            expected=kind,
            got=got,
            fix="update_from_state(other), which ignores the type, or set_value(other.get_value())",
        )


class FilterTypeError(FxError, TypeError):
    """Something was given as a filter that is not one."""

    def __init__(self, got: Any):
        super().__init__(
            "Invalid filter.",
            expected="a variable type, a tag, a bool, `...`, None, a list of filters, or a function of (path, value)",
            got=repr(got),
        )


class FilterOrderError(NnxError):
    """``...`` or ``True`` matches everything, so that later filters would match nothing."""

    def __init__(self, got: Any, index: int):
        super().__init__(
            "`...` and `True` can only be the last filters.",
            got=f"{got!r} at index {index}",
            fix="move it to the end",
        )


class NonExhaustiveFiltersError(NnxError):
    """The filters of a split leave something over.

    ::

        nnx.split(model, nnx.Param)           # wrong if the model has batch statistics
        nnx.split(model, nnx.Param, ...)      # right
    """

    def __init__(self, rest: Sequence[Sequence[Any]]):
        shown = ", ".join(show_path(path) for path in rest[:5]) + (", …" if len(rest) > 5 else "")
        super().__init__(
            f"The filters leave {len(rest)} value(s) over.",
            path=show_path(rest[0]),
            expected="filters that match every value",
            got=f"no filter for {shown}",
            fix="add `...` as the last filter",
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


class StaticAttributeError(NnxError):
    """Data was assigned to an attribute that is static since its first assignment."""

    def __init__(self, owner: str, name: Any, got: type):
        super().__init__(
            f"Cannot assign data to the static attribute {name!r} of {owner}.",
            path=f"{owner}.{name}",
            expected="a static value, as at the first assignment",
            got=f"a value of type {got.__name__}",
            fix=f"declare it: _.{name} = nnx.data(...), or annotate the class attribute with nnx.data()",
        )


class UnhashableStaticError(FxError, TypeError):
    """A static attribute has no hash, so JAX cannot cache what it compiles for the module.

    Lists, dicts and sets, dataclasses, NumPy arrays and other objects without a hash are taken as what is in them. This
    cannot be done for what holds itself, or has its content out of reach. Right: a frozen dataclass, or
    ``nnx.data(...)`` for what is to change without compiling anew.
    """

    def __init__(self, path: Sequence[Any], value: Any):
        super().__init__(
            "A static attribute is not hashable.",
            path=show_path(path),
            expected="a hashable value, or one whose content can be looked at: a list, dict, set, dataclass, array",
            got=f"{type(value).__name__}: {value!r}",
            fix="use a frozen dataclass; wrap arrays and what shall change in nnx.data or a Variable",
        )


class NotANodeError(NnxError):
    """Something was split or searched that is not made of modules; or, at ``tree_path``, is no part of a tree."""

    def __init__(self, got: Any, tree_path: Sequence[Any] | None = None):
        if tree_path is None:
            super().__init__(
                "The value is not a graph node.",
                expected="a Module, a Pytree, or a pytree of them",
                got=f"{type(got).__name__}: {got!r}",
            )
            return
        super().__init__(
            f"{type(got).__name__} has pytree=False, and so is no part of a tree.",
            path=show_path(tree_path),
            expected="with graph=False, objects that are pytrees",
            got=f"an object of type {type(got).__name__}",
            fix="use graph=True, or a class without pytree=False",
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


class UnknownReferenceError(NnxError):
    """A graph definition refers to an object of another model, which is not there."""

    def __init__(self, index: int):
        super().__init__(
            f"The graph definition refers to the object or variable with number {index}, which is not in it.",
            expected="a definition of a whole model, or index_ref with what other models share with it",
            got=f"a reference to number {index}",
            fix="unflatten the models in the order in which they were flattened, with one dictionary as index_ref",
        )


class CycleReplacedError(NnxError):
    """`fx_nnx.recursive_map` was to replace an object that is a part of itself."""

    def __init__(self, kind: str, path: Sequence[Any], got: str):
        super().__init__(
            f"{kind} is a part of itself, so that a map cannot put another object in its place.",
            path=show_path(path),
            expected="the object that the function was called with, changed in place or not",
            got=f"a new object of type {got}",
            fix="change the copy that the function gets, and return it",
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


class MissingAttributeError(NnxError):
    """`set_attributes` found no module with the attributes."""

    def __init__(self, names: Iterable[str]):
        super().__init__(
            f"No module has the attribute(s) {sorted(names)!r}.",
            expected="at least one module with each attribute",
            got="none",
            fix="check the spelling and the filters, or pass raise_if_not_found=False",
        )


class UnknownViewOptionError(NnxError):
    """`fx_nnx.view` was given a setting that no module takes."""

    def __init__(self, names: Sequence[str], known: Sequence[str]):
        super().__init__(
            f"No module has a view with {', '.join(names)}.",
            expected=f"one of {', '.join(known)}" if known else "no setting: no module has a method set_view",
            got=", ".join(names),
            fix="check the spelling and the filter (nnx.view_info(model) lists settings), or raise_if_not_found=False",
        )


class MissingRngError(FxError, AttributeError):
    """An RNG stream was asked for that was not given."""

    def __init__(self, name: str, known: Sequence[str], path: str | None = None):
        super().__init__(
            f"There is no RNG stream {name!r}.",
            path=path,
            expected=f"one of {list(known)}" if known else "a stream",
            got=name,
            fix=f"Rngs(..., {name}=seed), or Rngs(seed), whose default stream serves every name",
        )


class RandomMethodError(NnxError):
    """A way to draw random numbers was asked for that this version of JAX does not have."""

    def __init__(self, name: str, method: str, version: str):
        super().__init__(
            f"JAX {version} has no method {method!r} for {name}.",
            expected="'exact'",
            got=repr(method),
            fix="leave method away, or use a newer JAX",
        )


class ModeValueError(FxError, TypeError):
    """A setting such as ``set_graph_mode`` was given something else than True or False."""

    def __init__(self, name: str, got: Any):
        super().__init__(
            f"{name} is on or off.",
            expected="True or False",
            got=repr(got),
            fix=f"{name}(True) or {name}(False)",
        )


class SplitStreamError(NnxError):
    """An RNG stream that is split was asked for one key.

    A split stream holds a key for each step of a `fx_nnx.vmap` or `fx_nnx.scan`, and gives keys inside of it.
    """

    def __init__(self, name: str, shape: Sequence[int]):
        super().__init__(
            f"The RNG stream {name!r} is split.",
            expected="a stream with one key",
            got=f"keys of shape {tuple(shape)}",
            fix="use it inside the vmap or scan that it was split for, or restore it with restore_rngs",
        )


class RngSplitError(NnxError):
    """A split of random keys was asked for that is not possible."""

    def __init__(self, what: str, *, expected: Any = None, got: Any = None, fix: str | None = None):
        super().__init__(what, expected=expected, got=got, fix=fix)


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
