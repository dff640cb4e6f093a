"""NNX modules as pairs of functions."""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any, Generic, TypeVar

from fx_nnx import GraphDef, State, split

from fx_bridge.errors import uninitialized

__all__ = ["Functional", "functional"]

M = TypeVar("M")


@dataclasses.dataclass
class Functional(Generic[M]):
    """A class of NNX modules and its arguments, as ``init`` and ``apply``.

    Attributes:
      module_type: the class.
      graphdef: the structure, once ``init`` has run.
      args: arguments of the class.
      kwargs: more arguments.

    >>> import fx_bridge
    >>> import fx_nnx as nnx
    >>> model = fx_bridge.functional(nnx.Linear)(2, 3)
    >>> sorted(model.init(rngs=nnx.Rngs(0)))
    ['bias', 'kernel']
    """

    module_type: Callable[..., M]
    graphdef: GraphDef | None
    args: tuple[Any, ...]
    kwargs: Mapping[str, Any]

    def init(self, *, rngs: Any = None) -> State:
        """Creates the module, and returns its state.

        Args:
          rngs: the streams, if the class takes any.
        """
        options = {**self.kwargs} if rngs is None else {**self.kwargs, "rngs": rngs}
        self.graphdef, state = split(self.module_type(*self.args, **options))
        return state

    def apply(self, *states: Any) -> Any:
        """Returns a proxy of the module with these states; calls of it give their result and ``(graphdef, state)``.

        Raises:
          UninitializedError: ``init`` has not run.
        """
        if self.graphdef is None:
            name = getattr(self.module_type, "__name__", "module")
            raise uninitialized(f"Functional({name})", None, None, "call init(rngs=...) first")
        return self.graphdef.apply(*states)


def functional(cls: Callable[..., M]) -> Callable[..., Functional[M]]:
    """Converts a class of NNX modules into functions: the result takes the arguments of the class.

    >>> import jax.numpy as jnp
    >>> import fx_nnx as nnx
    >>> model = functional(nnx.Linear)(2, 3)
    >>> state = model.init(rngs=nnx.Rngs(0))
    >>> y, (graphdef, state) = model.apply(state)(jnp.ones((4, 2)))
    >>> y.shape
    (4, 3)

    Args:
      cls: the class.
    """

    def make(*args: Any, **kwargs: Any) -> Functional:
        return Functional(cls, None, args, kwargs)

    return make
