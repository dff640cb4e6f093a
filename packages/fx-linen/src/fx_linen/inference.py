"""Linen modules without what only training needs, for whoever makes inference views."""

import dataclasses
from collections.abc import Mapping
from typing import Any

from fx_linen.module import Module

__all__ = ["for_inference"]

_MODES = ("deterministic", "use_running_average")
_OF_TRAINING = ("intermediates", "perturbations", "losses", "observers")


def for_inference(
    model: Module, variables: Mapping[str, Any]
) -> tuple[Module, Mapping[str, Any], list[tuple[str, str]]]:
    """Returns a module in evaluation mode, with its variables less the collections that only training has.

    Fields called ``deterministic`` and ``use_running_average`` become True where they are False, in the module and in
    those among its fields. What the module decides by an argument of its call, its caller has to say.

    Args:
      model: the module; it stays as it is.
      variables: by collection.

    Returns:
      The module, the variables, and what was done: pairs of a path and a text.

    >>> import fx_linen as nn
    >>> made, left, did = for_inference(nn.Sequential([nn.Dropout(0.5, deterministic=False)]), {"intermediates": {}})
    >>> made.layers[0].deterministic, left, did
    (True, {}, [('layers/0', 'deterministic=True'), ('intermediates', 'removed')])
    """
    did: list[tuple[str, str]] = []
    made = _evaluating(model, (), did)
    kept = {name: value for name, value in variables.items() if name not in _OF_TRAINING}
    did += [(name, "removed") for name in variables if name in _OF_TRAINING]
    return made, variables if len(kept) == len(variables) else type(variables)(kept), did  # type: ignore[call-arg]


def _evaluating(value: Any, path: tuple[str, ...], did: list[tuple[str, str]]) -> Any:
    """The value itself where nothing in it changes: a module in two places stays one."""
    if isinstance(value, list | tuple):
        items = [_evaluating(item, (*path, str(i)), did) for i, item in enumerate(value)]
        changed = any(new is not old for new, old in zip(items, value))
        return value if not changed else type(value)(*items) if hasattr(value, "_fields") else type(value)(items)
    if isinstance(value, Mapping):
        found = {key: _evaluating(item, (*path, str(key)), did) for key, item in value.items()}
        return type(value)(found) if any(found[key] is not value[key] for key in found) else value  # type: ignore[call-arg]
    if not isinstance(value, Module):
        return value
    changes: dict[str, Any] = {}
    for field in dataclasses.fields(value):
        if not field.init or field.name in ("parent", "name"):
            continue
        old = getattr(value, field.name, None)
        if field.name in _MODES and old is False:
            changes[field.name] = True
            did.append(("/".join(path), f"{field.name}=True"))
        elif (new := _evaluating(old, (*path, field.name), did)) is not old:
            changes[field.name] = new
    return value.clone(**changes) if changes else value
