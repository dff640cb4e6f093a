"""Arguments of transformed functions: names and positions, static ones, decorators."""

import functools
import inspect
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from fx_transforms.jit import positions

from fx_nnx.errors import ArgumentNumberError, ArgumentTypeError, StaticArgumentError
from fx_nnx.snapshots import exact
from fx_nnx.transforms.targets import holds_nodes

__all__ = ["Missing", "StaticArguments", "bound", "by_position", "decorating"]


class Missing:
    """In place of a function: what a transform gets that is used as a decorator with options."""


def decorating(transform: Callable[..., Any]) -> Callable[..., Any]:
    """Lets a transform of a function be used as a decorator with options: called without one, it gives a decorator."""

    @functools.wraps(transform)
    def wrapped(f: Any = Missing, /, *args: Any, **options: Any) -> Any:
        f = options.pop("f", f)
        if f is Missing:
            return functools.partial(wrapped, **options)
        return transform(f, *args, **options)

    first, *rest = inspect.signature(transform).parameters.values()
    wrapped.__signature__ = inspect.Signature([first.replace(default=Missing), *rest])  # type: ignore[attr-defined]
    return wrapped


def _as_names(names: str | Iterable[str] | None) -> tuple[str, ...]:
    if names is None:
        return ()
    return (names,) if isinstance(names, str) else tuple(names)


def _parameters(f: Callable[..., Any]) -> list[inspect.Parameter] | None:
    try:
        return list(inspect.signature(f).parameters.values())
    except (TypeError, ValueError):
        return None


_POSITIONAL = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
_Kind = inspect.Parameter


def chosen_arguments(
    f: Callable[..., Any],
    transform: str,
    option: str,
    nums: int | Sequence[int] | None,
    names: str | Iterable[str] | None,
) -> tuple[frozenset[int], frozenset[str]]:
    """Positions and names of arguments that are said by one or the other, as `jax.jit` understands them.

    Args:
      f: the function.
      transform: name for messages.
      option: what the arguments are, for messages: ``"static"`` or ``"donate"``.
      nums: positions.
      names: names.

    Raises:
      ArgumentNumberError: the function has no such argument.
    """
    if nums is None and names is None:
        return frozenset(), frozenset()
    numbers, words = positions(nums), _as_names(names)
    if not numbers and not words:
        return frozenset(), frozenset()
    found = _parameters(f)
    parameters = found or []
    positional = [p.name for p in parameters if p.kind in _POSITIONAL]
    open_ended = found is None or any(p.kind is _Kind.VAR_POSITIONAL for p in parameters)
    if any(not isinstance(n, int) for n in numbers) or not (
        open_ended or all(-len(positional) <= n < len(positional) for n in numbers)
    ):
        raise ArgumentNumberError.out_of_range(transform, f"{option}_argnums", nums, positional)
    known = {p.name for p in parameters}
    if found is not None and not any(p.kind is _Kind.VAR_KEYWORD for p in parameters) and not known.issuperset(words):
        raise ArgumentNumberError.out_of_range(transform, f"{option}_argnames", names, sorted(known))
    numbers = tuple(n + len(positional) if n < 0 else n for n in numbers)
    if nums is not None and names is None:
        words = tuple(positional[n] for n in numbers if n < len(positional))
    elif names is not None and nums is None:
        numbers = tuple(positional.index(name) for name in words if name in positional)
    return frozenset(numbers), frozenset(words)


_PLAIN = {int, bool, float, str, bytes, type(None)}


class StaticArguments:
    """Arguments to compile for, taken out of the others.

    Args:
      f: the function.
      transform: name for messages.
      nums: positions.
      names: names.
    """

    __slots__ = ("names", "nums", "transform")

    def __init__(self, f: Callable[..., Any], transform: str, nums: Any, names: Any = None):
        self.transform = transform
        self.nums, self.names = chosen_arguments(f, transform, "static", nums, names)

    def __bool__(self) -> bool:
        return bool(self.nums or self.names)

    def take(
        self, args: Sequence[Any], kwargs: dict[str, Any], but: Sequence[int] = ()
    ) -> tuple[Any, Any, dict[str, Any]]:
        """Returns the static arguments, hashable, and the others, with gaps in place of positional ones.

        Args:
          args: the arguments.
          kwargs: those by name.
          but: positions of arguments that are not taken out for once.

        Raises:
          StaticArgumentError: one is not hashable, or holds modules.
        """
        nums = [n for n in sorted(self.nums) if n < len(args) and n not in but]
        names = [name for name in sorted(self.names) if name in kwargs]
        by_number, by_name = [(n, args[n]) for n in nums], [(name, kwargs[name]) for name in names]
        for key, value in (*by_number, *by_name):
            try:
                hash(value)
            except TypeError:
                raise StaticArgumentError(self.transform, key, value) from None
            if type(value) not in _PLAIN and holds_nodes(value):
                raise StaticArgumentError.of_module(self.transform, key, value)
        # The last part tells 1 from 1.0 and True, and 0.0 from -0.0.
        statics = tuple(by_number), tuple(by_name), tuple([exact(value) for _, value in (*by_number, *by_name)])
        rest = tuple(None if n in nums else arg for n, arg in enumerate(args))
        return statics, rest, {name: value for name, value in kwargs.items() if name not in self.names}

    @staticmethod
    def put(statics: Any, args: Sequence[Any], kwargs: dict[str, Any], *rest: Any) -> tuple[Any, ...]:
        """Undoes `take`; what else is given comes after the arguments."""
        if statics is None:
            return args, kwargs, *rest
        known = dict(statics[0])
        return tuple([known.get(n, arg) for n, arg in enumerate(args)]), {**kwargs, **dict(statics[1])}, *rest


def by_position(f: Callable[..., Any], kwargs: dict[str, Any]) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """Returns arguments that came by name by position, as far as the function takes them so."""
    try:
        found = inspect.signature(f).bind(**kwargs)
    except (TypeError, ValueError):
        return (), kwargs
    return found.args, found.kwargs


def bound(f: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[Any, ...]:
    """Returns all arguments by position, where some came by name.

    Raises:
      TypeError: they do not fit, or some can only be given by name.
    """
    if not kwargs:
        return args
    found = inspect.signature(f).bind(*args, **kwargs)
    found.apply_defaults()
    if found.kwargs:
        raise ArgumentTypeError(
            "This transform needs all arguments by position.",
            expected="a function whose arguments can be given so",
            got=f"the arguments {sorted(found.kwargs)}, which can only be given by name",
            fix="wrap the function in one of positional arguments",
        )
    return found.args
