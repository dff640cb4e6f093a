"""NNX modules as Linen modules."""

from collections.abc import Callable, Mapping, Sequence
from types import MethodType
from typing import Any

import fx_linen as linen
from fx_core.frozen_dict import FrozenDict
from fx_linen.module import detached
from fx_nnx import Pytree, Variable

from fx_bridge.boxes import to_linen_var
from fx_bridge.errors import bridge_method, bridge_target
from fx_bridge.inner import InnerCall
from fx_bridge.to_nnx import initializing

__all__ = ["ToLinen", "to_linen"]


class ToLinen(linen.Module):
    """An NNX module as a Linen module.

    Its variables are in the collections that stand for their types, with their metadata in boxes; the streams of Linen
    are its ``rngs``. The module is made anew in every call, so that changes last only in collections that are mutable.

    >>> import jax, jax.numpy as jnp
    >>> import fx_nnx as nnx
    >>> model = ToLinen(nnx.Linear, args=(2, 3))
    >>> variables = model.init(jax.random.key(0), jnp.ones((1, 2)))
    >>> jax.tree.map(jnp.shape, variables)
    {'params': {'bias': (3,), 'kernel': (2, 3)}}

    Methods of the NNX module are methods of this one, too: ``model.apply(variables, x, method="encode")``. What it was
    given as ``kwargs`` are attributes.

    Attributes:
      nnx_class: a class of NNX modules, or a function that makes one.
      args: its arguments.
      kwargs: more arguments.
      skip_rng: whether it takes no ``rngs``.
      metadata_fn: makes a variable the leaf of a collection; None leaves metadata out.
    """

    nnx_class: Callable[..., Any]
    args: Sequence[Any] = ()
    kwargs: Mapping[str, Any] = FrozenDict({})
    skip_rng: bool = False
    metadata_fn: Callable[[Variable[Any]], Any] | None = to_linen_var

    @linen.compact
    def __call__(self, *args: Any, nnx_method: Callable[..., Any] | str | None = None, **kwargs: Any) -> Any:
        """Calls the NNX module.

        Args:
          *args: arguments of the method.
          nnx_method: what to call instead of ``__call__``: a name, or a function of the NNX module.
          **kwargs: more arguments of the method.

        Raises:
          UninitializedError: there are no variables.
          InvalidAttributeError: there is no such method.
          BridgeError: the module uses an RNG stream that was not given.
        """
        call = InnerCall(self, self.metadata_fn)
        module = call.module
        method = _method_of(module, nnx_method)
        with detached():
            if not self.is_initializing():
                out = method(*args, **kwargs)
            else:
                with initializing(module):
                    out = method(*args, **kwargs)
        call.finish()
        return out

    def __getattr__(self, name: str) -> Any:
        kwargs = self.__dict__.get("kwargs") or {}
        if name in kwargs:
            return kwargs[name]
        cls = self.__dict__.get("nnx_class")
        if isinstance(cls, type) and not name.startswith("_") and callable(getattr(cls, name, None)):
            return MethodType(_NamedMethod(name), self)
        return super().__getattr__(name)


def to_linen(
    nnx_class: Callable[..., Any],
    *args: Any,
    metadata_fn: Callable[[Variable[Any]], Any] | None = to_linen_var,
    name: str | None = None,
    skip_rng: bool = False,
    abstract_init: bool = True,
    **kwargs: Any,
) -> ToLinen:
    """Creates a Linen module of an NNX module; in a compact method it is a submodule of the running one.

    >>> import jax, jax.numpy as jnp
    >>> import fx_linen as nn
    >>> import fx_nnx as nnx
    >>> class Model(nn.Module):
    ...     @nn.compact
    ...     def __call__(self, x):
    ...         return nn.Dense(1)(to_linen(nnx.Linear, 2, 3)(x))
    >>> sorted(Model().init(jax.random.key(0), jnp.ones((1, 2)))["params"])
    ['Dense_0', 'ToLinen_0']

    Args:
      nnx_class: a class of NNX modules, or a function that makes one.
      *args: its arguments.
      metadata_fn: see `ToLinen`.
      name: name of the Linen module.
      skip_rng: whether the class takes no ``rngs``.
      abstract_init: no effect, as in Flax: the module is always made abstractly.
      **kwargs: more arguments of the class.

    Raises:
      ArgumentTypeError: ``nnx_class`` is neither a class nor a function.
    """
    if not callable(nnx_class) or isinstance(nnx_class, Pytree):
        raise bridge_target("to_linen", "a class of NNX modules, or a function that makes one", nnx_class)
    return ToLinen(
        nnx_class, args=args, kwargs=FrozenDict(kwargs), skip_rng=skip_rng, metadata_fn=metadata_fn, name=name
    )


class _NamedMethod:
    """A function of a `ToLinen` that calls a method of its NNX module."""

    def __init__(self, name: str):
        self.__name__ = name

    def __call__(self, module: ToLinen, *args: Any, **kwargs: Any) -> Any:
        return module(*args, nnx_method=self.__name__, **kwargs)


def _method_of(module: Any, method: Any) -> Callable[..., Any]:
    if method is None:
        method = "__call__"
    if isinstance(method, str):
        found = getattr(module, method, None)
        if not callable(found):
            known = [name for name in dir(type(module)) if not name.startswith("_")]
            raise bridge_method(type(module).__name__, method, known)
        return found
    if not callable(method):
        raise bridge_method(type(module).__name__, method, ["__call__"])
    return lambda *args, **kwargs: getattr(method, "__func__", method)(module, *args, **kwargs)
