"""The kinds of variables that layers use."""

from typing import Any, TypeVar

from fx_nnx.variables.variable import Variable

__all__ = ["BatchStat", "Cache", "HijaxVariable", "Intermediate", "Loss", "Observer", "Param", "Perturbation"]

A = TypeVar("A")


class Param(Variable[A]):
    """A weight: what an optimizer changes.

    >>> import fx_nnx as nnx
    >>> param = nnx.Param(2.0)
    >>> param.set_value(param * 3)
    >>> param.get_value()
    6.0
    """

    __slots__ = ()


class BatchStat(Variable[A]):
    """A running statistic, such as the mean in batch normalization.

    >>> import fx_nnx as nnx
    >>> sorted(nnx.state(nnx.BatchNorm(2, rngs=nnx.Rngs(0)), nnx.BatchStat))
    ['mean', 'var']
    """

    __slots__ = ()


class Cache(Variable[A]):
    """Keys, values and position of autoregressive decoding.

    >>> import fx_nnx as nnx
    >>> attention = nnx.MultiHeadAttention(num_heads=1, in_features=2, decode=True, rngs=nnx.Rngs(0))
    >>> attention.init_cache((1, 4, 2))
    >>> sorted(nnx.state(attention, nnx.Cache))
    ['cache_index', 'cached_key', 'cached_value']
    """

    __slots__ = ()


class Intermediate(Variable[A]):
    """A value sown on the way, to look at.

    >>> import fx_nnx as nnx
    >>> class Square(nnx.Module):
    ...     def __call__(self, x):
    ...         self.sow(nnx.Intermediate, "input", x)
    ...         return x * x
    >>> model = Square()
    >>> y = model(3.0)
    >>> nnx.pop(model, nnx.Intermediate)["input"].get_value()
    (3.0,)
    """

    __slots__ = ()


class Loss(Intermediate[A]):
    """An auxiliary loss that a layer stores on the way, to be added to that of the model.

    >>> import fx_nnx as nnx
    >>> import jax.numpy as jnp
    >>> class Sparse(nnx.Module):
    ...     def __call__(self, x):
    ...         self.sow(nnx.Loss, "sparsity", jnp.abs(x).sum())
    ...         return x
    >>> model = Sparse()
    >>> _ = model(jnp.ones(3))
    >>> nnx.pop(model, nnx.Loss)["sparsity"][...]
    (Array(3., dtype=float32),)
    """

    __slots__ = ()


class Observer(Variable[A]):
    """The range of what a weight is multiplied with, which `fx_compress` learns: see ``fx_compress.with_observers``.

    >>> import fx_nnx as nnx
    >>> nnx.Observer(0.0).get_value()
    0.0
    """

    __slots__ = ()


class Perturbation(Intermediate[A]):
    """A zero that is added to an activation, so that its gradient is the activation's.

    >>> import jax.numpy as jnp
    >>> import fx_nnx as nnx
    >>> class Square(nnx.Module):
    ...     def __call__(self, x):
    ...         x = self.perturb("input", x)
    ...         return x * x
    >>> model = Square()
    >>> y = model(jnp.full((), 3.0))
    >>> loss = lambda model: model(jnp.full((), 3.0))
    >>> float(nnx.grad(loss, argnums=nnx.DiffState(0, nnx.Perturbation))(model)["input"].get_value())
    6.0
    """

    __slots__ = ()


class _WithHijax(type):
    def __instancecheck__(cls, instance: Any) -> bool:
        return isinstance(instance, Variable) and bool(instance.hijax)


class HijaxVariable(metaclass=_WithHijax):
    """What `isinstance` finds any variable with ``hijax=True`` to be, as programs written for Flax ask.

    Such a variable has its own type all the same.

    >>> param = Param(1.0, hijax=True)
    >>> isinstance(param, HijaxVariable), isinstance(Param(1.0), HijaxVariable), type(param).__name__
    (True, False, 'Param')
    """
