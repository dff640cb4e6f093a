"""Forms of a transform: on a class of modules, and on a function of a module."""

import functools
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from fx_core.errors import ArgumentError, InvalidAttributeError, TransformTargetError

from fx_linen.module import Module
from fx_linen.module._base import ModuleBase
from fx_linen.module._pickling import Recipe
from fx_linen.transforms._call import Call, ModuleFn, method_of

__all__ = ["Target", "anew", "named", "transform_target"]

Target = TypeVar("Target", bound=Callable[..., Any])
Caller = Callable[[Call], Any]
Maker = Callable[..., Callable[[ModuleFn], Caller]]
_MAKERS: dict[str, Maker] = {}
_GENERAL = frozenset(dir(Module)) - {"__call__"}


def named(prefix: str, make: Maker) -> Maker:
    """Lets pickled modules find what transforms their class by the prefix of its name."""
    _MAKERS[prefix] = make
    return make


def transform_target(
    prefix: str,
    make: Maker,
    target: Any,
    options: Mapping[str, Any],
    methods: Any,
) -> Any:
    """Transforms a class, method by method, or a function. Of a class with some arguments given it is the class.

    Args:
      prefix: what the name of a transformed class begins with.
      make: gives, for options, what turns a function of a module into what does one `Call`.
      target: a subclass of Module, or a function whose first argument is a module.
      options: for ``make``.
      methods: of a class: names, or options by name, which come on top of the others.

    Raises:
      TransformTargetError: the target is something else.
      ArgumentError: ``methods`` is.
      InvalidAttributeError: the class has no such method.
    """
    if isinstance(target, type) and issubclass(target, ModuleBase):
        return _transform_class(prefix, make, target, options, methods)
    if _is_partial_class(target):
        cls = transform_target(prefix, make, target.func, options, methods)
        return functools.partial(cls, *target.args, **target.keywords)
    if not callable(target) or isinstance(target, (type, ModuleBase)):
        raise TransformTargetError(target)
    return _lifted(method_of(target), make(**options), None)


def _is_partial_class(target: Any) -> bool:
    while isinstance(target, functools.partial):
        target = target.func
        if isinstance(target, type) and issubclass(target, ModuleBase):
            return True
    return False


def _transform_class(prefix: str, make: Any, target: Any, options: Mapping[str, Any], methods: Any) -> Any:
    namespace: dict[str, Any] = {"__doc__": target.__doc__, "__module__": target.__module__}
    for name, own in _options_by_method(methods).items():
        fn = getattr(target, name, None)
        if not callable(fn):
            known = [key for key in dir(target) if key not in _GENERAL and callable(getattr(target, key))]
            raise InvalidAttributeError(
                f"{target.__name__} has no method {name!r} to transform.",
                expected=f"one of {', '.join(known)}",
                got=repr(name),
                fix="Correct the name, or give methods= with the names of methods that the class has.",
            )
        namespace[name] = _lifted(method_of(fn), make(**{**options, **own}), target)
    cls: Any = type(target)(f"{prefix}{target.__name__}", (target,), namespace)
    cls._recipe = Recipe(cls, _remake, (prefix, target, dict(options), methods))
    return cls


def _remake(prefix: str, *args: Any) -> Any:
    return _transform_class(prefix, _MAKERS[prefix], *args)


def _options_by_method(methods: Any) -> Mapping[str, Mapping[str, Any]]:
    if methods is None:
        return {"__call__": {}}
    if isinstance(methods, Mapping):
        return methods
    if isinstance(methods, (list, tuple)):
        return {name: {} for name in methods}
    raise ArgumentError(
        "methods of a transform names no methods.",
        expected="None for __call__, a list or tuple of names, or a dict of options by name",
        got=repr(methods),
        fix="Give the names in a list: methods=['encode', 'decode'].",
    )


def _lifted(fn: ModuleFn, prepare: Callable[[ModuleFn], Caller], target: type[ModuleBase] | None) -> ModuleFn:
    """A function of a module that runs in a transform.

    It keeps the marks of ``fn``: a module class that has it as a method leaves it alone, since all that happens around
    a method, setup and names included, happens inside the transform, where variables have the shapes that ``fn`` sees.
    """
    caller = prepare(fn)

    @functools.wraps(fn)
    def lifted(module: Any, /, *args: Any, **kwargs: Any) -> Any:
        return caller(Call(module, args, kwargs, target))

    return lifted


def anew(lift: Callable[..., Any], *, by_name: bool = False) -> Maker:
    """Applies a transform of functions of scopes anew in each call.

    Args:
      lift: one of `fx_transforms.lift`.
      by_name: whether it lets arguments by name through. Otherwise they go around it and are the same for all
        examples or steps.
    """

    def make(**options: Any) -> Callable[[ModuleFn], Caller]:
        def prepare(fn: ModuleFn) -> Caller:
            def caller(call: Call) -> Any:
                def on_scopes(scopes: Any, *args: Any, **kwargs: Any) -> Any:
                    return call.run(fn, scopes, args, kwargs if by_name else call.kwargs)

                out = lift(on_scopes, **options)(call.scopes, *call.args, **(call.kwargs if by_name else {}))
                call.finish()
                return out

            return caller

        return prepare

    return make
