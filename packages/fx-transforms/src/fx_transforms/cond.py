"""cond and switch over groups of state."""

import functools
from collections.abc import Callable, Sequence
from typing import Any

import jax
from fx_core.errors import FxError

from fx_transforms.carrier import Carrier, Groups, Lifted, Outcome, Static, run
from fx_transforms.errors import BranchStateError
from fx_transforms.steps import differences

__all__ = ["cond", "switch"]


def cond(
    true_fn: Callable[..., Any], false_fn: Callable[..., Any], carrier: Carrier[Any], *, transform: str = "cond"
) -> Lifted:
    """Calls ``true_fn(inner, *operands)`` or ``false_fn(inner, *operands)``.

    Returns:
      a function ``(handle, pred, *operands)`` that changes the handle as the branch did.

    Raises:
      BranchStateError: the branches leave different variables, or results of different shapes, behind.

    >>> import fx_core
    >>> import fx_transforms
    >>> carrier = fx_transforms.ScopeCarrier(["state"], ["state"], [])
    >>> def add(scope, x):
    ...     scope.put_variable("state", "sum", scope.get_variable("state", "sum") + x)
    >>> scope = fx_core.Scope({"state": {"sum": 1.0}}, {}, mutable=["state"])
    >>> fx_transforms.cond(add, lambda scope, x: None, carrier)(scope, True, 2.0)
    >>> float(scope.get_variable("state", "sum"))
    3.0
    """

    def pure(shape: Static, groups: Groups, pred: Any, *operands: Any) -> Outcome:
        select = functools.partial(jax.lax.cond, pred)
        return _select(carrier, transform, (true_fn, false_fn), select, shape, groups, operands)

    return Lifted(true_fn, carrier, pure)


def switch(branches: Sequence[Callable[..., Any]], carrier: Carrier[Any], *, transform: str = "switch") -> Lifted:
    """Calls one of ``branches(inner, *operands)`` by its index, which is clamped into range.

    Returns:
      a function ``(handle, index, *operands)`` that changes the handle as the branch did.

    Raises:
      BranchStateError: the branches leave different variables, or results of different shapes, behind.

    >>> import fx_core
    >>> import fx_transforms
    >>> carrier = fx_transforms.ScopeCarrier(["params"], [False], [])
    >>> branches = [lambda scope, x: x, lambda scope, x: x * scope.get_variable("params", "scale")]
    >>> scope = fx_core.Scope({"params": {"scale": 3.0}}, {})
    >>> float(fx_transforms.switch(branches, carrier)(scope, 1, 2.0))
    6.0
    """

    def pure(shape: Static, groups: Groups, index: Any, *operands: Any) -> Outcome:
        def select(*fns_and_operands: Any) -> Any:
            fns, rest = fns_and_operands[: len(branches)], fns_and_operands[len(branches) :]
            return jax.lax.switch(index, fns, *rest)

        return _select(carrier, transform, branches, select, shape, groups, operands)

    return Lifted(branches[0], carrier, pure)


def _select(
    carrier: Carrier[Any],
    transform: str,
    branches: Sequence[Callable[..., Any]],
    select: Callable[..., Any],
    shape: Static,
    groups: Groups,
    operands: tuple[Any, ...],
) -> Outcome:
    leaves, treedef = jax.tree.flatten(operands)
    # What is no array stays what it is: flags, names, functions.
    arrays = {n: leaf for n, leaf in enumerate(leaves) if hasattr(leaf, "dtype") and not isinstance(leaf, type)}
    start = [shape]
    ends: dict[int, Static] = {}
    seen: dict[int, Any] = {}

    def wrapped(number: int, branch: Callable[..., Any]) -> Callable[..., Any]:
        def fn(groups: Groups, arrays: dict[int, Any]) -> Any:
            inputs = jax.tree.unflatten(treedef, [arrays.get(n, leaf) for n, leaf in enumerate(leaves)])
            after, new, out = run(carrier, branch, start[0], groups, *inputs)
            start[0] = carrier.follow(start[0], after)
            ends[number] = after
            seen[number] = jax.tree.map(jax.typeof, (new, out))
            return new, out

        return fn

    try:
        new, out = select(*(wrapped(n, branch) for n, branch in enumerate(branches)), groups, arrays)
    except TypeError as error:
        found = [] if isinstance(error, FxError) else _disagreements(carrier, seen)
        if not found:
            raise
        raise BranchStateError(transform, found) from error
    return Outcome(carrier.join([ends[n] for n in sorted(ends)]), new, out)


def _disagreements(carrier: Carrier[Any], seen: dict[int, Any]) -> list[str]:
    def name(path: tuple[Any, ...]) -> str:
        if path[0].idx == 0:
            return carrier.label(path[1].idx, path[2:])
        return "result" + jax.tree_util.keystr(path[1:])

    first = seen.get(0)
    texts: list[str] = []
    for number, other in seen.items():
        if number:
            texts += differences(first, other, name, ("in branch 0", f"in branch {number}"))
    return texts
