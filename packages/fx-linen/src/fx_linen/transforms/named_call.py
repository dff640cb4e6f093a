"""Methods that show in profiles by the name of their module."""

import functools
from collections.abc import Callable
from typing import Any, TypeVar

from fx_linen.module import override_named_call
from fx_linen.transforms._call import method_of

__all__ = ["named_call"]

F = TypeVar("F", bound=Callable[..., Any])


def named_call(class_fn: F, force: bool = True) -> F:
    """Names what a method computes by its module in profiles and HLO, whatever `override_named_call` says.

    Methods are named so by default, see `enable_named_call`.

    Args:
      class_fn: a method of a Module, or a class, or a function of a module.
      force: `False` leaves it to `enable_named_call`.

    Returns:
      A function like it.

    >>> import jax, jax.numpy as jnp
    >>> import fx_linen as nn
    >>> class Network(nn.Module):
    ...     @nn.named_call
    ...     @nn.compact
    ...     def __call__(self, x):
    ...         return nn.Dense(2)(x)
    >>> Network().init(jax.random.key(0), jnp.ones(3))["params"]["Dense_0"]["bias"].shape
    (2,)
    """
    if not force:
        return class_fn
    method: Callable[..., Any] = class_fn if isinstance(class_fn, type) else method_of(class_fn)

    @functools.wraps(method, updated=() if isinstance(class_fn, type) else functools.WRAPPER_UPDATES)
    def named(*args: Any, **kwargs: Any) -> Any:
        with override_named_call():
            return method(*args, **kwargs)

    return named  # type: ignore[return-value]
