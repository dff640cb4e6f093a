"""Linear maps of a scope."""

from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from fx_core.ops import linear
from fx_core.ops.dtypes import promote_dtype
from fx_core.ops.initializers import default_bias_init, default_kernel_init
from fx_core.ops.inputs import features_of
from fx_core.ops.params import Initializer, ParamSpec
from fx_core.scope import Scope
from fx_core.typing import Dtype, PrecisionLike

__all__ = ["dense", "dense_general", "kernel_and_bias"]

Axes = int | Sequence[int]


def dense(
    scope: Scope,
    inputs: jax.Array,
    features: int,
    bias: bool = True,
    dtype: Dtype | None = None,
    precision: PrecisionLike = None,
    kernel_init: Initializer = default_kernel_init,
    bias_init: Initializer = default_bias_init,
    *,
    param_dtype: Dtype = jnp.float32,
) -> jax.Array:
    """Applies a linear map over the last axis, see `fx_linen.Dense`.

    Args:
      scope: gets ``kernel`` (in, features) and ``bias`` (features,).
      inputs: shape ``(..., in)``.
      features: size of the last axis of the result.
      bias: whether to add a bias.
      dtype: dtype of the computation (default: inferred from inputs and parameters).
      precision: see `jax.lax.Precision`.
      kernel_init: initializer for the kernel.
      bias_init: initializer for the bias.
      param_dtype: dtype of the parameters.

    Returns:
      An array of shape ``(..., features)``.
    """
    specs = linear.dense_params(features_of(inputs), features, bias)
    inputs, *params = promote_dtype(
        inputs, *kernel_and_bias(scope, specs, param_dtype, kernel_init, bias_init), dtype=dtype
    )
    return linear.dense(inputs, *params, precision=precision)


def dense_general(
    scope: Scope,
    inputs: jax.Array,
    features: Axes,
    axis: Axes = -1,
    batch_dims: Sequence[int] = (),
    bias: bool = True,
    dtype: Dtype | None = None,
    kernel_init: Initializer = default_kernel_init,
    bias_init: Initializer = default_bias_init,
    precision: PrecisionLike = None,
    *,
    param_dtype: Dtype = jnp.float32,
) -> jax.Array:
    """Applies a linear map over any axes, see `fx_linen.DenseGeneral`.

    Args:
      scope: gets ``kernel`` and ``bias``.
      inputs: any shape that has the axes.
      features: sizes of the new axes, which come last.
      axis: axes of the input to contract.
      batch_dims: leading axes that have a kernel and bias each.
      bias: whether to add a bias.
      dtype: dtype of the computation (default: inferred from inputs and parameters).
      kernel_init: initializer for the kernel, which it sees as a matrix.
      bias_init: initializer for the bias.
      precision: see `jax.lax.Precision`.
      param_dtype: dtype of the parameters.

    Returns:
      An array of shape ``(*batch, *other_axes, *features)``.
    """
    shape = jnp.shape(inputs)
    plan = linear.plan_dense_general(len(shape), features, axis, batch_dims)
    batch, contracted = [shape[i] for i in plan.batch_dims], [shape[i] for i in plan.axis]
    specs = linear.dense_general_params(batch, contracted, plan.features, bias, kernel_init, bias_init)
    inits = (specs["kernel"].init, specs["bias"].init if bias else bias_init)
    inputs, *params = promote_dtype(inputs, *kernel_and_bias(scope, specs, param_dtype, *inits), dtype=dtype)
    return linear.dense_general(plan, inputs, *params, precision=precision)


def kernel_and_bias(
    scope: Scope, specs: Mapping[str, ParamSpec], dtype: Dtype, kernel_init: Initializer, bias_init: Initializer
) -> list[Any]:
    """Returns the two parameters, None for a bias that the layer does not have."""
    inits = {"kernel": kernel_init, "bias": bias_init}
    return [
        scope.param(name, init, specs[name].shape, dtype) if name in specs else None for name, init in inits.items()
    ]
