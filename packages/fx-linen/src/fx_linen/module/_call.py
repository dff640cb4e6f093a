"""What happens around a method call. This is the hot path of tracing: every layer call goes through here."""

from collections.abc import Callable
from typing import Any

import jax
from fx_core import config
from fx_core.errors import (
    CallCompactUnboundModuleError,
    CallSetupUnboundModuleError,
    FxError,
    IncorrectPostInitOverrideError,
    MultipleMethodsCompactError,
    NameInUseError,
    ScopeParamShapeError,
)

from fx_linen.module._base import ModuleBase, where
from fx_linen.module._context import context
from fx_linen.module._errors import UnboundModuleError
from fx_linen.module._intercept import run_intercepted
from fx_linen.module._state import ModuleState, NameScope

__all__ = ["call_compact", "call_name_scope", "call_plain", "call_setup", "ensure_setup"]

Method = Callable[..., Any]


def call_plain(fun: Method, self: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """Calls a method that may use what ``setup`` made."""
    state = self.__dict__.get("_state")
    if state is None:
        raise IncorrectPostInitOverrideError()
    if not (state.setup_done or state.in_setup):
        ensure_setup(self, state)
    return _run(fun, self, args, kwargs)


def call_compact(fun: Method, self: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """Calls a method that makes submodules and variables as it goes.

    Each outermost call starts counting names at zero again: calling a module twice shares its parameters.
    """
    attributes = self.__dict__
    state = attributes.get("_state")
    if state is None:
        raise IncorrectPostInitOverrideError()
    scope = attributes.get("scope")
    if scope is None:
        raise CallCompactUnboundModuleError(type(self).__name__, fun.__name__)
    if not (state.setup_done or state.in_setup):
        ensure_setup(self, state)
    if state.in_compact:
        return _run(fun, self, args, kwargs)
    before = state.used
    if before is not None:
        attributes["scope"] = attributes["scope"].rewound()
    state.in_compact = True
    try:
        return _run(fun, self, args, kwargs)
    except ScopeParamShapeError as error:
        if before is not None and before is not fun and self.is_initializing():
            # Both methods count names from zero, so one got the other's parameters.
            raise MultipleMethodsCompactError((before.__name__, fun.__name__), where(self)) from error
        raise
    finally:
        state.in_compact = False
        state.used = fun
        if state.counters:
            state.counters = {}


def call_name_scope(fun: Method, self: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """Calls a method whose submodules live in a scope named after it."""
    attributes = self.__dict__
    state = attributes.get("_state")
    if state is None:
        raise IncorrectPostInitOverrideError()
    if attributes.get("scope") is None:
        raise UnboundModuleError(f"run the compact_name_scope method {fun.__name__!r}", type(self).__name__)
    if not (state.setup_done or state.in_setup):
        ensure_setup(self, state)
    outer = state.name_scope
    if outer is not None and outer.name == fun.__name__:
        return _run(fun, self, args, kwargs)
    inner = state.name_scope = _enter_name_scope(self, state, fun.__name__)
    try:
        result = _run(fun, self, args, kwargs)
        _capture_name_scope(self, inner, result)
        return result
    finally:
        state.name_scope = outer
        inner.used = True
        inner.counters = {}


def _capture_name_scope(self: Any, inner: NameScope, result: Any) -> None:
    """Store the result as if the scope were a submodule that was called."""
    capture = context.captures[-1] if context.captures else None
    if capture is not None and capture(self, "__call__") and inner.scope.is_mutable_collection("intermediates"):
        before = inner.scope.get_variable("intermediates", "__call__", ())
        inner.scope.put_variable("intermediates", "__call__", (*before, result))


def _enter_name_scope(self: ModuleBase, state: ModuleState, name: str) -> NameScope:
    if state.name_scopes is None:
        state.name_scopes = {}
    known = state.name_scopes.get(name)
    if known is None:
        scope = self.scope
        assert scope is not None
        if not state.reuse and scope.name_reserved(name):
            raise NameInUseError("submodule", name, where(self))
        known = state.name_scopes[name] = NameScope(name, scope.push(name, reuse=state.reuse))
    elif known.used:
        known.scope = known.scope.rewound()
    return known


def call_setup(fun: Method, self: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """Calls ``setup``, of this class or a base."""
    if self.__dict__.get("scope") is None:
        raise CallSetupUnboundModuleError(type(self).__name__)
    modules = context.modules
    modules.append(self)
    try:
        if context.interceptors:
            return run_intercepted(fun, self, args, kwargs)
        return fun(self, *args, **kwargs)
    except FxError as error:
        _locate(error, self)
        raise
    finally:
        modules.pop()


def _locate(error: FxError, module: Any) -> None:
    """Say where an error of mathematics, which does not know of modules, has happened."""
    if error.path is None:
        error.locate(where(module))


def _locate_axis(error: NameError, module: Any) -> None:
    """Say where an axis name is used that no transform around has; JAX's error has the name only."""
    told = getattr(error, "__notes__", ())
    if "unbound axis name" in str(error) and not any(note.startswith(_NO_AXIS) for note in told):
        error.add_note(
            f"{_NO_AXIS} {where(module)}. Give the axis_name to the transform that maps here, nn.vmap(..., axis_name=) "
            "or jax.vmap, or leave it out of the module."
        )


_NO_AXIS = "The axis name is used by"


def ensure_setup(self: ModuleBase, state: ModuleState) -> None:
    """Runs ``setup`` if the module is bound and it did not run yet."""
    if self.__dict__.get("scope") is None or state.setup_done or state.in_setup:
        return
    state.before_setup = frozenset(self.__dict__)
    state.in_setup = True
    try:
        self.setup()
    finally:
        state.in_setup = False
    state.setup_done = True


def _run(fun: Method, self: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """Run the method with the module on the stack, named, intercepted and captured as the thread wants it."""
    here = context
    modules = here.modules
    modules.append(self)
    try:
        if here.named_call or (here.named_call is None and config.profile):
            name = self.__dict__.get("name") or type(self).__name__
            method = fun.__name__
            if method != "__call__":
                name = f"{name}.{method}"
            with jax.named_scope(name):
                result = run_intercepted(fun, self, args, kwargs) if here.interceptors else fun(self, *args, **kwargs)
        elif here.interceptors:
            result = run_intercepted(fun, self, args, kwargs)
        else:
            result = fun(self, *args, **kwargs)
        if here.captures and here.captures[-1] is not None and self.scope is not None:
            capture = here.captures[-1]
            if capture(self, fun.__name__):
                self.sow("intermediates", fun.__name__, result)
        return result
    except FxError as error:
        _locate(error, self)
        raise
    except NameError as error:
        _locate_axis(error, self)
        raise
    finally:
        modules.pop()
