"""Transforms that run at once, on a module that is given."""

from collections.abc import Callable
from typing import Any

from fx_linen.transforms._call import Call, ModuleFn, method_of

__all__ = ["directly"]


def directly(lift: Callable[..., Any], fns: tuple[ModuleFn, ...], mdl: Any, *args: Any) -> Any:
    """Runs ``lift(*functions_of_scopes, scopes, *args)``.

    Args:
      lift: takes the functions, the scopes and the arguments.
      fns: functions whose first argument is a module.
      mdl: a module.
      *args: other arguments; modules may be among them.
    """
    call = Call(mdl, args, {})

    def on_scopes(fn: ModuleFn) -> Callable[..., Any]:
        method = method_of(fn)

        def inner(scopes: Any, *args: Any) -> Any:
            return call.run(method, scopes, args, {})

        return inner

    out = lift(*map(on_scopes, fns), call.scopes, *call.args)
    call.finish()
    return out
