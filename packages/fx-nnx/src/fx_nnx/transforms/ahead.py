"""Ahead-of-time compilation: what `jax.stages` has, called with modules."""

from collections.abc import Callable
from typing import Any

from fx_nnx.captures import Captures
from fx_nnx.errors import NnxError
from fx_nnx.transforms.carrier import ObjectCarrier
from fx_nnx.transforms.layout import Handle
from fx_nnx.transforms.targets import Target

__all__ = ["Compiled", "Lowered", "Traced"]


class _Stage:
    """A stage of JAX, whose attributes it has, and what is needed to call the program at the end.

    Args:
      stage: what JAX has.
      *context: the carrier, what prepares a handle for the program, what it read from outside, the function, and the
        static arguments that it is for.
      first: arguments that it has already, by position and by name, without the static ones.
    """

    def __init__(self, stage: Any, *context: Any, first: tuple[tuple[Any, ...], dict[str, Any]] = ((), {})):
        self._stage, self._context, self._first = stage, context, first

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return getattr(self._stage, name)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self._stage!r})"


class Traced(_Stage):
    """A traced function of modules, see `jax.stages.Traced`."""

    def lower(self, **options: Any) -> "Lowered":
        """Lowers it, see `jax.stages.Traced.lower`."""
        return Lowered(self._stage.lower(**options), *self._context, first=self._first)

    def partial(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> "Traced":
        """Returns it with its first arguments given, so that the program at the end is called with the others."""
        positions, names = (self._context[-1] or ((), ()))[:2]
        fixed, named = {number for number, _ in positions}, {name for name, _ in names}
        first = tuple(value for number, value in enumerate(args) if number not in fixed)
        return Traced(self._stage, *self._context, first=(first, {k: v for k, v in kwargs.items() if k not in named}))


class Lowered(_Stage):
    """A lowered function of modules, see `jax.stages.Lowered`."""

    def compile(self, *args: Any, **options: Any) -> "Compiled":
        """Compiles it, see `jax.stages.Lowered.compile`."""
        return Compiled(self._stage.compile(*args, **options), *self._context, first=self._first)


class Compiled(_Stage):
    """A compiled function of modules, see `jax.stages.Compiled`."""

    _context: tuple[ObjectCarrier, Callable[[Handle], Any], Captures, Target, Any]

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Calls it with the arguments that are not static; what it changes in them is changed for the caller.

        Raises:
          NnxError: variables or modules that it read from outside have changed.
          TypeError: the arguments differ in structure, shapes or dtypes from those that it was compiled for.
        """
        carrier, prepared, captures, target, statics = self._context
        if not captures.hold():
            raise NnxError(
                f"The program compiled of {getattr(target.f, '__name__', 'the function')} has old values of variables "
                "or modules as constants.",
                expected="variables and modules as they were when it was compiled",
                got="variables from outside with new values, or modules with other attributes",
                fix="pass their modules as arguments, or lower and compile again",
            )
        first, named = self._first
        given = [*first, *args]
        for number, _ in () if statics is None else statics[0]:
            given.insert(number, None)
        handle = Handle(target.tree(tuple(given), {**named, **kwargs}), statics)
        return carrier.absorb(handle, *self._stage(*prepared(handle)))
