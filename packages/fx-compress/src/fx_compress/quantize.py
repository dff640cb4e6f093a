"""Quantizing models by rules, and back."""

from collections.abc import Mapping
from typing import Any

import jax
import numpy as np
from fx_core.array_node import ArrayNode

from fx_compress.array import QuantizedArray
from fx_compress.awq import awq
from fx_compress.calibration import Statistics, input_scale
from fx_compress.errors import CalibrationError
from fx_compress.gptq import gptq
from fx_compress.parameters import Parameter, map_parameters
from fx_compress.rules import Rule, choose
from fx_compress.schemes import Scheme

__all__ = ["dequantize", "quantize"]


def quantize(model: Any, rules: Any, *, calibration: Mapping[str, Statistics] | None = None) -> Any:
    """Quantizes the weights of a model.

    Args:
      model: variables of a Linen module, an NNX module or state, a train state, or any pytree of arrays.
      rules: a `Scheme` for all weights; a dict from path patterns to schemes (None leaves what it matches); or a list
        of `Rule`. The first that matches wins. Only float arrays of two dimensions at least, that are parameters, are
        looked at.
      calibration: what `calibrate` found, for static activations and for ``rounding="gptq"`` and ``"awq"``.

    Returns:
      A model of the same kind, whose chosen weights are `QuantizedArray`. One array is in both forms at a time.

    Raises:
      RuleError: a rule matches nothing.
      SchemeError: a scheme does not fit its parameter.
      CalibrationError: a scheme needs statistics that are not there.

    >>> import fx_compress, jax.numpy as jnp
    >>> variables = {"params": {"Dense_0": {"kernel": jnp.ones((8, 4)), "bias": jnp.ones(4)}}}
    >>> small = fx_compress.quantize(variables, {"*/kernel": fx_compress.int8()})
    >>> small["params"]["Dense_0"]["kernel"].nbytes, small["params"]["Dense_0"]["bias"].nbytes
    (48, 16)
    """
    chosen = choose(model, rules, Scheme)

    def replace(parameter: Parameter) -> Any:
        rule = chosen.get(parameter.path)
        return parameter.value if rule is None else _quantized(parameter, rule, calibration)

    return map_parameters(replace, model)


def dequantize(model: Any) -> Any:
    """Returns a model of the same kind with plain arrays in place of array-like parameters.

    >>> import fx_compress, jax.numpy as jnp
    >>> fx_compress.dequantize(fx_compress.quantize({"kernel": jnp.eye(2)}, fx_compress.int8()))
    {'kernel': Array([[1., 0.],
           [0., 1.]], dtype=float32)}
    """
    return map_parameters(lambda p: p.value.materialize() if isinstance(p.value, ArrayNode) else p.value, model)


def _quantized(
    parameter: Parameter, rule: Rule[Scheme], calibration: Mapping[str, Statistics] | None
) -> QuantizedArray:
    scheme, axes = rule.what, rule.contracted(parameter)
    assert scheme is not None
    if scheme.activations != "static" and scheme.rounding == "nearest":
        return _round_to_nearest(scheme, parameter, axes, None)
    if calibration is None or parameter.path not in calibration:
        raise CalibrationError(
            "There are no statistics of the inputs of this parameter.",
            path=parameter.path,
            expected="statistics from calibrate(fn, model, batches, rules)",
            got=None if calibration is None else f"statistics of {', '.join(list(calibration)[:5]) or 'nothing'}",
            fix="calibrate with the same rules, on batches that reach this layer, and pass calibration=",
        )
    statistics = calibration[parameter.path]
    layers = list(np.ndindex(*parameter.value.shape[: rule.stacked]))
    if sorted(statistics) != layers:
        raise CalibrationError(
            "The statistics are not those of the layers of this parameter.",
            path=parameter.path,
            expected=f"inputs of {len(layers)} layers, as stacked={rule.stacked} of the rule says",
            got=f"inputs of the layers {', '.join(map(str, sorted(statistics)))}",
            fix="calibrate with the rules that quantize is given, on batches that reach every layer",
        )
    static = scheme.activations == "static"
    scale = input_scale(scheme, statistics, rule.stacked, parameter.path) if static else None
    if scheme.rounding == "awq":
        return awq(scheme, parameter, axes, rule.stacked, statistics)
    if scheme.rounding == "gptq":
        return gptq(scheme, parameter, axes, rule.stacked, statistics, scale)
    return _round_to_nearest(scheme, parameter, axes, scale)


def _round_to_nearest(
    scheme: Scheme, parameter: Parameter, axes: tuple[int, ...], scale: jax.Array | None
) -> QuantizedArray:
    return scheme.quantize(parameter.value, axes, input_scale=scale, path=parameter.path)
