"""What variables are like unless their maker says otherwise."""

import dataclasses
import functools
from collections.abc import Callable, Iterator, Mapping
from contextvars import ContextVar
from typing import Any, ParamSpec, TypeVar

from fx_nnx.errors import mode_value
from fx_nnx.modes import use_eager_sharding
from fx_nnx.variables.metadata import check_options

__all__ = ["VarDefaults", "VarDefaultsContext", "default_options", "var_defaults"]

P = ParamSpec("P")
R = TypeVar("R")


@dataclasses.dataclass(frozen=True)
class VarDefaults(Mapping[str, bool]):
    """Options of new variables, as attributes and as a mapping.

    Attributes:
      hijax: whether writing is refused in transforms of plain JAX.
      ref: whether values live in a `jax.Ref`.
    """

    hijax: bool = False
    ref: bool = False

    def __getitem__(self, name: str) -> bool:
        return dataclasses.asdict(self)[name]

    def __iter__(self) -> Iterator[str]:
        return iter(dataclasses.asdict(self))

    def __len__(self) -> int:
        return len(dataclasses.fields(self))


_FIRST = VarDefaults()
_current: ContextVar[VarDefaults] = ContextVar("fx_nnx_var_defaults", default=_FIRST)


class VarDefaultsContext:
    """Undoes a change of the defaults at the end of a ``with`` block; as a decorator, changes them for a function."""

    __slots__ = ("_after", "_before")

    def __init__(self, before: VarDefaults, after: VarDefaults):
        self._before, self._after = before, after

    def __enter__(self) -> None:
        _current.set(self._after)

    def __exit__(self, *_: Any) -> None:
        _current.set(self._before)

    def __call__(self, f: Callable[P, R]) -> Callable[P, R]:
        """Decorates a function; the defaults outside stay as they were."""
        _current.set(self._before)
        changes = dataclasses.asdict(self._after)

        @functools.wraps(f)
        def wrapped(*args: P.args, **kwargs: P.kwargs) -> R:
            with _changed(changes):
                return f(*args, **kwargs)

        return wrapped


def var_defaults(*, hijax: bool | None = None, ref: bool | None = None) -> VarDefaultsContext | VarDefaults:
    """Changes what new variables are like, in this thread or task; or give what they are like now.

    >>> with var_defaults(ref=True):
    ...     var_defaults()
    VarDefaults(hijax=False, ref=True)

    Args:
      hijax: whether writing is refused in transforms of plain JAX, see `Variable`.
      ref: whether values live in a `jax.Ref`, see `Variable`.

    Returns:
      Without arguments the present `VarDefaults`. Else the change holds from now on, and the result undoes it: by the
      end of a ``with`` block, or put on a function as a decorator after each of its calls.

    Raises:
      ArgumentTypeError: something else than True or False was given.
    """
    changes = {name: value for name, value in (("hijax", hijax), ("ref", ref)) if value is not None}
    if not changes:
        return _current.get()
    return _changed(changes)


def _changed(changes: dict[str, bool]) -> VarDefaultsContext:
    for name, value in changes.items():
        if not isinstance(value, bool):
            raise mode_value(f"var_defaults({name}=...)", value)
    before = _current.get()
    after = dataclasses.replace(before, **changes)
    _current.set(after)
    return VarDefaultsContext(before, after)


def default_options(hijax: bool | None, ref: bool | None, eager_sharding: bool | None) -> dict[str, Any]:
    """Fills the options of a variable that were not given."""
    defaults = _current.get()
    options = {
        "hijax": defaults.hijax if hijax is None else hijax,
        "ref": defaults.ref if ref is None else ref,
        "eager_sharding": use_eager_sharding.resolve(eager_sharding),
    }
    check_options(options)
    return options
