"""Getting what modules sow out of a call."""

import functools
from collections.abc import Callable
from typing import Any

import jax
from fx_core.compat.jax import current_trace
from fx_core.errors import ArgumentTypeError

from fx_nnx.modules.intercept import watched
from fx_nnx.modules.module import CAPTURES, Module, iter_modules
from fx_nnx.objects.fields import data
from fx_nnx.objects.pytree import Pytree, attributes_of
from fx_nnx.paths import Path, show_path
from fx_nnx.states.state import State
from fx_nnx.variables.variable import Variable

__all__ = ["capture"]


def capture(
    fn: Any,
    *var_types: type[Variable[Any]],
    init: State | None = None,
    method_outputs: type[Variable[Any]] | None = None,
) -> Any:
    """Lets a call also return what its modules sow and perturb, in variables of some types.

    While the call runs, each module collects it in its attribute ``__captures__``, a variable per type with a dict by
    name, which transforms and `fx_nnx.split` carry like any other. What is sown of other types is not kept. Afterwards
    the modules are as they were.

    >>> import jax.numpy as jnp
    >>> import fx_nnx as nnx
    >>> class Block(Module):
    ...     def __init__(self, rngs):
    ...         self.layer = nnx.Linear(2, 3, rngs=rngs)
    ...     def __call__(self, x):
    ...         y = self.layer(x)
    ...         self.sow(nnx.Intermediate, "hidden", y)
    ...         return y.sum()
    >>> y, found = capture(Block(nnx.Rngs(0)), nnx.Intermediate)(jnp.ones((1, 2)))
    >>> found["hidden"][0].shape
    (1, 3)

    To take gradients with respect to activations, run once to get `fx_nnx.Perturbation` variables, and differentiate
    with respect to these, given as ``init``::

        y, zeros = nnx.capture(model, nnx.Perturbation)(x)

        def loss(model, zeros):
            return nnx.capture(model, nnx.Intermediate, init=zeros)(x)[0]

        grads = nnx.grad(loss, argnums=1)(model, zeros)

    Args:
      fn: a module, a method of one, or a function whose arguments hold modules. A type of variable instead makes a
        decorator for such a function.
      *var_types: which variables to return; what is sown of a type derived from one belongs to that, unless it is a
        `fx_nnx.Perturbation`.
      init: what the modules have perturbed, or sown, before the call, by path.
      method_outputs: a type of variable to keep the results of all public methods in, under their names.

    Returns:
      A function of the arguments of ``fn`` that returns its result and a `fx_nnx.State` per type; the result alone if
      there are no types. Paths begin at the module; if the arguments of a function hold several, at their numbers or
      names.

    Raises:
      ArgumentTypeError: no module is found, or none where ``init`` has a value, when the function is called.
    """
    if isinstance(fn, type) and issubclass(fn, Variable):
        types = (fn, *var_types)
        return lambda function: capture(function, *types, init=init, method_outputs=method_outputs)

    @functools.wraps(fn, assigned=("__name__", "__doc__"), updated=())
    def captured(*args: Any, **kwargs: Any) -> Any:
        roots = _roots(fn, args, kwargs)
        if not roots:
            raise ArgumentTypeError(
                "capture needs the module to look at.",
                expected="a module, a method of one, or a function whose arguments hold one",
                got=getattr(fn, "__name__", repr(fn)),
                fix="pass the module as an argument of the function",
            )
        # By name, so that a method which was bound earlier is watched, too.
        owner, name = getattr(fn, "__self__", None), getattr(fn, "__name__", "")
        found = isinstance(owner, Module) and getattr(owner, name, None) == fn
        call = lambda: (getattr(owner, name) if found else fn)(*args, **kwargs)  # noqa: E731
        return _run(roots, call, var_types, init, method_outputs)

    return captured


