"""What layers share: making parameters, promoting dtypes, and errors that say where the layer is."""

import functools
import inspect
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Concatenate, ParamSpec, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
from fx_core.array_node import ArrayNode
from fx_core.errors import ArgumentTypeError, FxError, ShapeMismatchError
from fx_core.errors.ops import layer_size
from fx_core.layers import Cell
from fx_core.ops import dtypes
from fx_core.ops.initializers.fixed import draws_nothing
from fx_core.typing import Dtype

from fx_nnx.locate import path_of
from fx_nnx.rngs.rngs import Rngs
from fx_nnx.rngs.stream import RngStream
from fx_nnx.variables.kinds import Param
from fx_nnx.variables.names import variable_name_from_type
from fx_nnx.variables.variable import Variable

__all__ = [
    "as_array",
    "check_features",
    "fetch",
    "keep_arguments",
    "located",
    "make_param",
    "promote_dtype",
    "set_options",
    "value_of",
]

Promotion = Callable[..., Any]
P = ParamSpec("P")
R = TypeVar("R")
Layer = TypeVar("Layer")


def located(call: Callable[Concatenate[Layer, P], R]) -> Callable[Concatenate[Layer, P], R]:
    """Creates the errors of a layer's call say where the layer is, also those of the mathematics that it calls."""

    @functools.wraps(call)
    def located_call(self: Layer, *args: P.args, **kwargs: P.kwargs) -> R:
        try:
            return call(self, *args, **kwargs)
        except FxError as error:
            path = error.path or ""
            # A layer inside a transform is a copy that nobody holds: then the outer layer knows more.
            if "/" not in path:
                kind, found = type(self).__name__, path_of(self)
                if path in ("", kind):
                    error.locate(found or kind)
                elif not path.startswith(f"{kind}:"):
                    error.locate(f"{found or kind}: {path}")
            raise

    return located_call


def keep_arguments(layer: Any, cls: type, arguments: Mapping[str, Any]) -> None:
    """Sets the attributes that ``cls`` declares with a type, in its body or its bases, to the arguments of their names.

    Args:
      layer: instance of ``cls``.
      cls: the class whose initializer it is.
      arguments: what the initializer was called with: its ``locals()``.
    """
    declared = _declared(cls)
    for name, value in arguments.items():
        if name in declared:
            setattr(layer, name, value)


@functools.cache
def _declared(cls: type) -> frozenset[str]:
    return frozenset(name for base in cls.__mro__ for name in inspect.get_annotations(base))


def promote_dtype(args: Any, /, *, dtype: Dtype | None = None, inexact: bool = True) -> tuple[Any, ...]:
    """Returns some arrays in one dtype; see `fx_core.ops.dtypes.promote_dtype`.

    Args:
      args: arrays, scalars, or None, which stays None.
      dtype: the wanted dtype; by default what the arrays promote to.
      inexact: whether integers become floating point.

    >>> import jax.numpy as jnp
    >>> [x.dtype.name for x in promote_dtype((jnp.ones(1, jnp.bfloat16), jnp.ones(1)))]
    ['float32', 'float32']
    """
    return tuple(dtypes.promote_dtype(*args, dtype=dtype, inexact=inexact))


def make_param(
    rngs: Rngs, init: Callable[..., Any], shape: tuple[int, ...], dtype: Dtype, metadata: Mapping[str, Any]
) -> Param[Any]:
    """Draws a parameter with the next key of the stream ``params``.

    Raises:
      ArgumentTypeError: ``rngs`` are no streams.
      ArgumentError: the sizes are no numbers that a shape can have.
    """
    if not all(isinstance(size, int | np.integer) and size >= 0 for size in shape):
        raise layer_size(shape)
    if not isinstance(rngs, Rngs) and not hasattr(rngs, "params"):
        raise ArgumentTypeError(
            "A layer initializes its parameters with keys of RNG streams.",
            expected="rngs=nnx.Rngs(seed)",
            got=f"{type(rngs).__name__}: {rngs!r}",
            fix="make one Rngs, and hand it to all layers",
        )
    stream = rngs.params
    if isinstance(stream, RngStream) and draws_nothing(init):
        return Param(init(stream._pass_key(), shape, dtype), **metadata)
    return Param(init(stream(), shape, dtype), **metadata)


