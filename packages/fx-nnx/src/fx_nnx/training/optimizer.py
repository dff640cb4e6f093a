"""Optimizers: a gradient transformation together with its state."""

from typing import Any, Protocol

import jax
import jax.numpy as jnp
from fx_core.errors.nnx_layers import OptimizerStateError

from fx_nnx.filters import Filter
from fx_nnx.graph.functions import state as state_of
from fx_nnx.graph.functions import update as update_node
from fx_nnx.modules.module import Module
from fx_nnx.objects.fields import data
from fx_nnx.states.pure import as_pure
from fx_nnx.states.sealed import seal, unseal
from fx_nnx.variables.kinds import Param
from fx_nnx.variables.variable import Variable

__all__ = ["GradientTransformation", "ModelAndOptimizer", "OptArray", "OptState", "OptVariable", "Optimizer"]


class GradientTransformation(Protocol):
    """What an optimizer needs; those of optax are such."""

    def init(self, params: Any, /) -> Any:
        """Give the first state for some parameters."""
        ...

    def update(self, updates: Any, state: Any, params: Any, /, **extra: Any) -> tuple[Any, Any]:
        """Turn gradients into what is added to the parameters, and give the next state."""
        ...


class OptState(Variable[Any]):
    """The state of an optimizer; as a filter, everything an optimizer keeps."""


class OptArray(OptState):
    """State of an optimizer that belongs to no parameter, such as a count."""


class OptVariable(OptState):
    """State of an optimizer that belongs to a parameter, whose type is in the metadata ``source_type``."""


class Optimizer(Module):
    """Keeps the state of a gradient transformation for the parameters of a model, and updates the model.

    ::

        optimizer = nnx.Optimizer(model, optax.adam(1e-3), wrt=nnx.Param)
        optimizer.update(model, grads)

    Args:
      model: whose parameters are to be trained.
      tx: a gradient transformation, such as those of optax.
      wrt: a filter for the parameters that are trained; gradients have to be taken with respect to the same.
      graph: as in `fx_nnx.split`.
    """

    def __init__(self, model: Any, tx: GradientTransformation, *, wrt: Filter, graph: bool | None = None):
        self.step = OptState(jnp.zeros((), jnp.uint32))
        self.tx = tx
        self.wrt = tuple(wrt) if isinstance(wrt, list) else wrt
        self.opt_state = data(seal(_boxed(tx.init(state_of(model, wrt, graph=graph)))))

    def update(self, model: Any, grads: Any, /, **kwargs: Any) -> None:
        """Change the parameters of the model, and the state of the optimizer, in place.

        Args:
          model: the model.
          grads: gradients with respect to the parameters: a state of the structure of ``nnx.state(model, wrt)``.
          **kwargs: for transformations that take more, such as ``value``.

        Raises:
          OptimizerStateError: the gradients have another structure.
        """
        params = state_of(model, self.wrt)
        pure_params, pure_grads = as_pure(params), as_pure(grads)
        expected, got = (jax.tree.structure(tree) for tree in (pure_params, pure_grads))
        if expected != got:
            raise OptimizerStateError(expected, got)
        old = unseal(as_pure(self.opt_state))
        updates, new = self.tx.update(pure_grads, old, pure_params, **kwargs)
        changed = jax.tree.map(lambda p, u: jnp.asarray(p + u, p.dtype), pure_params, updates)
        update_node(model, changed)
        _put(self.opt_state, new)
        self.step.set_value(self.step.get_value() + 1)


class ModelAndOptimizer(Optimizer):
    """An optimizer that holds its model, so that both go through transforms as one.

    Args:
      model: the model.
      tx: a gradient transformation.
      wrt: a filter for the parameters that are trained.
    """

    def __init__(self, model: Any, tx: GradientTransformation, *, wrt: Filter = Param):
        super().__init__(model, tx, wrt=wrt)
        self.model = model

    def update(self, grads: Any, /, **kwargs: Any) -> None:  # type: ignore[override]
        """Change the parameters of the model, and the state of the optimizer, in place.

        Args:
          grads: gradients with respect to the parameters.
          **kwargs: for transformations that take more.

        Raises:
          OptimizerStateError: the gradients have another structure.
        """
        super().update(self.model, grads, **kwargs)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Call the model."""
        return self.model(*args, **kwargs)


def _is_variable(x: Any) -> bool:
    return isinstance(x, Variable)


def _boxed(opt_state: Any) -> Any:
    """Put each array into a variable that says what it is."""

    def box(leaf: Any) -> OptState:
        if isinstance(leaf, Variable):
            metadata = leaf.get_metadata(exclude_required=True)
            return OptVariable(leaf.get_raw_value(), **{**metadata, "source_type": type(leaf)})
        return OptArray(leaf)

    return jax.tree.map(box, opt_state, is_leaf=_is_variable)


def _put(boxes: Any, values: Any) -> None:
    leaves = jax.tree.leaves(boxes, is_leaf=_is_variable)
    for box, value in zip(leaves, jax.tree.leaves(values)):
        box.set_raw_value(value)
