"""Exponential moving averages of parameters."""

from typing import Any, TypeVar

import jax
import jax.numpy as jnp
from fx_core.typing import Dtype

from fx_nnx.errors import NnxError
from fx_nnx.filters import Filter
from fx_nnx.graph.functions import merge, split, state
from fx_nnx.modules.module import Module
from fx_nnx.objects.fields import data
from fx_nnx.paths import show_path
from fx_nnx.states.pure import merge_state
from fx_nnx.states.state import State
from fx_nnx.variables.variable import Variable

__all__ = ["EMA"]

A = TypeVar("A")


class EMA(Module):
    """The exponential moving average of variables: ``average = decay * average + (1 - decay) * new``.

    Polyak & Juditsky, Acceleration of Stochastic Approximation by Averaging, 1992, with weights that fade.

    Averages of numbers narrower than float32 are kept in float32: what a step adds is less than their rounding.

    >>> import jax.numpy as jnp
    >>> import fx_nnx as nnx
    >>> model = nnx.Linear(1, 1, rngs=nnx.Rngs(0))
    >>> model.kernel[...] = jnp.ones((1, 1))
    >>> ema = EMA(model, 0.75, only=nnx.Param)
    >>> model.kernel[...] = jnp.zeros((1, 1))
    >>> ema.update(model)
    >>> ema.apply_to(model).kernel[...], model.kernel[...]
    (Array([[0.75]], dtype=float32), Array([[0.]], dtype=float32))

    Args:
      params: a model, or a state of one, whose values the average starts with.
      decay: weight of the old average.
      only: which variables are averaged.
      graph: as in `fx_nnx.split`.
      dtype: in which averages are kept; None for that of the variable, float32 at least.

    Raises:
      NnxError: something that is no variable was to be averaged.
    """

    def __init__(
        self, params: Any, decay: float, *, only: Filter = ..., graph: bool | None = None, dtype: Dtype | None = None
    ):
        self.decay, self.filter, self.graph = decay, tuple(only) if isinstance(only, list) else only, graph
        copies = [(path, variable.copy()) for path, variable in self._chosen(params)]
        for _, variable in copies:
            variable.set_raw_value(jax.tree.map(lambda x: _widened(x, dtype), variable.get_raw_value()))
        self.params = data(State.from_flat_path(copies))

    def update(self, updates: Any) -> None:
        """Moves the averages.

        Args:
          updates: the model, or a state of the same variables.

        Raises:
          NnxError: the variables are not those that are averaged.
        """
        new, own = dict(self._chosen(updates)), dict(self.params.flat_state())
        if new.keys() != own.keys():
            path = next(iter(new.keys() ^ own.keys()))
            raise _ema_structure(
                "The variables are not those that are averaged.",
                path=show_path(path),
                expected=f"{len(own)} variables, as the average was made of",
                got=f"{len(new)} variables; only one side has {show_path(path)}",
            )
        for path, average in own.items():
            value = jax.tree.map(self._moved, average.get_raw_value(), new[path].get_raw_value())
            average.set_raw_value(value)

    def apply_to(self, model: A) -> A:
        """Returns a view of a model that has the averages in place of its variables, and its other variables as they
        are.

        It has the very variables of this object and of the model, so that it follows later updates. Averages that are
        wider than the variable they stand for stay so.
        """
        graphdef, own = split(model, graph=self.graph)
        return merge(graphdef, merge_state(own, self.params))

    def _moved(self, average: Any, new: Any) -> Any:
        if not _is_inexact(average):  # keys and counts have no average
            return new
        moved = self.decay * _widened(average, None) + (1 - self.decay) * _widened(new, None)
        return jnp.asarray(moved, average.dtype)

    def _chosen(self, tree: Any) -> list[tuple[Any, Variable[Any]]]:
        found: list[tuple[Any, Any]] = list(state(tree, self.filter, graph=self.graph).flat_state())
        for path, leaf in found:
            if not isinstance(leaf, Variable):
                raise _ema_structure(
                    "Only variables can be averaged.",
                    path=show_path(path),
                    expected="a Variable",
                    got=type(leaf).__name__,
                )
        return found


def _is_inexact(x: Any) -> bool:
    return bool(jnp.issubdtype(jnp.result_type(x), jnp.inexact))


def _widened(x: Any, dtype: Dtype | None) -> Any:
    return jnp.asarray(x, dtype or jnp.promote_types(x.dtype, jnp.float32)) if _is_inexact(x) else x


def _ema_structure(what: str, *, path: str | None = None, expected: Any = None, got: Any = None) -> NnxError:
    return NnxError(
        what,
        path=path,
        expected=expected,
        got=got,
        fix="update with the model, or a state of it, that the average was made of; choose variables by only=...",
    )