def _roots(fn: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> dict[Path, Module]:
    """The modules to look at, by what their paths begin with."""
    if isinstance(fn, Module):
        return {(): fn}
    owner = getattr(fn, "__self__", None)
    if isinstance(owner, Module):
        return {(): owner}
    found: dict[Path, Any] = {}
    for name, value in [*enumerate(args), *kwargs.items()]:
        leaves = jax.tree.leaves_with_path(value, is_leaf=lambda x: isinstance(x, Pytree))
        for path, leaf in leaves:
            if isinstance(leaf, Pytree) and not any(leaf is other for other in found.values()):
                found[(name, *(getattr(k, "key", getattr(k, "idx", getattr(k, "name", k))) for k in path))] = leaf
    modules = {path: root for path, root in found.items() if isinstance(root, Module)}
    return {(): next(iter(modules.values()))} if len(modules) == 1 else modules


def _run(
    roots: dict[Path, Module],
    call: Callable[[], Any],
    types: tuple[type[Variable[Any]], ...],
    init: State | None,
    method_outputs: type[Variable[Any]] | None,
) -> Any:
    wanted = dict.fromkeys(types if method_outputs is None else (*types, method_outputs))
    modules = {(*start, *path): module for start, root in roots.items() for path, module in iter_modules(root)}
    given = _by_module(modules, init)
    before = {id(module): (module, attributes_of(module).get(CAPTURES)) for module in modules.values()}
    try:
        for key, (module, _) in before.items():
            first = {**{kind: {} for kind in wanted}, **given.get(key, {})}
            setattr(module, CAPTURES, data(tuple([kind(values) for kind, values in first.items()])))
        out = call() if method_outputs is None else _watching(roots, method_outputs, call)
        found = _captured(modules, types)
    finally:
        for module, outer in before.values():
            if CAPTURES in attributes_of(module):
                module._nnx_delete(CAPTURES)
            if outer is not None:
                setattr(module, CAPTURES, data(outer))
    return (out, *found) if types else out


def _by_module(modules: dict[Path, Module], init: State | None) -> dict[int, dict[type[Any], dict[Any, Any]]]:
    """What is given, by identity of the module, type and name."""
    given: dict[int, dict[type[Any], dict[Any, Any]]] = {}
    for path, leaf in () if init is None else init.flat_state():
        if not isinstance(leaf, Variable):
            raise _wrong_init(path, type(leaf).__name__)
        module = modules.get(path[:-1])
        if module is None:
            raise _wrong_init(path, "a path that leads to no module")
        given.setdefault(id(module), {}).setdefault(type(leaf), {})[path[-1]] = leaf.get_raw_value()
    return given


def _wrong_init(path: Path, got: str) -> ArgumentTypeError:
    return ArgumentTypeError(
        f"capture: init must be a State of variables at paths of the modules, got {got}.",
        path=show_path(path),
        expected="variables, at paths that an earlier capture of the same modules gave",
        got=got,
    )


def _captured(modules: dict[Path, Module], types: tuple[type[Variable[Any]], ...]) -> list[State]:
    """One state per type."""
    groups: dict[type[Any], list[tuple[Path, Any]]] = {kind: [] for kind in types}
    for path, module in modules.items():
        for variable in attributes_of(module).get(CAPTURES, ()):
            kind = type(variable)
            if kind in groups:
                groups[kind] += [((*path, name), kind(value)) for name, value in variable.get_raw_value().items()]
    return [State.from_flat_path(groups[kind]) for kind in types]


def _watching(roots: dict[Path, Module], kind: type[Variable[Any]], call: Callable[[], Any]) -> Any:
    running: set[tuple[int, str]] = set()

    def watch(module: Any, name: str, args: Any, kwargs: Any, proceed: Callable[[], Any]) -> Any:
        # A method that calls that of its base class is one call; a module from further outside cannot be written to.
        key = (id(module), name)
        if key in running or module._nnx_trace != current_trace():
            return proceed()
        running.add(key)
        try:
            out = proceed()
        finally:
            running.discard(key)
        module.sow(kind, name, out)
        return out

    classes = {type(module) for root in roots.values() for _, module in iter_modules(root)}
    with watched(classes, watch):
        return call()
