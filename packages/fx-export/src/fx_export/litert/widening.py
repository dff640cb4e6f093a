"""Programs as the converter of LiteRT takes them.

16-bit floats are computed in 32 bits, as LiteRT has operators for those only. Of transposed convolutions with uneven
padding, such as those of a 3 x 3 kernel with strides of 2, the converter makes others; they become a padded input and a
usual convolution.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from fx_core.compat.jax import located
from fx_core.typing import Dtype

_HALVES = (jnp.bfloat16, jnp.float16)
_CALLS = {"jit", "pjit", "closed_call", "core_call", "checkpoint", "remat2", "custom_jvp_call", "custom_vjp_call"}
_LOOPS = {"scan", "while", "cond"}


def widened(fn: Callable[..., Any]) -> Callable[..., Any]:
    """Returns a function of variables and inputs with bfloat16 and float16 computed in float32; borders stay as they
    are. See the top of this file for transposed convolutions.

    Args:
      fn: a pure function of arrays.
    """

    def wide(variables: Any, *inputs: Any) -> Any:
        closed, out = jax.make_jaxpr(fn, return_shape=True)(variables, *inputs)
        results = _evaluated(closed, [_wide(leaf) for leaf in jax.tree.leaves((variables, inputs))])
        wanted, treedef = jax.tree.flatten(out)
        return jax.tree.unflatten(treedef, [_as(result, spec.dtype) for result, spec in zip(results, wanted)])

    return wide


def _is_half(dtype: Dtype) -> bool:
    return any(dtype == half for half in _HALVES)


def _as(value: Any, dtype: Dtype) -> Any:
    return value if value.dtype == dtype else jnp.asarray(value).astype(dtype)


def _wide(value: Any) -> Any:
    value = value if hasattr(value, "dtype") else np.asarray(value)
    return _as(value, jnp.float32) if _is_half(value.dtype) else value


def _evaluated(closed: Any, args: Sequence[Any]) -> list[Any]:
    jaxpr = getattr(closed, "jaxpr", closed)
    known = dict(zip(jaxpr.constvars, map(_wide, getattr(closed, "consts", ()))))
    known.update(zip(jaxpr.invars, args))

    def read(var: Any) -> Any:
        return _wide(var.val) if hasattr(var, "val") else known[var]

    for eqn in jaxpr.eqns:
        with located(eqn):  # the converter's errors name the lines of the model
            results = _computed(eqn, [read(var) for var in eqn.invars])
        known.update(zip(eqn.outvars, results))
    return [read(var) for var in jaxpr.outvars]


def _computed(eqn: Any, args: Sequence[Any]) -> Sequence[Any]:
    name = eqn.primitive.name
    if name in _CALLS:
        return _evaluated(eqn.params.get("jaxpr", eqn.params.get("call_jaxpr")), args)
    if name == "bitcast_convert_type":
        # Bits are those of the narrow numbers.
        args = [_as(arg, var.aval.dtype) for arg, var in zip(args, eqn.invars)]
        return [_wide(eqn.primitive.bind(*args, **eqn.params))]
    params: Mapping[str, Any] = eqn.params
    if name == "conv_general_dilated":
        args, params = _padded(args[0], args[1], params)
    convert = _wide_program if name in _LOOPS else lambda jaxpr: jaxpr
    params = {key: _wide_parameter(value, convert) for key, value in params.items()}
    results = eqn.primitive.bind(*args, **params)
    return results if eqn.primitive.multiple_results else [results]


def _padded(x: Any, kernel: Any, params: Mapping[str, Any]) -> tuple[list[Any], Mapping[str, Any]]:
    """Arguments and parameters of a convolution, with an input that has uneven padding around its dilated elements."""
    padding, dilation = params["padding"], params["lhs_dilation"]
    if set(dilation) == {1} or all(low == high for low, high in padding):
        return [x, kernel], params
    spatial = dict(zip(params["dimension_numbers"].lhs_spec[2:], zip(padding, dilation)))
    around = [spatial.get(axis, ((0, 0), 1)) for axis in range(x.ndim)]
    x = jax.lax.pad(x, np.zeros((), x.dtype), [(low, high, step - 1) for (low, high), step in around])
    return [x, kernel], {**params, "padding": ((0, 0),) * len(spatial), "lhs_dilation": (1,) * len(spatial)}


def _wide_parameter(value: Any, convert: Callable[[Any], Any]) -> Any:
    if isinstance(value, tuple):
        # A named tuple, such as dimension numbers, holds neither.
        return tuple(_wide_parameter(part, convert) for part in value) if type(value) is tuple else value
    if hasattr(value, "eqns") or hasattr(value, "jaxpr"):
        return convert(value)
    is_dtype = isinstance(value, np.dtype) or (isinstance(value, type) and issubclass(value, np.generic))
    return np.dtype("float32") if is_dtype and _is_half(value) else value


def _wide_program(closed: Any) -> Any:
    specs = [jax.ShapeDtypeStruct(var.aval.shape, var.aval.dtype) for var in closed.jaxpr.invars]
    wide = [jax.ShapeDtypeStruct(s.shape, jnp.float32) if _is_half(s.dtype) else s for s in specs]
    return jax.make_jaxpr(lambda *args: _evaluated(closed, args))(*wide)
