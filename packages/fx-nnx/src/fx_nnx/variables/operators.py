"""The operators of variables: a variable computes like its value."""

import math
import operator
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from fx_core.errors import UnsupportedOperationError

from fx_nnx.variables.writing import own_container

__all__ = ["ValueOperators"]

_BINARY = {
    "add": operator.add,
    "sub": operator.sub,
    "mul": operator.mul,
    "matmul": operator.matmul,
    "truediv": operator.truediv,
    "floordiv": operator.floordiv,
    "mod": operator.mod,
    "pow": operator.pow,
    "lshift": operator.lshift,
    "rshift": operator.rshift,
    "and": operator.and_,
    "xor": operator.xor,
    "or": operator.or_,
    "divmod": divmod,
}
_COMPARE = {"eq": operator.eq, "ne": operator.ne, "lt": operator.lt, "le": operator.le, "gt": operator.gt}
_COMPARE["ge"] = operator.ge
_UNARY: dict[str, Callable[[Any], Any]] = {
    "neg": operator.neg,
    "pos": operator.pos,
    "abs": abs,
    "invert": operator.invert,
    "len": len,
    "bool": bool,
    "int": int,
    "float": float,
    "complex": complex,
    "index": operator.index,
    "iter": iter,
    "reversed": reversed,
    "trunc": math.trunc,
    "floor": math.floor,
    "ceil": math.ceil,
}
_IN_PLACE = {
    "add": "+=",
    "sub": "-=",
    "mul": "*=",
    "matmul": "@=",
    "truediv": "/=",
    "floordiv": "//=",
    "mod": "%=",
    "pow": "**=",
    "lshift": "<<=",
    "rshift": ">>=",
    "and": "&=",
    "xor": "^=",
    "or": "|=",
}


class ValueOperators:
    """Adds the operators of an array, and its items, to a class with methods ``get_value`` and ``set_value``."""

    __slots__ = ()

    def get_value(self, *, index: Any = ...) -> Any:
        """Returns the value that the operators apply to."""
        raise TypeError(f"{type(self).__name__} has no value")

    def set_value(self, value: Any, *, index: Any = ...) -> None:
        """Puts in a value."""
        raise TypeError(f"{type(self).__name__} has no value")

    def __getitem__(self, index: Any) -> Any:
        return self.get_value(index=index)

    def __setitem__(self, index: Any, value: Any) -> None:
        self.set_value(value, index=index)

    def __delitem__(self, index: Any) -> None:
        value = own_container(self.get_value())
        del value[index]
        self.set_value(value)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Calls the value, if that is a function or a module."""
        return self.get_value()(*args, **kwargs)

    def __contains__(self, item: Any) -> bool:
        return item in self.get_value()

    def __jax_array__(self) -> jax.Array:
        return jnp.asarray(self.get_value())

    def __array__(self, *args: Any, **kwargs: Any) -> Any:
        value = jax.device_get(self.get_value())
        return (value if hasattr(value, "__array__") else np.asarray(value)).__array__(*args, **kwargs)

    __array_priority__ = 1000


def _value(x: Any) -> Any:
    return x.get_value() if isinstance(x, ValueOperators) else x


def _binary(function: Callable[[Any, Any], Any]) -> Callable[[Any, Any], Any]:
    return lambda self, other: function(self.get_value(), _value(other))


def _reflected(function: Callable[[Any, Any], Any]) -> Callable[[Any, Any], Any]:
    return lambda self, other: function(_value(other), self.get_value())


def _unary(function: Callable[[Any], Any]) -> Callable[[Any], Any]:
    return lambda self: function(self.get_value())


def _in_place(symbol: str) -> Callable[[Any, Any], Any]:
    def refuse(self: Any, other: Any) -> Any:
        raise UnsupportedOperationError(
            f"{type(self).__name__} does not support the in-place operator {symbol!r}.",
            fix=f"write variable[...] {symbol} value",
        )

    return refuse


def _install() -> None:
    for name, function in _BINARY.items():
        setattr(ValueOperators, f"__{name}__", _binary(function))
        setattr(ValueOperators, f"__r{name}__", _reflected(function))
    for name, function in _COMPARE.items():
        setattr(ValueOperators, f"__{name}__", _binary(function))
    for name, function in _UNARY.items():
        setattr(ValueOperators, f"__{name}__", _unary(function))
    for name, symbol in _IN_PLACE.items():
        setattr(ValueOperators, f"__i{name}__", _in_place(symbol))
    ValueOperators.__round__ = lambda self, digits=0: round(self.get_value(), digits)  # type: ignore[attr-defined]


_install()
