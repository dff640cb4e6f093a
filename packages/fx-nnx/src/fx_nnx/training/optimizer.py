"""Optimizers: a gradient transformation together with its state."""

import functools
import operator
from typing import Any, Generic, Protocol, TypeVar

import jax
import jax.numpy as jnp

from fx_nnx.errors import ArgumentError, NnxError
from fx_nnx.filters import Filter
from fx_nnx.graph.functions import state as state_of
from fx_nnx.graph.updating import update as update_node
from fx_nnx.modules.module import Module
from fx_nnx.objects.fields import data
from fx_nnx.states.pure import as_pure
from fx_nnx.states.state import State
from fx_nnx.training.opt_state import OptState, boxed, state_in, unboxed
from fx_nnx.variables.kinds import Param
from fx_nnx.variables.variable import Variable

__all__ = ["GradientTransformation", "ModelAndOptimizer", "Optimizer"]

M = TypeVar("M")


class GradientTransformation(Protocol):
    """What an optimizer needs; those of optax are such."""

    def init(self, params: Any, /) -> Any:
        """Returns the first state for some parameters."""
        ...

    def update(self, updates: Any, state: Any, params: Any, /, **extra: Any) -> tuple[Any, Any]:
        """Converts gradients into what is added to the parameters, and give the next state."""
        ...


class Optimizer(Module, Generic[M]):
    """Keeps the state of a gradient transformation for the parameters of a model, and updates the model.

    ::

        optimizer = nnx.Optimizer(model, optax.adam(1e-3), wrt=nnx.Param)
        optimizer.update(model, grads)

    The transformation sees states of bare arrays, never variables; what it makes of them is kept in ``opt_state`` as it
    is, with each array in an `OptVariable` or `OptArray`.

    Args:
      model: whose parameters are to be trained.
      tx: a gradient transformation, such as those of optax.
      wrt: a filter for the parameters that are trained; gradients have to be taken with respect to the same.
      graph: as in `fx_nnx.split`.

    Raises:
      ArgumentError: ``tx`` is no transformation, such as ``optax.adam`` that was not called.
      NnxError: the model has no variables that match ``wrt``.
    """

    def __init__(self, model: Any, tx: GradientTransformation, *, wrt: Filter, graph: bool | None = None):
        if not hasattr(tx, "init") or not hasattr(tx, "update"):
            raise ArgumentError(
                "The optimizer needs an Optax transformation.",
                expected="an optax.GradientTransformation, such as optax.adam(1e-3)",
                got=getattr(tx, "__name__", repr(tx)),
                fix="call it: optax.adam(1e-3), not optax.adam",
            )
        self.step = OptState(jnp.zeros((), jnp.uint32))
        self.tx = tx
        self.wrt = tuple(wrt) if isinstance(wrt, list) else wrt
        self.graph = graph
        params = state_of(model, wrt, graph=graph)
        pure_params = as_pure(params)
        if not jax.tree.leaves(pure_params):
            raise NnxError(
                "The optimizer has nothing to train.",
                expected=f"a model with variables that match wrt={wrt!r}",
                got=f"a {type(model).__module__}.{type(model).__qualname__} without such",
                fix="give the model itself, initialized, with modules and variables of fx_nnx in attributes that are "
                "data; or choose other variables by `wrt`",
            )
        self.opt_state = data(boxed(tx.init(pure_params), params))

    def update(self, model: Any, grads: Any, **kwargs: Any) -> Any:
        """Changes the parameters of the model, and the state of the optimizer, in place.

        ::

            value, grads = nnx.value_and_grad(loss_fn)(model)
            value_fn = lambda params: loss_fn(nnx.merge(graphdef, params))
            optimizer.update(model, grads, value=value, grad=grads, value_fn=value_fn)   # as optax.lbfgs takes them

        Args:
          model: the model.
          grads: gradients with respect to the parameters: a state of the structure of ``nnx.state(model, wrt)``, or a
            `GraphState` or module with such. Of gradients with respect to more, those of ``wrt`` are taken.
          **kwargs: for transformations that take more, such as ``value``, ``grad`` and ``value_fn``. States and modules
            among them reach the transformation as states of bare arrays.

        Returns:
          What was added to the parameters, a state of bare arrays.

        Raises:
          NnxError: the gradients have another structure.
        """
        params = state_of(model, self.wrt, graph=self.graph)
        pure_params = as_pure(params)
        pure_grads = self._gradients(grads, jax.tree.structure(pure_params))
        extra = {name: as_pure(state_in(value, self.wrt, self.graph)) for name, value in kwargs.items()}
        updates, new = self.tx.update(pure_grads, unboxed(self.opt_state), pure_params, **extra)
        changed = jax.tree.map(lambda p, u: jnp.asarray(p + u, p.dtype), pure_params, updates)
        update_node(model, _at_paths_of(params, changed))
        self._keep(new, params)
        self.step.set_value(self.step.get_value() + 1)
        return updates

    def _gradients(self, grads: Any, expected: Any) -> Any:
        given = state_in(grads, self.wrt, self.graph)
        given = State(given) if isinstance(given, dict) else given
        found = as_pure(given)
        if jax.tree.structure(found) != expected and isinstance(given, State):
            found = as_pure(given.filter(self.wrt))
        got = jax.tree.structure(found)
        if got != expected:
            raise NnxError(
                "The gradients do not match the parameters of the optimizer.",
                expected=expected,
                got=got,
                fix="take the gradients with respect to the filter that was given to the optimizer as `wrt`",
            )
        return found

    def _keep(self, new: Any, params: Any) -> None:
        values, structure = jax.tree.flatten(new)
        boxes = jax.tree.leaves(self.opt_state, is_leaf=lambda x: isinstance(x, Variable))
        if structure != jax.tree.structure(unboxed(self.opt_state)):  # a transformation that changes its structure
            self.opt_state = data(boxed(new, params))
            return
        for box, value in zip(boxes, values, strict=True):
            box.set_raw_value(value)