def value_of(weight: Any) -> Any:
    """Returns the array that a layer computes with: the value of a variable, or what was assigned in its place.

    That may be an array, a node that stands in for one (see `fx_core.ops`), or None, for a parameter that the layer has
    not.
    """
    if isinstance(weight, Variable):
        return weight.get_value()
    if weight is None or isinstance(weight, jax.Array | ArrayNode):
        return weight
    # What others put here may hold its array as a variable does, and give it when it is indexed as one.
    return weight[...] if hasattr(weight, "__getitem__") else weight


def fetch(layer: Any, name: str) -> Any:
    """Returns the array that a layer computes with for a parameter of its own; see `value_of`.

    A node that stands in for an array may read and write a variable of the layer beside it: see
    `fx_core.array_node.ArrayNode.fetched`.
    """
    value = value_of(getattr(layer, name))
    return value.fetched(functools.partial(_beside, layer, name)) if isinstance(value, ArrayNode) else value


def _beside(layer: Any, name: str, collection: str, suffix: str, init: Callable[[], Any]) -> Cell | None:
    variable = getattr(layer, f"{name}_{suffix}", None)
    if not isinstance(variable, Variable) or variable_name_from_type(type(variable)) != collection:
        return None
    return Cell(variable.get_value, variable.set_value)


def set_options(**options: Any) -> dict[str, Any]:
    """Returns the options that are not None."""
    return {name: value for name, value in options.items() if value is not None}


def check_features(
    layer: Any, features: int, inputs: Any, what: str = "input", axis: int | Sequence[int] = -1
) -> jax.Array:
    """Compares an axis (or several, together) of an input with what the weights of a layer take.

    Callers give the size that the weights have now: in a `jax.shard_map` a shard of them meets a shard of the input.

    Returns:
      The input; lists of numbers become arrays.

    Raises:
      ShapeMismatchError: they differ; it says where the layer is.
    """
    if not hasattr(inputs, "shape"):
        inputs = as_array(layer, inputs, what)
    shape = inputs.shape
    if axis == -1 and shape and shape[-1] == features:  # most often
        return inputs
    axes = (axis,) if isinstance(axis, int) else axis
    if any(not -len(shape) <= a < len(shape) for a in axes) or math.prod([shape[a] for a in axes]) != features:
        raise _layer_input(type(layer).__name__, path_of(layer), features, shape, what=what, axis=axis)
    return inputs


def as_array(layer: Any, inputs: Any, what: str = "input") -> jax.Array:
    """Creates an array of a list of numbers.

    Raises:
      ShapeMismatchError: it is something else.
    """
    if hasattr(inputs, "shape"):
        return inputs
    if isinstance(inputs, int | float | complex | Sequence) and not isinstance(inputs, str | bytes):
        try:
            return jnp.asarray(inputs)
        except (TypeError, ValueError):
            pass
    raise _layer_input(type(layer).__name__, path_of(layer), None, None, what=what, got=inputs)


def _layer_input(
    layer: str,
    path: str | None,
    expected: int | None,
    shape: Sequence[int] | None,
    *,
    what: str = "input",
    axis: int | Sequence[int] = -1,
    got: Any = None,
) -> ShapeMismatchError:
    if shape is None:
        problem, wanted, got = "is no array", "an array of numbers", type(got).__name__
        fix = f"make the {what} an array (jnp.asarray)"
    else:
        where = f"axis {axis}" if isinstance(axis, int) else f"axes {tuple(axis)}"
        problem = "does not have the features that the layer was made for"
        wanted = f"{expected} features in {'the last axis' if axis == -1 else where}"
        got = f"shape {tuple(shape)}"
        fix = f"give the {what} {expected} features, or make the layer for those that it has"
    return ShapeMismatchError(f"{layer}: the {what} {problem}.", path=path or layer, expected=wanted, got=got, fix=fix)
