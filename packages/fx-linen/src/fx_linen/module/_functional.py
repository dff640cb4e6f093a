"""Running functions of modules: the function forms of init and apply."""

from collections.abc import Callable
from typing import Any, TypeVar

from fx_core import scope as core
from fx_core.errors import ArgumentError
from fx_core.traceback_util import api_boundary

from fx_linen.module._base import ModuleBase
from fx_linen.module._running import (
    WITHOUT_INTERMEDIATES,
    Capture,
    CollectionFilter,
    bound_function,
    rngs_of,
    with_intermediates,
)

__all__ = ["apply", "init", "init_with_output", "merge_param"]

T = TypeVar("T")


def apply(
    fn: Callable[..., Any],
    module: ModuleBase,
    mutable: CollectionFilter = False,
    capture_intermediates: Capture = False,
) -> Callable[..., Any]:
    """Converts a function of a module into one of its variables.

    Args:
      fn: called as ``fn(bound_module, *args, **kwargs)``; it may call several methods.
      module: the module.
      mutable: see `Module.apply`.
      capture_intermediates: see `Module.apply`.

    Returns:
      A function of ``(variables, *args, rngs=None, **kwargs)`` that returns what `Module.apply` does.

    >>> import jax, jax.numpy as jnp
    >>> import fx_linen as nn
    >>> dense = nn.Dense(2)
    >>> variables = dense.init(jax.random.key(0), jnp.ones(3))
    >>> twice = nn.apply(lambda dense, x: dense(x) * 2, dense)
    >>> bool(jnp.allclose(twice(variables, jnp.ones(3)), 2 * dense.apply(variables, jnp.ones(3))))
    True
    """
    mutable = with_intermediates(mutable, capture_intermediates)
    run = core.apply(bound_function(fn, module, capture_intermediates), mutable=mutable)

    @api_boundary
    def apply_fn(variables: Any, *args: Any, rngs: Any = None, **kwargs: Any) -> Any:
        return run(variables, *args, rngs=rngs_of(rngs, module), **kwargs)

    return apply_fn


def init_with_output(
    fn: Callable[..., Any],
    module: ModuleBase,
    mutable: CollectionFilter = WITHOUT_INTERMEDIATES,
    capture_intermediates: Capture = False,
) -> Callable[..., Any]:
    """Converts a function of a module into one that makes its variables.

    Args:
      fn: called as ``fn(bound_module, *args, **kwargs)``.
      module: the module.
      mutable: the collections to make.
      capture_intermediates: see `Module.apply`.

    Returns:
      A function of ``(rngs, *args, **kwargs)`` that returns the result and the variables.

    >>> import jax, jax.numpy as jnp
    >>> import fx_linen as nn
    >>> make = nn.init_with_output(lambda dense, x: dense(x).sum(), nn.Dense(2))
    >>> total, variables = make(jax.random.key(0), jnp.ones(3))
    >>> total.shape, variables["params"]["kernel"].shape
    ((), (3, 2))
    """
    mutable = with_intermediates(mutable, capture_intermediates)
    run = core.init(bound_function(fn, module, capture_intermediates), mutable=mutable)

    @api_boundary
    def init_fn(rngs: Any, *args: Any, **kwargs: Any) -> tuple[Any, Any]:
        return run(rngs_of(rngs, module), *args, **kwargs)

    return init_fn


def init(
    fn: Callable[..., Any],
    module: ModuleBase,
    mutable: CollectionFilter = WITHOUT_INTERMEDIATES,
    capture_intermediates: Capture = False,
) -> Callable[..., Any]:
    """Converts a function of a module into one that makes its variables and computes nothing else.

    Where that is not possible, as the function needs to see numbers, it is computed; see `init_with_output`.

    Returns:
      A function of ``(rngs, *args, **kwargs)`` that returns the variables.

    >>> import jax, jax.numpy as jnp
    >>> import fx_linen as nn
    >>> variables = nn.init(lambda dense, x: dense(x).sum(), nn.Dense(2))(jax.random.key(0), jnp.ones(3))
    >>> variables["params"]["kernel"].shape
    (3, 2)
    """
    mutable = with_intermediates(mutable, capture_intermediates)
    run = core.lazy_init(bound_function(fn, module, capture_intermediates), mutable=mutable)

    @api_boundary
    def init_fn(rngs: Any, *args: Any, **kwargs: Any) -> Any:
        return run(rngs_of(rngs, module), *args, **kwargs)

    return init_fn


def merge_param(name: str, a: T | None, b: T | None) -> T:
    """Takes an argument that may be given to the constructor or to the call, but only once.

    Args:
      name: its name, for errors.
      a: the constructor's value, or None.
      b: the call's value, or None.

    Raises:
      ArgumentError: both or none were given.

    >>> import fx_linen as nn
    >>> nn.merge_param("train", None, True)
    True
    """
    if a is not None and b is not None:
        raise _merge_param(name, True, (a, b))
    if a is None:
        if b is None:
            raise _merge_param(name, False)
        return b
    return a


def _merge_param(name: str, twice: bool, values: tuple[Any, Any] = (None, None)) -> ArgumentError:
    if twice:
        what = f'Parameter "{name}" was passed to the constructor and at call time. Should be passed just once.'
    else:
        what = f'Parameter "{name}" must be passed to the constructor or at call time.'
    return ArgumentError(
        what,
        expected="one value, not None",
        got=f"{values[0]!r} and {values[1]!r}",
        fix=f"Give {name} once: {name}=... where the module is made, or where it is called.",
    )
