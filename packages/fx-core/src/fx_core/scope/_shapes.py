"""Whether a parameter has the shape that its initializer would make."""

import contextlib
import weakref
from collections.abc import Callable
from typing import Any

import jax

from fx_core.array_node import shapes_of
from fx_core.errors.scope import ScopeParamShapeError
from fx_core.scope._bare import BareScope

Shapes = tuple[tuple[int, ...], ...]

# Tracing an initializer takes a hundred times longer than everything else in reading a parameter, and the same
# initializer is asked for the same arguments at every call of its layer. Functions made for one call drop out of here
# with the function.
_known: weakref.WeakKeyDictionary[Callable[..., Any], dict[Any, Shapes]] = weakref.WeakKeyDictionary()


def check_shapes(
    name: str, place: BareScope, value: Any, init_fn: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]
) -> None:
    """Compares a parameter with what ``init_fn(key, *args, **kwargs)`` makes.

    Raises:
      ScopeParamShapeError: they have other shapes, or another number of arrays.
    """
    have = shapes_of(value)
    if have == _remembered(init_fn, args, kwargs):
        return
    # Traced again, so that an initializer that depends on something else than its arguments is not accused wrongly.
    want = _remember(init_fn, args, kwargs)
    if have != want:
        raise ScopeParamShapeError(name, place.path_text, _readable(have), _readable(want))


def _readable(shapes: Shapes) -> Any:
    return shapes[0] if len(shapes) == 1 else list(shapes)


def _remembered(init_fn: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Shapes | None:
    try:
        return _known[init_fn].get((args, tuple(kwargs.items())))
    except (KeyError, TypeError):  # unknown, or something that cannot be hashed or referred to weakly
        return None


def _remember(init_fn: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Shapes:
    made = jax.eval_shape(lambda: init_fn(jax.random.key(0), *args, **kwargs))
    shapes = shapes_of(made)
    with contextlib.suppress(TypeError):  # see above
        _known.setdefault(init_fn, {})[args, tuple(kwargs.items())] = shapes
    return shapes
