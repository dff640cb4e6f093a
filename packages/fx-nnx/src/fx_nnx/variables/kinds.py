"""The kinds of variables that layers use."""

from typing import Any, TypeVar

from fx_nnx.variables.variable import Variable

__all__ = ["BatchStat", "Cache", "HijaxVariable", "Intermediate", "Param", "Perturbation"]

A = TypeVar("A")


class Param(Variable[A]):
    """A weight: what an optimizer changes."""

    __slots__ = ()


class BatchStat(Variable[A]):
    """A running statistic, such as the mean in batch normalization."""

    __slots__ = ()


class Cache(Variable[A]):
    """Keys, values and position of autoregressive decoding."""

    __slots__ = ()


class Intermediate(Variable[A]):
    """A value sown on the way, to look at."""

    __slots__ = ()


class Perturbation(Intermediate[A]):
    """A zero that is added to an activation, so that its gradient is the activation's."""

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
