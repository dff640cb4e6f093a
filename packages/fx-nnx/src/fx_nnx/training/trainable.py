"""Which variables are trained: a mark on frozen ones, and one filter that respects it everywhere.

::

    nnx.freeze(model, nnx.PathContains("encoder"))

    wrt = nnx.Trainable()
    optimizer = nnx.Optimizer(model, optax.adam(1e-3), wrt=wrt)
    grads = nnx.grad(loss_fn, argnums=nnx.DiffState(0, wrt))(model)
    optimizer.update(model, grads)
    small_checkpoint = nnx.state(model, wrt)
"""

from typing import Any

from fx_nnx.filters import Filter, StructuralFilter, to_predicate
from fx_nnx.graph.functions import state
from fx_nnx.variables.kinds import Param
from fx_nnx.variables.variable import Variable

__all__ = ["Trainable", "freeze", "unfreeze"]

_MARK = "trainable"


class Trainable(StructuralFilter):
    """Matches the variables that are trained: those of a kind that were not frozen, see `freeze`.

    It is a filter like any other, for `fx_nnx.split` and `fx_nnx.state`, as ``wrt`` of an `fx_nnx.Optimizer`, and in
    `fx_nnx.DiffState`, so that one filter says for all of them what is trained.

    >>> import fx_nnx as nnx
    >>> layer = nnx.Linear(2, 3, rngs=nnx.Rngs(0))
    >>> freeze(layer, lambda path, variable: path[-1] == "kernel")
    >>> list(state(layer, Trainable()))
    ['bias']

    Args:
      filter: which variables may be trained, by default all of `fx_nnx.Param`; ``Trainable(nnx.LoRAParam)`` are those
        of adapters.
    """

    __slots__ = ()

    def __init__(self, filter: Filter = Param, /):
        self._arguments = (to_predicate(filter),)

    def __call__(self, path: tuple[Any, ...], x: Any) -> bool:
        """Returns whether the value at the path is trained."""
        return self._arguments[0](path, x) and _mark_of(x)

    @property
    def parts(self) -> tuple[Any, ...]:
        """The filter inside."""
        return self._arguments


def freeze(model: Any, *filters: Filter) -> None:
    """Marks variables as not to be trained, in their metadata ``trainable``; `Trainable` then leaves them out.

    Args:
      model: a module, or anything that can be split.
      *filters: which variables; by default all of `fx_nnx.Param`.

    >>> import fx_nnx as nnx
    >>> layer = nnx.LoRALinear(2, 3, lora_rank=1, rngs=nnx.Rngs(0))
    >>> freeze(layer, nnx.All(Param, nnx.Not(nnx.LoRAParam)))  # fine-tune the adapter only
    >>> list(state(layer, Trainable()))
    ['lora']
    """
    _set(model, filters, False)


def unfreeze(model: Any, *filters: Filter) -> None:
    """Lets variables be trained again; see `freeze`.

    Args:
      model: a module, or anything that can be split.
      *filters: which variables; by default all of `fx_nnx.Param`.

    >>> import fx_nnx as nnx
    >>> layer = nnx.Linear(2, 3, rngs=nnx.Rngs(0))
    >>> nnx.freeze(layer)
    >>> nnx.unfreeze(layer, nnx.PathContains("bias"))
    >>> list(nnx.state(layer, nnx.Trainable()))
    ['bias']
    """
    _set(model, filters, True)


def _set(model: Any, filters: tuple[Filter, ...], trained: bool) -> None:
    found = state(model, list(filters) or Param)
    for _, variable in found.flat_state():
        if isinstance(variable, Variable) and _mark_of(variable) != trained:
            if trained:
                variable.del_metadata(_MARK)
            else:
                variable.set_metadata(_MARK, False)


def _mark_of(x: Any) -> bool:
    return x.get_metadata(_MARK, True) if isinstance(x, Variable) else getattr(x, _MARK, True) is not False
