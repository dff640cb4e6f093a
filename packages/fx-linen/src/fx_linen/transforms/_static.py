"""Arguments that are to stay Python values in jit and remat: which they are, and how a user says so."""

from collections.abc import Collection, Generator, Sequence
from contextlib import contextmanager
from typing import Any

import jax

from fx_linen.transforms._call import Call

__all__ = ["hinting", "numbers_of"]

_NEEDS_VALUE = (
    jax.errors.ConcretizationTypeError,
    jax.errors.TracerArrayConversionError,
    jax.errors.TracerIntegerConversionError,
)


def numbers_of(static_argnums: int | Sequence[int]) -> tuple[int, ...]:
    """Returns argument numbers as a tuple."""
    return (static_argnums,) if isinstance(static_argnums, int) else tuple(static_argnums)


@contextmanager
def hinting(
    transform: str, call: Call, static_argnums: Sequence[int], static_argnames: Collection[str] | None, first: int = 1
) -> Generator[None]:
    """Adds a note to JAX's complaint about a tracer where a Python value was given: how to keep it one.

    Args:
      transform: as the user writes it, ``"nn.remat"``.
      call: the call.
      static_argnums: as the user gave them.
      static_argnames: the same; None where the transform has no such option.
      first: the number of the first argument after the module.
    """
    try:
        yield
    except TypeError as error:
        count = len(call.args) + first
        static = {n % count for n in static_argnums if -count <= n < count}
        by_number = [n for n, x in enumerate(call.args, first) if n not in static and _is_python(x)]
        by_name = [name for name, x in call.kwargs.items() if name not in (static_argnames or ()) and _is_python(x)]
        texts = any(isinstance(x, str) for x in (*call.args, *call.kwargs.values()))
        if (by_number or by_name) and (isinstance(error, _NEEDS_VALUE) or texts):
            error.add_note(_note(transform, call, by_number, by_name, static_argnames is not None, first))
        raise


def _is_python(x: Any) -> bool:
    return isinstance(x, (bool, int, float, str))


def _note(transform: str, call: Call, by_number: list[int], by_name: list[str], has_names: bool, first: int) -> str:
    given = [f"argument {n} ({call.args[n - first]!r})" for n in by_number]
    given += [f"{name}={call.kwargs[name]!r}" for name in by_name]
    what = f"{transform} traces Python values that are not static: here {', '.join(given)}."
    counts = "counting self as 0" if first else "not counting self"
    if by_number:
        what += f" Keep them what they are with static_argnums={tuple(by_number)}, {counts}."
    if by_name:
        names = f"with static_argnames={tuple(by_name)}" if has_names else "by passing them by position"
        what += f" Those given by name are kept {names}" + ("." if has_names else f" and static_argnums, {counts}.")
    return what
