"""Getting what modules sow out of a call."""

import functools
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import jax
from fx_core.compat.jax import current_trace
from fx_core.errors import ArgumentTypeError

from fx_nnx.graph.iterate import iter_graph
from fx_nnx.graph.kinds import kind_of
from fx_nnx.graph.updating import update
from fx_nnx.modes import CAPTURE_MARK, capturing
from fx_nnx.modules.intercept import watched
from fx_nnx.modules.module import Module, attribute_for
from fx_nnx.objects.pytree import Pytree, attributes_of
from fx_nnx.paths import Path, show_path
from fx_nnx.states.state import State
from fx_nnx.variables.kinds import Intermediate, Perturbation
from fx_nnx.variables.variable import Variable

__all__ = ["capture"]


def capture(
    fn: Any,
    *var_types: type[Variable[Any]],
    init: State | None = None,
    method_outputs: type[Variable[Any]] | None = None,
) -> Any:
    """Lets a call also return the variables of some types that it makes: what was sown, perturbations, and such.

    The modules are left as they were: variables of these types that they have already stay out of the call, and the new
    ones do not stay in the modules.

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
      *var_types: which variables to return.
      init: variables to put into the module for the call, by path.
      method_outputs: a type of variable to keep the results of all public methods in, under their names.

    Returns:
      A function of the arguments of ``fn`` that returns its result and a `fx_nnx.State` per type; the result alone if
      there are no types. Paths begin at the module; if the arguments of a function hold several, at their numbers or
      names.

    Raises:
      ArgumentTypeError: no module is found when the function is called; what was sown under one name is in two types
        of variables that belong to one of ``var_types``.
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
    wanted = types if method_outputs is None else (*types, method_outputs)
    given = [] if init is None else [(path, _variable(leaf)) for path, leaf in init.flat_state()]
    kinds = (*wanted, *(type(leaf) for _, leaf in given))
    before = [(owner, key, variable) for _, owner, key, variable in _find(roots, kinds)]
    kept = {(id(owner), key) for _, owner, key, _ in _find(roots, (Intermediate,))}
    _remove((owner, key) for owner, key, _ in before)
    token = capturing.set(True)
    try:
        if given:
            for number, root in enumerate(roots.values()):
                update(root, State.from_flat_path(_placed(root, _below(given, roots, number))))
        out = call() if method_outputs is None else _watching(roots, method_outputs, call)
        found = [(path, variable) for path, _, _, variable in _find(roots, wanted)]
    finally:
        capturing.reset(token)
        _remove((owner, key) for _, owner, key, _ in _find(roots, kinds))
        # What was sown of other types is nobody's: it would stay in the module for good.
        sown = _find(roots, (Intermediate,))
        _remove((owner, key) for _, owner, key, _ in sown if (id(owner), key) not in kept)
        for owner, key, variable in before:
            owner._nnx_set(key, variable)
    return (out, *_by_type(found, types)) if types else out


def _variable(leaf: Any) -> Variable[Any]:
    if not isinstance(leaf, Variable):
        raise TypeError(f"capture: init must be a State of variables, got {type(leaf).__name__}")
    return leaf


def _below(given: list[tuple[Path, Any]], roots: dict[Path, Module], number: int) -> list[tuple[Path, Any]]:
    start = list(roots)[number]
    return [(path[len(start) :], leaf) for path, leaf in given if path[: len(start)] == start]


def _placed(root: Module, given: list[tuple[Path, Any]]) -> list[tuple[Path, Any]]:
    """Copies of variables, with the paths at which ``sow`` and ``perturb`` look for them."""
    nodes, placed = dict(iter_graph(root)), []
    for path, leaf in given:
        owner = nodes.get(path[:-1])
        name = attribute_for(owner, path[-1], type(leaf))[0] if isinstance(owner, Module) else path[-1]
        placed.append(((*path[:-1], name), leaf.copy()))
    return placed


def _find(roots: dict[Path, Module], kinds: tuple[type[Any], ...]) -> list[tuple[Path, Any, str, Variable[Any]]]:
    """Path, owner, attribute and variable of each variable of some types that is an attribute of a module."""
    found = []
    for start, root in roots.items():
        for path, node in iter_graph(root):
            if kind_of(node) == "object":
                for key, value in list(attributes_of(node).items()):
                    if isinstance(key, str) and isinstance(value, kinds):
                        found.append(((*start, *path, key.partition(CAPTURE_MARK)[0]), node, key, value))
    return found


def _remove(places: Iterable[tuple[Any, str]]) -> None:
    for owner, key in list(places):
        owner._nnx_delete(key)


def _by_type(found: list[tuple[Path, Variable[Any]]], types: tuple[type[Variable[Any]], ...]) -> Iterator[State]:
    """One state per type; a variable belongs to the closest of its types. Perturbations are asked for by name."""
    groups: dict[type[Any], list[tuple[Path, Any]]] = {kind: [] for kind in types}
    for path, variable in found:
        mro = type(variable).__mro__
        if isinstance(variable, Perturbation):
            mro = mro[: mro.index(Perturbation) + 1]
        closest = next((kind for kind in mro if kind in groups), None)
        if closest is not None:
            if any(path == other for other, _ in groups[closest]):
                raise _sown_twice(path, type(variable), closest)
            groups[closest].append((path, variable))
    return (State.from_flat_path(groups[kind]) for kind in types)


def _sown_twice(path: Path, kind: type[Any], wanted: type[Any]) -> ArgumentTypeError:
    return ArgumentTypeError(
        f"Two types of variables were sown under one name, and both are {wanted.__name__}.",
        path=show_path(path),
        expected="one name for each",
        got=kind.__name__,
        fix=f"sow under another name, or ask capture for {kind.__name__}, too",
    )


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

    classes = {type(node) for root in roots.values() for _, node in iter_graph(root) if isinstance(node, Module)}
    with watched(classes, watch):
        return call()