class ModelAndOptimizer(Optimizer[M]):
    """An optimizer that holds its model, so that both go through transforms as one.

    Args:
      model: the model.
      tx: a gradient transformation.
      wrt: a filter for the parameters that are trained.

    Raises:
      NnxError: the model has no variables that match ``wrt``.

    >>> import optax
    >>> import jax.numpy as jnp
    >>> import fx_nnx as nnx
    >>> trained = nnx.ModelAndOptimizer(nnx.Linear(2, 1, rngs=nnx.Rngs(0)), optax.sgd(0.1))
    >>> x, before = jnp.ones((4, 2)), trained(jnp.ones((4, 2)))
    >>> gradients = nnx.grad(lambda model: model(x).sum())(trained.model)
    >>> updates = trained.update(gradients)
    >>> bool((trained(x) < before).all())
    True
    """

    def __init__(self, model: Any, tx: GradientTransformation, *, wrt: Filter = Param):
        super().__init__(model, tx, wrt=wrt)
        self.model = model

    def update(self, grads: Any, **kwargs: Any) -> Any:  # type: ignore[override]
        """Changes the parameters of the model, and the state of the optimizer, in place.

        Args:
          grads: gradients with respect to the parameters.
          **kwargs: for transformations that take more.

        Returns:
          What was added to the parameters, a state of bare arrays.

        Raises:
          NnxError: the gradients have another structure.
        """
        return super().update(self.model, grads, **kwargs)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Calls the model."""
        return self.model(*args, **kwargs)


def _at_paths_of(params: Any, values: Any) -> Any:
    """Give values by the paths of the parameters, where one whose value is a pytree has it in one piece."""
    if not isinstance(params, State):
        return values
    paths = list(params.flat_state().paths)
    return State._from_flat(paths, [functools.reduce(operator.getitem, path, values.raw_mapping) for path in paths])
