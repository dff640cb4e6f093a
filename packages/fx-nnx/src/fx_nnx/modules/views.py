"""Views: a second set of objects around the same variables, with other settings."""

import inspect
from collections.abc import Sequence
from typing import Any, TypeVar

from fx_nnx.errors import NnxError, missing_attribute
from fx_nnx.filters import Filter, to_predicate
from fx_nnx.graph.functions import clone
from fx_nnx.graph.iterate import iter_graph
from fx_nnx.modules.module import iter_modules
from fx_nnx.objects.pytree import Pytree, attributes_of

__all__ = ["view", "view_info", "with_attributes"]

A = TypeVar("A")


def view(
    node: A, /, *, only: Filter = ..., raise_if_not_found: bool = True, graph: bool | None = None, **kwargs: Any
) -> A:
    """Returns a model with the same variables in which layers have other settings.

    Layers with a method ``set_view`` get the arguments that it takes; what a view learns, the model knows.

    >>> import fx_nnx as nnx
    >>> model = nnx.Dropout(0.5)
    >>> view(model, deterministic=True).deterministic, model.deterministic
    (True, False)

    Args:
      node: the model; it stays as it is.
      only: which modules.
      raise_if_not_found: whether each argument has to be taken by some module.
      graph: as in `fx_nnx.split`.
      **kwargs: settings; `view_info` lists what there is.

    Raises:
      NnxError: no chosen module takes one of the arguments.
    """
    matches = to_predicate(only)
    made = clone(node, variables=False, graph=graph)
    unused = set(kwargs)
    for path, module in iter_modules(made, graph=True):
        set_view = getattr(module, "set_view", None)
        if set_view is not None and matches(path, module):
            taken = kwargs.keys() & _options(module) if not _takes_any(module) else kwargs.keys()
            if taken:
                set_view(**{name: kwargs[name] for name in taken})
                unused -= taken
    if unused and raise_if_not_found:
        raise _unknown_view_option(sorted(unused), sorted(_all_options(made)))
    return made


def with_attributes(
    node: A, /, *, only: Filter = ..., raise_if_not_found: bool = True, graph: bool | None = None, **attributes: Any
) -> A:
    """Returns a model with the same variables in which all modules that have certain attributes have other ones.

    Args:
      node: the model; it stays as it is.
      only: which modules.
      raise_if_not_found: whether each attribute has to exist somewhere.
      graph: as in `fx_nnx.split`.
      **attributes: the new values.

    Raises:
      NnxError: no chosen module has one of the attributes.

    >>> import fx_nnx as nnx
    >>> model = nnx.Sequential(nnx.Linear(2, 2, rngs=nnx.Rngs(0)), nnx.Dropout(0.5))
    >>> evaluated = nnx.with_attributes(model, deterministic=True)
    >>> evaluated.layers[1].deterministic, model.layers[1].deterministic
    (True, False)
    """
    matches = to_predicate(only)
    made = clone(node, variables=False, graph=graph)
    missing = set(attributes)
    for path, found in iter_graph(made, graph=True):
        if isinstance(found, Pytree) and matches(path, found):
            for name in attributes.keys() & attributes_of(found).keys():
                setattr(found, name, attributes[name])
                missing.discard(name)
    if missing and raise_if_not_found:
        raise missing_attribute(missing)
    return made


def view_info(node: Any, /, *, only: Filter = ..., graph: bool | None = None) -> str:
    """Describes the settings that `view` can change in a model: for each class of its modules, arguments and their
    text.

    >>> import fx_nnx as nnx
    >>> print(view_info(nnx.Dropout(0.5)))
    Dropout:
      deterministic: bool | None = None
        Whether to let every value through; None leaves it as it is.

    Args:
      node: a model.
      only: which modules.
      graph: as in `fx_nnx.split`.
    """
    matches = to_predicate(only)
    classes = {
        type(module)
        for path, module in iter_modules(node, graph=graph)
        if hasattr(module, "set_view") and matches(path, module)
    }
    return "\n".join(_describe(cls) for cls in sorted(classes, key=lambda cls: cls.__qualname__))


def _parameters(module: Any) -> list[inspect.Parameter]:
    return [p for p in inspect.signature(module.set_view).parameters.values() if p.name != "self"]


def _options(module: Any) -> set[str]:
    return {p.name for p in _parameters(module) if p.kind in (p.KEYWORD_ONLY, p.POSITIONAL_OR_KEYWORD)}


def _takes_any(module: Any) -> bool:
    return any(p.kind is p.VAR_KEYWORD for p in _parameters(module))


def _all_options(model: Any) -> set[str]:
    return {
        name
        for _, module in iter_modules(model, graph=True)
        if hasattr(module, "set_view")
        for name in _options(module)
    }


def _describe(cls: type[Any]) -> str:
    texts = _argument_texts(inspect.getdoc(cls.set_view) or "")
    lines = [f"{cls.__qualname__}:"]
    for parameter in _parameters(cls):
        if parameter.kind is parameter.VAR_KEYWORD:
            continue  # what belongs to others, by its name
        lines.append(f"  {parameter}")
        lines += [f"    {line}" for line in texts.get(parameter.name, [])]
    return "\n".join(lines)


def _argument_texts(doc: str) -> dict[str, list[str]]:
    """Find the texts of the arguments in a docstring."""
    texts: dict[str, list[str]] = {}
    section = doc.partition("Args:\n")[2]
    name = ""
    for line in section.splitlines():
        if not line.strip() or not line.startswith(" "):
            break
        head, colon, text = line.strip().partition(": ")
        if colon and head.isidentifier():
            name, texts[head] = head, [text]
        elif name:
            texts[name].append(line.strip())
    return texts


def _unknown_view_option(names: Sequence[str], known: Sequence[str]) -> NnxError:
    return NnxError(
        f"No module has a view with {', '.join(names)}.",
        expected=f"one of {', '.join(known)}" if known else "no setting: no module has a method set_view",
        got=", ".join(names),
        fix="check the spelling and the filter (nnx.view_info(model) lists settings), or raise_if_not_found=False",
    )
