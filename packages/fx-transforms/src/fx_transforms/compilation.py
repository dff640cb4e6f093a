"""jit over groups of state."""

# JAX's own signatures are partly unknown to the checker; errors about our code stay on.
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false
# pyright: reportUnknownArgumentType=false, reportUnknownLambdaType=false

import functools
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import jax

from fx_transforms.carrier import Carrier, Groups, Outcome, run
from fx_transforms.static import Static

__all__ = ["jit"]


def jit(
    fn: Callable[..., Any],
    carrier: Carrier[Any],
    *,
    static_argnums: int | Sequence[int] = (),
    static_argnames: str | Iterable[str] = (),
    donate_argnums: int | Sequence[int] = (),
    donate_groups: bool = False,
    **options: Any,
) -> Callable[..., Any]:
    """Compile ``fn(inner, *args, **kwargs)``.

    The compiled function is looked up by JAX, by the shapes of the arrays and by the carrier's static shape: equal
    structure is never traced twice. Keep the function that this gives, the cache belongs to it.

    Args:
      fn: function of the merged state and arrays.
      carrier: what splits and merges the state.
      static_argnums: positions of arguments to compile for; the state is position 0.
      static_argnames: names of keyword arguments to compile for.
      donate_argnums: positions of arguments whose buffers may be reused; 0 is the state.
      donate_groups: whether the buffers of the state may be reused; same as 0 in ``donate_argnums``.
      **options: further options of `jax.jit`.

    Returns:
      a function ``(handle, *args, **kwargs)`` that changes the handle as ``fn`` did.
    """

    @functools.wraps(fn, assigned=("__name__", "__qualname__", "__doc__"))
    def pure(shape: Static, groups: Groups, *args: Any, **kwargs: Any) -> Outcome:
        return run(carrier, fn, shape, groups, *args, **kwargs)

    del pure.__wrapped__  # jax.jit would check argument numbers against the signature of fn
    donated = positions(donate_argnums)
    compiled = jax.jit(
        pure,
        static_argnums=tuple(shifted(i) for i in positions(static_argnums)),
        static_argnames=static_argnames or None,
        donate_argnums=((1,) if donate_groups or 0 in donated else ()) + tuple(shifted(i) for i in donated if i != 0),
        **options,
    )

    @functools.wraps(fn)
    def call(handle: Any, *args: Any, **kwargs: Any) -> Any:
        shape, groups = carrier.split(handle)
        return carrier.absorb(handle, *compiled(shape, groups, *args, **kwargs))

    return call


def positions(argnums: int | Sequence[int]) -> tuple[int, ...]:
    """Argument numbers as a tuple."""
    return (argnums,) if isinstance(argnums, int) else tuple(argnums)


def shifted(argnum: int) -> int:
    """Position in the pure function, which takes shape and groups in place of the handle."""
    return argnum + 1 if argnum > 0 else argnum
