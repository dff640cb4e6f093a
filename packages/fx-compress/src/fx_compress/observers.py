"""Ranges of activations as gradients: for parameters of any kind, in a training step that takes parameters alone."""

import functools
from typing import Any

import jax
import jax.numpy as jnp
from fx_core import struct
from fx_core.typing import Dtype, PrecisionLike
from jax import lax

from fx_compress.errors import CalibrationError
from fx_compress.held import Held
from fx_compress.parameters import parameters
from fx_compress.rules import choose
from fx_compress.schemes import Scheme
from fx_compress.straight import input_steps

__all__ = ["Observed", "observers", "range_of"]


@struct.dataclass
class Observed(Held):
    """A float weight that multiplies inputs which are rounded by the range that its observer knows.

    The gradient of the observer is its new value, as for low-precision layers: see
    `fx_core.ops.lowp.OVERWRITE_WITH_GRADIENT`.

    Attributes:
      array: the weight, rounded already.
      seen: float32 ``(2,)``: moving averages of the largest magnitude of inputs, added up over the uses of the weight,
        and the number of uses; zeros before the first. A sum or a mean of gradients over uses, examples or devices
        leaves their ratio a range.
      momentum: weight of what it was.
    """

    array: jax.Array
    seen: jax.Array
    momentum: float = struct.field(pytree_node=False)

    def dot_general(
        self,
        lhs: jax.Array,
        dimension_numbers: lax.DotDimensionNumbers,
        precision: PrecisionLike = None,
        preferred_element_type: Dtype | None = None,
        **options: Any,
    ) -> jax.Array:
        """Contracts inputs, rounded by their range."""
        lhs = _rounded(lhs, self.seen, self.momentum)
        return super().dot_general(lhs, dimension_numbers, precision, preferred_element_type, **options)

    def conv_general_dilated(self, lhs: jax.Array, *args: Any, **options: Any) -> jax.Array:
        """Convolves an image, rounded by its range."""
        return super().conv_general_dilated(_rounded(lhs, self.seen, self.momentum), *args, **options)


def observers(model: Any, rules: Any) -> dict[str, jax.Array]:
    """Creates an observer for each weight whose rule has static activations, for `fx_compress.quantization_aware`.

    Args:
      model: as for `fx_compress.quantize`.
      rules: as for `fx_compress.quantize`.

    Returns:
      float32 zeros by path, of shape ``(*stacked layers, 2)``: a range and a number of uses; see `ranges`.

    Raises:
      RuleError: a rule matches nothing.
      CalibrationError: no rule has static activations.

    >>> import fx_compress, jax.numpy as jnp
    >>> list(fx_compress.observers({"kernel": jnp.ones((2, 2))}, fx_compress.int8(activations="static")))
    ['kernel']
    """
    chosen, made = choose(model, rules, Scheme), {}
    for parameter in parameters(model):
        rule = chosen.get(parameter.path)
        if rule is not None and rule.what is not None and rule.what.activations == "static":
            made[parameter.path] = jnp.zeros((*parameter.value.shape[: rule.stacked], 2), jnp.float32)
    if not made:
        raise CalibrationError(
            "Nothing is to be observed.",
            expected='a rule with activations="static"',
            got=rules,
            fix="weights alone, and dynamic activations, are trained for without observers",
        )
    return made


def range_of(seen: jax.Array) -> jax.Array:
    """Returns the range that an observer knows; 0 where it saw nothing."""
    uses = seen[..., 1]
    return jnp.where(uses > 0, seen[..., 0] / jnp.where(uses > 0, uses, 1), 0.0)


@functools.partial(jax.custom_vjp, nondiff_argnums=(2,))
def _rounded(x: jax.Array, seen: jax.Array, momentum: float) -> jax.Array:
    return _forward(x, seen, momentum)[0]


def _forward(x: jax.Array, seen: jax.Array, momentum: float) -> tuple[jax.Array, Any]:
    wide, largest = x.astype(jnp.float32), range_of(seen)
    now = jnp.abs(wide).max()
    known = jnp.where(largest > 0, largest, now)
    scale = input_steps(known)
    rounded = (jnp.clip(jnp.round(wide / scale), -127, 127) * scale).astype(x.dtype)
    new = jnp.where(largest > 0, momentum * largest + (1 - momentum) * now, now)
    return rounded, (jnp.abs(wide) <= 127.5 * scale, jnp.stack([new, jnp.ones_like(new)]))


def _backward(momentum: float, kept: Any, gradient: jax.Array) -> tuple[jax.Array, jax.Array]:
    inside, new = kept
    # What was cut off does not change with its input.
    return jnp.where(inside, gradient, jnp.zeros((), gradient.dtype)), new


_rounded.defvjp(_forward, _backward)
