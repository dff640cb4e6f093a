"""Loss scaling for float16: gradients that would vanish are computed from a larger loss."""

import functools
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from fx_core import struct

__all__ = ["DynamicScale", "DynamicScaleResult"]

_SMALLEST_NORMAL, _LARGEST = np.finfo(np.float32).tiny, np.finfo(np.float32).max


class DynamicScaleResult(NamedTuple):
    """What `DynamicScale.value_and_grad` computes.

    Attributes:
      dynamic_scale: the scale for the next step.
      finite: bool scalar, whether all gradients are finite. When they are not, this step should change nothing.
      aux: the loss, or (loss, auxiliary output).
      grad: the gradients, unscaled, in float32 or wider.
    """

    dynamic_scale: "DynamicScale"
    finite: jax.Array
    aux: Any
    grad: Any


class DynamicScale(struct.PyTreeNode):
    """A factor for the loss that grows while gradients stay finite and shrinks when they do not.

    [Micikevicius et al., "Mixed Precision Training", 2018]

    >>> scaled = DynamicScale(scale=8.0).value_and_grad(lambda w: jnp.sum(w**2))
    >>> dynamic_scale, finite, loss, grad = scaled(jnp.array([1.0, 2.0]))
    >>> bool(finite), float(loss), grad.tolist(), float(dynamic_scale.scale)
    (True, 5.0, [2.0, 4.0], 8.0)

    It is a pytree of two scalars, so it can be a field of a train state. The loss that comes back is the function's
    own, not the scaled one divided again: it stays finite in float16 where the scaled one overflows.

    Attributes:
      growth_factor: what the scale is multiplied with when it grows.
      backoff_factor: what it is multiplied with after gradients that are not finite.
      growth_interval: after so many finite steps, the next finite one grows the scale.
      fin_steps: finite steps since the last change.
      scale: the factor; it grows up to the largest number of float32.
      minimum_scale: it never gets smaller than this; None for no bound.
    """

    growth_factor: float = struct.field(pytree_node=False, default=2.0)
    backoff_factor: float = struct.field(pytree_node=False, default=0.5)
    growth_interval: int = struct.field(pytree_node=False, default=2000)
    fin_steps: int | jax.Array = 0
    scale: float | jax.Array = 65536.0
    minimum_scale: Any = struct.field(pytree_node=False, default=_SMALLEST_NORMAL)

    def value_and_grad(
        self,
        fun: Callable[..., Any],
        argnums: int | Sequence[int] = 0,
        has_aux: bool = False,
        axis_name: Any = None,
    ) -> Callable[..., DynamicScaleResult]:
        """`jax.value_and_grad` with a scaled loss.

        Args:
          fun: gives a scalar loss, or (loss, auxiliary output).
          argnums: what to differentiate with respect to.
          has_aux: whether ``fun`` has an auxiliary output.
          axis_name: a mapped axis over which the gradients are averaged.

        Returns:
          A function of ``fun``'s arguments that gives a `DynamicScaleResult`.
        """

        @functools.wraps(fun)
        def scaled(*args: Any, **kwargs: Any) -> tuple[jax.Array, Any]:
            out = fun(*args, **kwargs)
            loss = out[0] if has_aux else out
            return loss * jnp.asarray(self.scale, jnp.result_type(loss)), out

        gradient = jax.grad(scaled, argnums, has_aux=True)

        def compute(*args: Any, **kwargs: Any) -> DynamicScaleResult:
            grads, out = gradient(*args, **kwargs)
            grads = jax.tree.map(self._unscaled, grads)
            if axis_name is not None:
                grads = jax.lax.pmean(grads, axis_name)
            finite = all_finite(grads)
            return DynamicScaleResult(self.after(finite), finite, out, grads)

        return compute

    def _unscaled(self, grad: jax.Array) -> jax.Array:
        dtype = jnp.promote_types(grad.dtype, jnp.float32)
        return grad.astype(dtype) / jnp.asarray(self.scale, dtype)

    def after(self, finite: jax.Array) -> "DynamicScale":
        """Returns the scale after a step whose gradients were finite, or not."""
        scale = jnp.asarray(self.scale, jnp.float32)
        grow = self.fin_steps == self.growth_interval
        larger = jnp.where(grow, jnp.minimum(scale * self.growth_factor, _LARGEST), scale)
        smaller = scale * self.backoff_factor
        if self.minimum_scale is not None:
            smaller = jnp.maximum(smaller, self.minimum_scale)
        fin_steps = jnp.where(grow | ~finite, 0, self.fin_steps + 1)
        return self.replace(fin_steps=fin_steps, scale=jnp.where(finite, larger, smaller))


def all_finite(tree: Any) -> jax.Array:
    """Returns whether every number of a tree is finite, a bool scalar."""
    flags = [jnp.all(jnp.isfinite(leaf)) for leaf in jax.tree.leaves(tree)]
    return functools.reduce(jnp.logical_and, flags, jnp.array(True))
