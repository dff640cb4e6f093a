"""The kinds of variables that layers use."""

from typing import TypeVar

from fx_nnx.variables.variable import Variable

__all__ = ["BatchStat", "Cache", "Intermediate", "Param", "Perturbation"]

A = TypeVar("A")


class Param(Variable[A]):
    """A weight: what an optimizer changes."""

    __slots__ = ()


class BatchStat(Variable[A]):
    """A running statistic, such as the mean in batch normalisation."""

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
