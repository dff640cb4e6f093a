"""The seam to lifted transforms: the scopes of a module, and the same module on other scopes."""

import copy as copying
from collections.abc import Callable
from typing import Any, NamedTuple, TypeVar

from fx_core.scope import Scope, Variable

from fx_linen.module._base import ModuleBase
from fx_linen.module._state import ModuleState, NameScope
from fx_linen.module._tree import ATOMS, map_modules

__all__ = ["Naming", "absorb_state", "module_scopes", "naming_of", "rebind", "resume_naming"]

M = TypeVar("M")
Rebound = dict[int, tuple[Any, Any]]

_CARRIED = (ModuleBase, Variable)


def module_scopes(tree: Any) -> list[Scope]:
    """Returns the scopes that a tree with modules and variables reaches, through itself and the fields of the modules.

    Scopes made by ``setup`` or in methods lie below the module's own scope and are not listed; neither are scopes below
    another one in the list. ``setup`` does not run for this: in a transform its variables are made inside.

    Args:
      tree: a bound module, or a container that holds some.

    Returns:
      Each scope once; those of the modules in a module's fields come before its own.
    """
    found: dict[int, Scope] = {}
    seen: set[int] = set()

    def visit(_: str, module: Any) -> Any:
        if isinstance(module, Variable):
            found.setdefault(id(module.scope), module.scope)
        elif id(module) not in seen:
            seen.add(id(module))
            attributes = module.__dict__
            for field in type(module)._info.fields:
                value = attributes.get(field)
                if type(value) not in ATOMS:
                    map_modules(value, visit, kinds=_CARRIED)
            scope = attributes.get("scope")
            if scope is not None:
                found.setdefault(id(scope), scope)
        return module

    map_modules(tree, visit, kinds=_CARRIED)
    scopes = list(found.values())
    if len(scopes) < 2:
        return scopes
    return [scope for scope in scopes if not any(_lies_below(scope, other) for other in scopes)]


def _lies_below(scope: Scope, other: Scope) -> bool:
    parent = scope.parent
    while parent is not None:
        if parent is other:
            return True
        parent = parent.parent
    return False


def rebind(tree: M, scope_of: Callable[[Scope], Scope], rebound: Rebound | None = None) -> M:
    """Copies a tree with modules and variables onto other scopes.

    The copy goes on where the original is: the same names are taken, a running compact method is still running. What
    ``setup`` assigned is not copied, since it may hold values of another trace: ``setup`` runs again on the new scope
    when first needed, and may take the scopes that are there.

    Args:
      tree: a bound module, or a container that holds some; unbound modules stay as they are.
      scope_of: gives the new scope for the scope of a module.
      rebound: remembers the copies between calls that belong together, so that shared modules stay shared.

    Returns:
      The same structure with copies of the bound modules.
    """
    copies: Rebound = {} if rebound is None else rebound

    def visit(_: str, module: Any) -> Any:
        if isinstance(module, Variable):
            variable = copying.copy(module)
            variable.scope = scope_of(module.scope)
            return variable
        known = copies.get(id(module))
        if known is not None:
            return known[1]
        if module.scope is None:
            return module
        copy = object.__new__(type(module))
        copies[id(module)] = (module, copy)
        _fill(copy, module, scope_of(module.scope))
        for field in type(module)._info.fields:
            value = module.__dict__.get(field)
            if type(value) not in ATOMS:
                copy.__dict__[field] = map_modules(value, visit, kinds=_CARRIED)
        return copy

    return map_modules(tree, visit, kinds=_CARRIED)


def _fill(copy: ModuleBase, module: ModuleBase, scope: Scope) -> None:
    attributes, own = copy.__dict__, module.__dict__
    info = type(module)._info
    before = module._state
    if before.before_setup is None:
        attributes.update(own)
    else:
        attributes.update({key: own[key] for key in before.before_setup if key in own})
    attributes["scope"] = scope
    state = attributes["_state"] = ModuleState()
    state.initialized = before.initialized
    state.adopted = {}
    state.reuse = True
    state.in_setup = before.in_setup
    state.setup_done = not info.has_setup
    state.children = {} if info.has_setup else dict(before.children)
    _copy_naming(before, state, scope)


def _copy_naming(before: ModuleState, after: ModuleState, scope: Scope) -> None:
    after.in_compact, after.used = before.in_compact, before.used
    after.counters = dict(before.counters)
    if before.name_scope is not None:
        name = before.name_scope.name
        after.name_scope = NameScope(name, scope.push(name, reuse=True))
        after.name_scope.counters = dict(before.name_scope.counters)
        after.name_scopes = {name: after.name_scope}


class Naming(NamedTuple):
    """How far the naming of a module has come; hashable.

    Attributes:
      counters: how many submodules of each class were named.
      variables: names of variables with their collections.
      inner: the counters of the ``compact_name_scope`` method that is running.
    """

    counters: tuple[tuple[str, int], ...]
    variables: tuple[tuple[str, str], ...]
    inner: tuple[tuple[str, int], ...]


def naming_of(module: ModuleBase) -> Naming:
    """Returns which names a module has given out."""
    state = module._state
    variables = tuple((name, child) for name, child in state.children.items() if not isinstance(child, ModuleBase))
    inner = () if state.name_scope is None else tuple(state.name_scope.counters.items())
    return Naming(tuple(state.counters.items()), variables, inner)


def resume_naming(module: ModuleBase, naming: Naming) -> None:
    """Lets a module go on naming from there."""
    state = module._state
    state.counters = dict(naming.counters)
    for name, collection in naming.variables:
        state.children.setdefault(name, collection)
    if state.name_scope is not None:
        state.name_scope.counters = dict(naming.inner)


def absorb_state(module: ModuleBase, copy: ModuleBase) -> None:
    """Lets a module know which names its copy has given out, once a transform that ran on the copy is done.

    Args:
      module: the original of `rebind`.
      copy: its copy.
    """
    resume_naming(module, naming_of(copy))
