"""A functional train state, for programs that keep everything in one pytree."""

from typing import Any, Generic, Self, TypeVar

import jax
import jax.numpy as jnp
from fx_core import struct

from fx_nnx.graph.calls import apply
from fx_nnx.graph.definition import GraphDef

__all__ = ["TrainState"]

M = TypeVar("M")


class TrainState(struct.PyTreeNode, Generic[M]):
    """Parameters, optimizer state and step, next to the structure of the model and the gradient transformation.

    ``nnx.TrainState[Model]`` says of which model, in annotations.

    ::

        graphdef, params = nnx.split(model, nnx.Param)
        state = nnx.TrainState.create(graphdef, params=params, tx=optax.adam(1e-3))
        y, _ = state.apply("params")(x)
        state = state.apply_gradients(grads)

    Attributes:
      graphdef: structure of the model, static.
      params: the parameters, a `fx_nnx.State`.
      opt_state: state of the gradient transformation.
      step: how often gradients were applied.
      tx: the gradient transformation, static.
    """

    graphdef: GraphDef = struct.field(pytree_node=False)
    params: Any
    opt_state: Any
    step: Any
    tx: Any = struct.field(pytree_node=False)

    @classmethod
    def create(cls, graphdef: GraphDef, *, params: Any, tx: Any, step: int = 0, **kwargs: Any) -> Self:
        """Creates the first state.

        Args:
          graphdef: structure of the model.
          params: its parameters.
          tx: a gradient transformation, with ``init`` and ``update``.
          step: the first step.
          **kwargs: fields of a subclass.
        """
        return cls(graphdef=graphdef, params=params, opt_state=tx.init(params), step=jnp.asarray(step), tx=tx, **kwargs)

    def apply(self, state: Any, *states: Any) -> Any:
        """Returns a proxy of the model, whose methods return their result and the new ``(graphdef, state)``.

        Args:
          state: a state of the model, or the name of a field that is one.
          *states: more of the same.
        """
        found = [getattr(self, part) if isinstance(part, str) else part for part in (state, *states)]
        return apply(self.graphdef, *found)

    def apply_gradients(self, grads: Any, **kwargs: Any) -> Self:
        """Returns the state after one step.

        Args:
          grads: gradients with respect to ``params``.
          **kwargs: new values of other fields.
        """
        updates, opt_state = self.tx.update(grads, self.opt_state, self.params)
        params = _add(self.params, updates)
        return self.replace(step=self.step + 1, params=params, opt_state=opt_state, **kwargs)


def _add(params: Any, updates: Any) -> Any:
    return jax.tree.map(lambda p, u: jnp.asarray(p + u, p.dtype), params, updates)
