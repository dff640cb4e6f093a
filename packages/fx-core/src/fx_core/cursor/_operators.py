"""Python's operators on cursors: they compute with the values that the cursors stand for."""

import math
import operator
from collections.abc import Callable
from typing import Any


def value_of(x: Any) -> Any:
    """Returns what a cursor stands for, changes included; other things as they are."""
    return x.build() if isinstance(x, Operators) else x


def _unary(fn: Callable[..., Any]) -> Callable[..., Any]:
    return lambda self, *args: fn(value_of(self), *args)


def _binary(fn: Callable[..., Any]) -> Callable[..., Any]:
    return lambda self, other, *args: fn(value_of(self), value_of(other), *args)


def _reflected(fn: Callable[..., Any]) -> Callable[..., Any]:
    return lambda self, other, *args: fn(value_of(other), value_of(self), *args)


class Operators:
    """Gives a class with ``build()`` the operators of what it builds."""

    build: Callable[[], Any]

    __neg__, __pos__, __invert__ = _unary(operator.neg), _unary(operator.pos), _unary(operator.invert)
    __abs__, __round__ = _unary(abs), _unary(round)
    __int__, __float__, __index__ = _unary(int), _unary(float), _unary(operator.index)
    __trunc__, __floor__, __ceil__ = _unary(math.trunc), _unary(math.floor), _unary(math.ceil)
    __bool__, __len__, __str__ = _unary(bool), _unary(len), _unary(str)

    __add__, __radd__ = _binary(operator.add), _reflected(operator.add)
    __sub__, __rsub__ = _binary(operator.sub), _reflected(operator.sub)
    __mul__, __rmul__ = _binary(operator.mul), _reflected(operator.mul)
    __matmul__, __rmatmul__ = _binary(operator.matmul), _reflected(operator.matmul)
    __truediv__, __rtruediv__ = _binary(operator.truediv), _reflected(operator.truediv)
    __floordiv__, __rfloordiv__ = _binary(operator.floordiv), _reflected(operator.floordiv)
    __mod__, __rmod__ = _binary(operator.mod), _reflected(operator.mod)
    __divmod__, __rdivmod__ = _binary(divmod), _reflected(divmod)
    __pow__, __rpow__ = _binary(pow), _reflected(pow)
    __lshift__, __rlshift__ = _binary(operator.lshift), _reflected(operator.lshift)
    __rshift__, __rrshift__ = _binary(operator.rshift), _reflected(operator.rshift)
    __and__, __rand__ = _binary(operator.and_), _reflected(operator.and_)
    __or__, __ror__ = _binary(operator.or_), _reflected(operator.or_)
    __xor__, __rxor__ = _binary(operator.xor), _reflected(operator.xor)

    __eq__, __ne__ = _binary(operator.eq), _binary(operator.ne)
    __lt__, __le__ = _binary(operator.lt), _binary(operator.le)
    __gt__, __ge__ = _binary(operator.gt), _binary(operator.ge)
    __contains__ = _binary(operator.contains)
    __hash__ = None  # type: ignore[assignment]  # equal to what changes
