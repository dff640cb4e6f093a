"""Giving modules their place: name, parent and scope; adopting those that come from elsewhere."""

import weakref
from typing import Any

from fx_core import config
from fx_core.errors import ArgumentError, AssignSubModuleError, NameInUseError
from fx_core.scope import Scope

from fx_linen.module._base import UNSPECIFIED, ModuleBase, raw_parent, set_parent, where
from fx_linen.module._context import context
from fx_linen.module._naming import automatic_name
from fx_linen.module._tree import ATOMS, map_modules

__all__ = ["adopt", "attach", "resolve_parent"]


def resolve_parent(module: ModuleBase) -> Any:
    """Returns the parent, the running module if none was given."""
    attributes = module.__dict__
    if attributes.get("_parent", UNSPECIFIED) is UNSPECIFIED:
        parent = context.modules[-1]
        if parent is None:
            attributes["_parent"] = None
        else:
            set_parent(module, parent)
        return parent
    return raw_parent(module)


def attach(module: ModuleBase, parent: Any) -> None:
    """Binds a module below its parent, unless that has to wait.

    An orphan waits for ``init``, ``apply`` or an adoption; an unnamed module made in ``setup`` for the assignment that
    names it.
    """
    if parent is None:
        return
    state = module._state
    if isinstance(parent, ModuleBase):
        if parent._state.in_setup and module.name is None:
            return
        scope = _place(module, parent)
        state.adopted = parent._state.adopted
    elif isinstance(parent, Scope):
        scope = parent
        state.adopted = {}
    else:
        raise _module_parent(type(module).__name__, repr(parent))
    attributes = module.__dict__
    attributes["scope"] = scope
    info = type(module)._info
    if not info.has_setup:
        state.setup_done = True
    for field in info.fields:
        value = attributes.get(field)
        if type(value) not in ATOMS:
            adopt(module, field, value)
    state.initialized = True


def _place(module: ModuleBase, parent: ModuleBase) -> Scope:
    """Name a module below its parent and make its scope."""
    state = parent._state
    scope, counters = parent.scope, state.counters
    if state.name_scope is not None:
        scope, counters = state.name_scope.scope, state.name_scope.counters
    elif state.initialized and not (state.in_compact or state.in_setup):
        raise AssignSubModuleError(type(module).__name__, where(parent))
    if scope is None:
        raise _module_parent(type(module).__name__, f"an unbound {type(parent).__name__}")
    name = module.name
    if name is None:
        name = module.__dict__["name"] = automatic_name(counters, module)
    key = name if state.name_scope is None else f"{state.name_scope.name}/{name}"
    # In a transform `setup` runs again, and some of the scopes that it makes may be there already.
    again = state.reuse and state.in_setup and key not in state.children
    if scope.name_reserved(name) and not again:
        raise NameInUseError("submodule", name, where(parent))
    state.children[key] = module
    return scope.push(name, reuse=again)


def adopt(owner: ModuleBase, attribute: str, value: Any) -> None:
    """Sets an attribute of a bound module, making the modules in it the owner's where they have no owner yet.

    Lists and dicts are frozen, so that what was registered stays what is there.
    """
    if type(value) in ATOMS:
        object.__setattr__(owner, attribute, value)
        return
    waiting: list[ModuleBase] = []

    def visit(suffix: str, module: Any) -> Any:
        fresh = False
        if module.__dict__.get("_parent") is None:
            module, fresh = _stand_in(owner, module)
        if module.name is None:
            module.__dict__["name"] = attribute + suffix
            fresh = True
        if fresh:
            set_parent(module, owner)
            waiting.append(module)
        return module

    object.__setattr__(owner, attribute, map_modules(value, visit, freeze=True))
    for module in waiting:
        attach(module, owner)


def _stand_in(owner: ModuleBase, module: Any) -> tuple[Any, bool]:
    """The clone that stands for a module from outside; everyone below one top shares it.

    Returns:
      The clone, and whether it was made just now.
    """
    adopted = owner._state.adopted
    assert adopted is not None
    known = adopted.get(id(module))
    clone = None if known is None else known[1]()
    if clone is not None:
        return clone, False
    keep = owner.preserve_adopted_names
    keep = config.preserve_adopted_names if keep is None else keep
    clone = module.clone(name=module.name if keep else None)
    adopted[id(module)] = (module, weakref.ref(clone))
    return clone, True


def _module_parent(cls_name: str, parent: str) -> ArgumentError:
    return ArgumentError(
        f"{cls_name} cannot be attached to this parent: parent must be None, Module or Scope.",
        expected="None, a bound module or a scope",
        got=parent,
        fix="Leave parent out: a module made inside a method belongs to the module whose method it is.",
    )
