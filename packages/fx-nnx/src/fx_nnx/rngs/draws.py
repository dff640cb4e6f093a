"""The functions of `jax.random` and the initializers as methods that bring their own key."""

import functools
import inspect
from collections.abc import Callable
from typing import Any

import jax
from fx_core.ops import initializers
from fx_core.typing import Dtype

from fx_nnx.errors import NnxError

__all__ = ["KeylessInitializer", "RandomMethods"]

_DRAWS = """
    ball bernoulli beta binomial bits categorical cauchy chisquare choice dirichlet double_sided_maxwell exponential f
    gamma generalized_normal geometric gumbel laplace loggamma logistic lognormal maxwell multinomial
    multivariate_normal normal orthogonal pareto permutation poisson rademacher randint rayleigh t triangular
    truncated_normal uniform wald weibull_min
"""
_INITIALIZERS = """
    delta_orthogonal glorot_normal glorot_uniform he_normal he_uniform kaiming_normal kaiming_uniform lecun_normal
    lecun_uniform variance_scaling xavier_normal xavier_uniform
"""


_WITH_METHOD = {"beta", "chisquare", "gamma", "loggamma", "poisson"}


class KeylessInitializer:
    """An initializer that takes its keys from a stream: ``init(shape, dtype)``."""

    __slots__ = ("init", "keys")

    def __init__(self, keys: Callable[[], jax.Array], init: Callable[..., Any]):
        self.keys, self.init = keys, init

    def __call__(self, shape: Any, dtype: Dtype | None = None, **options: Any) -> Any:
        """Initializes an array with the next key."""
        if dtype is not None:
            options["dtype"] = dtype
        return self.init(self.keys(), shape, **options)


class RandomMethods:
    """Adds a method for each distribution of `jax.random` and each initializer to a class that gives a key when called.

    >>> import fx_nnx as nnx
    >>> rngs = nnx.Rngs(0)
    >>> rngs.normal((2, 3)).shape, rngs.lecun_normal()((2, 3)).shape
    ((2, 3), (2, 3))
    """

    __slots__ = ()


def _draw(name: str) -> Callable[..., Any]:
    function = getattr(jax.random, name)
    if name in _WITH_METHOD and "method" not in inspect.signature(function).parameters:
        function = _with_exact_method(name, function)

    # Seen through `wraps`, the key stands in the place of `self`: bound, the signature is that without the key.
    @functools.wraps(function)
    def method(self: Any, *args: Any, **kwargs: Any) -> jax.Array:
        return function(self(), *args, **kwargs)

    method.__doc__ = f"Draw as `jax.random.{name}` does, with the next key."
    return method


def _with_exact_method(name: str, function: Callable[..., Any]) -> Callable[..., Any]:
    """Give a draw of an older JAX the parameter ``method`` that newer ones have."""

    @functools.wraps(function)
    def draw(*args: Any, method: str = "exact", **kwargs: Any) -> jax.Array:
        if method != "exact":
            raise NnxError(
                f"JAX {jax.__version__} has no method {method!r} for {name}.",
                expected="'exact'",
                got=repr(method),
                fix="leave method away, or use a newer JAX",
            )
        return function(*args, **kwargs)

    signature = inspect.signature(function)
    parameters = list(signature.parameters.values())
    at = next((i for i, p in enumerate(parameters) if p.kind is p.KEYWORD_ONLY), len(parameters))
    parameters.insert(at, inspect.Parameter("method", inspect.Parameter.KEYWORD_ONLY, default="exact"))
    draw.__signature__ = signature.replace(parameters=parameters)  # type: ignore[attr-defined]
    return draw


def _initializer(name: str) -> Callable[..., Any]:
    make = getattr(initializers, name)

    def method(self: Any, *args: Any, **kwargs: Any) -> KeylessInitializer:
        return KeylessInitializer(self, make(*args, **kwargs))

    method.__name__ = name
    method.__qualname__ = f"RandomMethods.{name}"
    method.__doc__ = f"Give the initializer `{name}`, to be called with shape and dtype; it takes the next key then."
    return method


for _name in _DRAWS.split():
    if hasattr(jax.random, _name):
        setattr(RandomMethods, _name, _draw(_name))
for _name in _INITIALIZERS.split():
    setattr(RandomMethods, _name, _initializer(_name))
