"""What a layer class is made from: its parameters, with their types and defaults."""

import collections.abc
import dataclasses
import functools
import inspect
import types
import typing
from typing import Any

from fx_core.plugins.registry import Face

IMPLIED: dict[str, frozenset[str]] = {"linen": frozenset({"parent"}), "nnx": frozenset({"rngs"})}
"""Parameters that come from where the layer is made, never from a description."""

REQUIRED = inspect.Parameter.empty


@dataclasses.dataclass(frozen=True)
class Parameter:
    """A parameter of a layer class.

    Attributes:
      name: how a description spells it.
      annotation: its type; Any where the author gave none that can be resolved.
      default: its default, or `REQUIRED`.
      repeated: whether it takes any number of positional arguments, which a description gives as a list.
    """

    name: str
    annotation: Any
    default: Any
    repeated: bool = False

    @property
    def required(self) -> bool:
        """Whether a description has to give it."""
        return self.default is REQUIRED and not self.repeated


@dataclasses.dataclass(frozen=True)
class Signature:
    """The parameters of a layer class.

    Attributes:
      parameters: by name, in order.
      implied: those that are filled in where the layer is made, and whether it cannot do without.
      any_name: whether it takes keyword arguments of any name.
    """

    parameters: dict[str, Parameter]
    implied: dict[str, bool]
    any_name: bool

    def __str__(self) -> str:
        words = [p.name if p.required else f"{p.name}=…" for p in self.parameters.values()]
        return f"({', '.join(words)})"


@functools.lru_cache(maxsize=1024)
def signature_of(layer: type, face: Face) -> Signature:
    """Returns the parameters of a layer class: those of its ``__init__``, which dataclasses have too.

    Where that takes ``**kwargs``, the parameters of the class that it inherits from are among them.
    """
    parameters: dict[str, Parameter] = {}
    any_name = False
    for base in layer.__mro__[:-1]:
        init = vars(base).get("__init__")
        if init is None:
            continue
        own, any_name = _parameters(init)
        parameters = {**parameters, **{name: one for name, one in own.items() if name not in parameters}}
        if not any_name:
            break
    for field in dataclasses.fields(layer) if dataclasses.is_dataclass(layer) else ():
        if field.default_factory is not dataclasses.MISSING and field.name in parameters:
            # The signature has only a mark in the place of such a default.
            parameters[field.name] = dataclasses.replace(parameters[field.name], default=field.default_factory())
    implied = {name: parameters[name].required for name in IMPLIED[face] & parameters.keys()}
    kept = {name: parameter for name, parameter in parameters.items() if name not in implied}
    return Signature(kept, implied, any_name)


def _parameters(init: Any) -> tuple[dict[str, Parameter], bool]:
    """Returns the parameters of an ``__init__``, and whether it takes keyword arguments of any name."""
    found = list(inspect.signature(init).parameters.values())[1:]
    try:
        hints = typing.get_type_hints(init)
    except Exception:  # Names that only a type checker sees, or whatever an annotation does when it is evaluated.
        hints = {}
    parameters = {
        one.name: Parameter(
            one.name, hints.get(one.name, Any), one.default, one.kind is inspect.Parameter.VAR_POSITIONAL
        )
        for one in found
        if one.kind is not inspect.Parameter.VAR_KEYWORD
    }
    return parameters, len(parameters) < len(found)


def alternatives(annotation: Any) -> list[Any]:
    """Returns the members of a union, of those inside it too; a type that is no union is its own only member.

    >>> alternatives(int | str | None)
    [<class 'int'>, <class 'str'>, <class 'NoneType'>]
    """
    if typing.get_origin(annotation) in (typing.Union, types.UnionType):
        return [one for member in typing.get_args(annotation) for one in alternatives(member)]
    return [annotation]


def items_of(annotation: Any) -> Any | None:
    """Returns the type of the items where the annotation is a kind of list or tuple of one type, else None."""
    origin = typing.get_origin(annotation) or annotation
    arguments = [one for one in typing.get_args(annotation) if one is not Ellipsis]
    if not isinstance(origin, type) or origin in (str, bytes):
        return None
    if not issubclass(origin, collections.abc.Iterable) or issubclass(origin, collections.abc.Mapping):
        return None
    return arguments[0] if len(set(map(repr, arguments))) == 1 else Any


def values_of(annotation: Any) -> Any | None:
    """Returns the type of the values where the annotation is a kind of mapping, else None."""
    origin = typing.get_origin(annotation) or annotation
    if isinstance(origin, type) and issubclass(origin, collections.abc.Mapping):
        arguments = typing.get_args(annotation)
        return arguments[1] if len(arguments) == 2 else Any
    return None


def takes_callables(annotation: Any) -> bool:
    """Returns whether a function may stand where the annotation is."""
    origin = typing.get_origin(annotation) or annotation
    if origin in (Any, object, collections.abc.Callable):
        return True
    # Protocols such as that of initializers are types of functions.
    return bool(getattr(origin, "_is_protocol", False)) and "__call__" in vars(origin)


def says(annotation: Any) -> str:
    """Returns an annotation as a person would write it.

    >>> says(int | None), says(typing.Sequence[int])
    ('int | None', 'Sequence[int]')
    """
    if isinstance(annotation, type) and not typing.get_args(annotation):
        return "None" if annotation is type(None) else annotation.__name__
    text = str(annotation)
    for module in ("typing.", "collections.abc."):
        text = text.replace(module, "")
    return text
