"""jit over groups of state."""

import functools
from collections.abc import Callable, Iterable, Sequence
from typing import Any, cast

import jax

from fx_transforms.carrier import Carrier, Chosen, Groups, Outcome, Static, run

__all__ = ["jit"]


def jit(
    fn: Callable[..., Any],
    carrier: Carrier[Any],
    *,
    static_argnums: int | Sequence[int] = (),
    static_argnames: str | Iterable[str] = (),
    donate_argnums: int | Sequence[int] = (),
    donate_groups: bool | Sequence[int] = False,
    group_shardings: Sequence[Any] | None = None,
    **options: Any,
) -> Callable[..., Any]:
    """Compiles ``fn(inner, *args, **kwargs)``.

    The compiled function is looked up by JAX, by the shapes of the arrays and by the carrier's static shape: equal
    structure is never traced twice. Keep the function that this gives, the cache belongs to it.

    Args:
      fn: function of the merged state and arrays.
      carrier: what splits and merges the state.
      static_argnums: positions of arguments to compile for; the state is position 0.
      static_argnames: names of keyword arguments to compile for.
      donate_argnums: positions of arguments whose buffers may be reused; 0 is the state.
      donate_groups: whether the buffers of the state may be reused, same as 0 in ``donate_argnums``; or the indices of
        the groups whose buffers may.
      group_shardings: for each group the shardings of its arrays, on their way in and out, a prefix of its tree; None
        leaves them to JAX. Only for functions of the state alone.
      **options: further options of `jax.jit`.

    Returns:
      a function ``(handle, *args, **kwargs)`` that changes the handle as ``fn`` did. Its attribute ``compiled`` is what
      `jax.jit` gave, a function of what its attribute ``prepared`` gives for a handle.

    >>> import fx_core
    >>> import fx_transforms
    >>> carrier = fx_transforms.ScopeCarrier(["state"], ["state"], [])
    >>> def add(scope, x):
    ...     scope.put_variable("state", "sum", scope.get_variable("state", "sum") + x)
    >>> scope = fx_core.Scope({"state": {"sum": 1.0}}, {}, mutable=["state"])
    >>> fx_transforms.jit(add, carrier)(scope, 2.0)
    >>> float(scope.get_variable("state", "sum"))
    3.0
    """
    donated = positions(donate_argnums)
    all_given = donate_groups is True or 0 in donated
    chosen = Chosen(() if isinstance(donate_groups, bool) or all_given else donate_groups)

    def whole(shape: Static, groups: Groups, *args: Any, **kwargs: Any) -> Outcome:
        return run(carrier, fn, shape, groups, *args, **kwargs)

    # What JAX donates is whole arguments, so groups that are given away are one of their own.
    def parted(shape: Static, given: Groups, kept: Groups, *args: Any, **kwargs: Any) -> Outcome:
        return whole(shape, chosen.put(kept, given), *args, **kwargs)

    def part(handle: Any) -> tuple[Static, Groups, Groups]:
        shape, groups = carrier.split(handle)
        return shape, chosen.take(groups), chosen.others(groups)

    pure: Callable[..., Outcome] = parted if chosen.indices else whole
    prepared = part if chosen.indices else carrier.split
    functools.update_wrapper(pure, fn, assigned=("__name__", "__qualname__", "__doc__"))
    del cast(Any, pure).__wrapped__  # jax.jit would check argument numbers against the signature of fn
    if group_shardings is not None:
        given = (chosen.take(group_shardings), chosen.others(group_shardings))
        options["in_shardings"] = (None, *(given if chosen.indices else [tuple(group_shardings)]))
        options["out_shardings"] = Outcome(cast(Any, None), tuple(group_shardings), options.get("out_shardings"))
    # The state is position 0; its shape and groups are in the place of it.
    more = 2 if chosen.indices else 1
    statics, donated = ([i + more if i > 0 else i for i in nums] for nums in (positions(static_argnums), donated))
    compiled = jax.jit(
        pure,
        static_argnums=tuple(statics),
        static_argnames=static_argnames or None,
        donate_argnums=(*((1,) if all_given or chosen.indices else ()), *(i for i in donated if i != 0)),
        **options,
    )

    @functools.wraps(fn)
    def call(handle: Any, *args: Any, **kwargs: Any) -> Any:
        return carrier.absorb(handle, *compiled(*prepared(handle), *args, **kwargs))

    cast(Any, call).compiled, cast(Any, call).prepared = compiled, prepared
    return call


def positions(argnums: int | Sequence[int] | None) -> tuple[int, ...]:
    """Returns argument numbers as a tuple; None are none."""
    if argnums is None:
        return ()
    return (argnums,) if isinstance(argnums, int) else tuple(argnums)
