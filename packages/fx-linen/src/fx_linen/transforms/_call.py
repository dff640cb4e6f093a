"""One call of a function of modules inside a transform of functions of scopes."""

import functools
from collections.abc import Callable, Mapping
from types import MethodType
from typing import Any

import jax
from fx_core.errors import ArgumentTypeError, TransformedMethodReturnValueError
from fx_core.scope import Scope, Variable

from fx_linen.module import Naming, module_scopes, naming_of, rebind, resume_naming, wrap_method_once
from fx_linen.module._base import ModuleBase

__all__ = ["Call", "method_of", "name_of"]

ModuleFn = Callable[..., Any]
Copies = dict[int, tuple[Any, Any]]

_CARRIED = (ModuleBase, Variable)


class StandIn:
    """Stands for a module or a variable among the arguments while they go through JAX: a node without leaves."""

    __slots__ = ("index",)

    def __init__(self, index: int):
        self.index = index

    def __eq__(self, other: object) -> bool:
        return isinstance(other, StandIn) and other.index == self.index

    def __hash__(self) -> int:
        return hash((StandIn, self.index))


jax.tree_util.register_pytree_node(StandIn, lambda place: ((), place.index), lambda index, _: StandIn(index))


class Call:
    """The modules of one call, which a transform takes to other scopes.

    Args:
      module: what the function gets first.
      args: the other arguments; modules and variables may be among them.
      kwargs: arguments by name; modules and variables may be among them.
      target: the class of the module inside, for a transformed class.

    Raises:
      ArgumentTypeError: the first argument is no module.

    Attributes:
      args: the arguments with a leafless node in place of each module and variable.
      kwargs: the same, by name.
      scopes: the outermost scopes of all modules.
      modules: the first argument, and the modules and variables that were taken out of the others.
    """

    __slots__ = ("_naming", "args", "kwargs", "modules", "scopes", "target")

    def __init__(
        self, module: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any], target: type[ModuleBase] | None = None
    ):
        if not isinstance(module, ModuleBase):
            raise ArgumentTypeError(
                "A transformed function of a module was called on something else.",
                expected="a module as the first argument",
                got=f"{type(module).__name__}",
                fix="Pass the module first: nn.remat(fn)(module, x). More modules may follow as arguments.",
            )
        leaves = jax.tree.leaves((args, kwargs))
        self.modules: list[Any] = [module]
        if any(isinstance(leaf, _CARRIED) for leaf in leaves):
            args, kwargs = jax.tree.map(self._take_out, (args, kwargs))
        self.args, self.kwargs, self.target = args, kwargs, target
        self.scopes = module_scopes(self.modules)
        self._naming: list[tuple[Any, Naming]] = []

    def _take_out(self, leaf: Any) -> Any:
        if not isinstance(leaf, _CARRIED):
            return leaf
        self.modules.append(leaf)
        return StandIn(len(self.modules) - 1)

    def run(
        self,
        fn: ModuleFn,
        scopes: list[Scope],
        args: tuple[Any, ...],
        kwargs: Mapping[str, Any],
        copies: Copies | None = None,
    ) -> Any:
        """Calls ``fn(module, *args, **kwargs)`` with all modules copied onto the scopes inside a transform.

        Args:
          fn: a method, see `method_of`.
          scopes: those inside, in the order of ``self.scopes``.
          args: those inside.
          kwargs: those inside.
          copies: gets the copies, by id of the module, next to the module itself.

        Raises:
          TransformedMethodReturnValueError: the result holds modules or variables.
        """
        inner = {id(outside): inside for outside, inside in zip(self.scopes, scopes, strict=True)}
        # Every trace starts from the modules as they were before the transform: names come out the same each time.
        copies = {} if copies is None else copies
        module, *others = rebind(self.modules, functools.partial(_scope_inside, inner), copies)
        if self.target is not None:
            # Methods that call each other inside are those of the class before the transform.
            object.__setattr__(module, "__class__", self.target)
        if others:
            args, kwargs = _put_back((args, kwargs), [module, *others])
        out = fn(module, *args, **kwargs)
        for leaf in jax.tree.leaves(out):
            if isinstance(leaf, _CARRIED):
                raise TransformedMethodReturnValueError(name_of(fn))
        # Not the copies themselves: they hold values of the trace, which would live as long as this does.
        self._naming = [(module, naming_of(copy)) for module, copy in copies.values()]
        return out

    def finish(self) -> None:
        """Lets the modules outside know what their copies did, the names they gave out."""
        for module, naming in self._naming:
            resume_naming(module, naming)


def _scope_inside(inner: dict[int, Scope], scope: Scope) -> Scope:
    """The scope inside of a transform for one outside, made where it is needed."""
    found = inner.get(id(scope))
    if found is None:
        assert scope.parent is not None
        found = inner[id(scope)] = _scope_inside(inner, scope.parent).push(scope.name, reuse=True)
    return found


def _put_back(tree: Any, modules: list[Any]) -> Any:
    def is_place(x: Any) -> bool:
        return isinstance(x, StandIn)

    return jax.tree.map(lambda x: modules[x.index] if isinstance(x, StandIn) else x, tree, is_leaf=is_place)


def name_of(fn: Any) -> str:
    """Returns the name of a function, for messages and profiles."""
    name = getattr(fn, "__name__", None)
    return name if name is not None else name_of(getattr(fn, "func", type(fn)))


def method_of(fn: ModuleFn) -> ModuleFn:
    """Returns a function of a module as a method: setup runs before it, submodules that it makes belong to its module.

    A bound method is taken for what it is in the class, so that ``nn.vjp(self.encode, self, x)`` works, too.
    """
    if isinstance(fn, MethodType) and isinstance(fn.__self__, ModuleBase):
        fn = fn.__func__
    if hasattr(fn, "__name__"):
        return wrap_method_once(fn)

    def method(*args: Any, **kwargs: Any) -> Any:
        return fn(*args, **kwargs)

    method.__name__ = method.__qualname__ = name_of(fn)
    return wrap_method_once(method)
