"""Products in eight-bit floating point, to be plugged into layers, and functions for those who scale by themselves.

The arithmetic of the layers is in `fx_core.ops.lowp`.
"""

from typing import Any, ClassVar

import jax
import jax.numpy as jnp
from fx_core.compat.jax import einsum_with
from fx_core.ops.lowp import (
    OVERWRITE_WITH_GRADIENT,
    Fp8Format,
    Fp8State,
    fp8_dot_general,
    fp8_state,
    next_history,
)
from fx_core.typing import Dtype, PrecisionLike

from fx_linen.module import Module, compact, nowrap

__all__ = [
    "Fp8DirectDotGeneralOp",
    "Fp8DotGeneral",
    "Fp8DotGeneralOp",
    "Fp8Einsum",
    "NANOOFp8DotGeneralOp",
    "compute_amax_history",
    "compute_scale",
    "dequantize",
    "get_fp8_max",
    "qdq",
    "quantize",
]


class _Fp8Op(Module):
    amax_history_length: int = 1024
    e4m3_dtype: Any = jnp.float8_e4m3fn
    e5m2_dtype: Any = jnp.float8_e5m2

    direct: ClassVar[bool] = True

    @nowrap
    def _scaling(self) -> tuple[Fp8State, Fp8Format]:
        """The scales and histories, which are made here the first time."""
        specs = fp8_state(self.amax_history_length)
        values = {
            name: self.variable(OVERWRITE_WITH_GRADIENT, name, spec.init, None, spec.shape, jnp.float32).value
            for name, spec in specs.items()
        }
        return Fp8State(**values), Fp8Format(self.e4m3_dtype, self.e5m2_dtype, self.direct)


class Fp8DirectDotGeneralOp(_Fp8Op):
    """`jax.lax.dot_general` on eight-bit numbers, for layers that take a ``dot_general_cls``.

    Micikevicius et al., FP8 Formats for Deep Learning, 2022. The scales live in the collection
    ``_overwrite_with_gradient``: their gradients are their new values. The train state of fx-train knows this, given
    ``params={"params": …, "_overwrite_with_gradient": …}``.

    Attributes:
      amax_history_length: number of past steps whose maxima a scale is computed from.
      e4m3_dtype: format of the operands.
      e5m2_dtype: format of the gradient of the product.

    >>> import jax, jax.numpy as jnp, fx_linen as nn
    >>> layer = nn.Dense(4, dot_general_cls=nn.Fp8DirectDotGeneralOp)
    >>> y, variables = layer.init_with_output(jax.random.key(0), jnp.ones((2, 3)))
    >>> sorted(variables["_overwrite_with_gradient"]["Fp8DirectDotGeneralOp_0"])[:2]
    ['input_amax_history', 'input_scale']
    """

    @compact
    def __call__(
        self,
        lhs: jax.Array,
        rhs: jax.Array,
        dimension_numbers: Any,
        precision: PrecisionLike = None,
        preferred_element_type: Dtype | None = None,
    ) -> jax.Array:
        """Multiplies.

        Args:
          lhs: the input.
          rhs: the kernel.
          dimension_numbers: see `jax.lax.dot_general`.
          precision: no effect: eight bits are what they are.
          preferred_element_type: no effect.

        Returns:
          The product in the dtype of ``rhs``.

        Raises:
          ArgumentError: the history has no entry.
        """
        return fp8_dot_general(lhs, rhs, dimension_numbers, *self._scaling())


Fp8DotGeneral = Fp8DirectDotGeneralOp  # as in checkpoints of Flax, where states of both have the same name


class Fp8DotGeneralOp(Fp8DirectDotGeneralOp):
    """A product of operands that are rounded to eight bits, computed in their own dtype.

    For compilers that turn this pattern into an eight-bit product by themselves, and to see what eight bits would do on
    hardware without them. Otherwise like `Fp8DirectDotGeneralOp`.

    Attributes:
      amax_history_length: number of past steps whose maxima a scale is computed from.
      e4m3_dtype: format of the operands.
      e5m2_dtype: format of the gradient of the product.

    >>> import jax, jax.numpy as jnp
    >>> import fx_linen as nn
    >>> layer = nn.Dense(4, dot_general_cls=nn.Fp8DotGeneralOp)
    >>> variables = layer.init(jax.random.key(0), jnp.ones((2, 3)))
    >>> layer.apply(variables, jnp.ones((2, 3))).dtype
    dtype('float32')
    """

    direct: ClassVar[bool] = False


class NANOOFp8DotGeneralOp(Fp8DotGeneralOp):
    """`Fp8DotGeneralOp` in the formats without negative zero and infinities that some accelerators have.

    Attributes:
      amax_history_length: number of past steps whose maxima a scale is computed from.
      e4m3_dtype: format of the operands.
      e5m2_dtype: format of the gradient of the product.

    >>> import jax, jax.numpy as jnp
    >>> import fx_linen as nn
    >>> nn.NANOOFp8DotGeneralOp().e4m3_dtype is jnp.float8_e4m3fnuz
    True
    """

    e4m3_dtype: Any = jnp.float8_e4m3fnuz
    e5m2_dtype: Any = jnp.float8_e5m2fnuz


class Fp8Einsum(_Fp8Op):
    """`jax.numpy.einsum` of two operands on eight-bit numbers; see `Fp8DirectDotGeneralOp`.

    Attributes:
      amax_history_length: number of past steps whose maxima a scale is computed from.
      e4m3_dtype: format of the operands.
      e5m2_dtype: format of the gradient of the product.

    >>> import jax, jax.numpy as jnp, fx_linen as nn
    >>> y, _ = nn.Fp8Einsum().init_with_output(jax.random.key(0), "ab,bc->ca", jnp.ones((2, 3)), jnp.ones((3, 4)))
    >>> y.shape
    (4, 2)
    """

    @compact
    def __call__(
        self,
        eqn: str,
        lhs: jax.Array,
        rhs: jax.Array,
        precision: PrecisionLike = None,
        preferred_element_type: Dtype | None = None,
    ) -> jax.Array:
        """Computes the sums of products.

        Args:
          eqn: such as ``"abc,cd->abd"``.
          lhs: the first operand.
          rhs: the second operand.
          precision: no effect on the product.
          preferred_element_type: dtype of the result.

        Returns:
          What the equation says.

        Raises:
          ArgumentError: the history has no entry.
        """
        state, formats = self._scaling()

        def dot(lhs: jax.Array, rhs: jax.Array, dims: Any, *_: Any, **options: Any) -> jax.Array:
            dtype = options.get("preferred_element_type")
            return fp8_dot_general(lhs, rhs, dims, state, formats, preferred_element_type=dtype)

        options = {"precision": precision, "preferred_element_type": preferred_element_type}
        return einsum_with(dot, **options)(eqn, jnp.asarray(lhs, rhs.dtype), rhs)


def get_fp8_max(fp8_dtype: Any, out_dtype: Dtype) -> jax.Array:
    """Returns the largest number of a format as a number of another dtype."""
    return jnp.finfo(fp8_dtype).max.astype(out_dtype)


def quantize(x: jax.Array, q_dtype: Any, scale: jax.Array, compute_dtype: Any) -> jax.Array:
    """Divides by a scale and rounds to a format; what is too large becomes its largest number.

    Args:
      x: any shape.
      q_dtype: the format.
      scale: broadcasts to ``x``.
      compute_dtype: dtype of the scale and of the largest number in the computation.

    >>> import jax.numpy as jnp
    >>> import fx_linen as nn
    >>> x = jnp.array([1.1, 1000.0])
    >>> nn.fp8_ops.qdq(x, jnp.float8_e4m3fn, jnp.array([2.0]), jnp.float32)
    Array([  1.125, 896.   ], dtype=float32)
    """
    largest = get_fp8_max(q_dtype, compute_dtype)
    scaled = x / jnp.broadcast_to(scale.astype(compute_dtype), x.shape)
    return jnp.clip(scaled, -largest, largest).astype(q_dtype)


def dequantize(x: jax.Array, dq_dtype: Any, scale: jax.Array) -> jax.Array:
    """Undoes `quantize`, up to rounding, in the dtype given."""
    return x.astype(dq_dtype) * jnp.broadcast_to(scale.astype(dq_dtype), x.shape)


def qdq(x: jax.Array, q_dtype: Any, scale: jax.Array, compute_dtype: Any) -> jax.Array:
    """Rounds to the numbers of a format; the dtype stays. The arguments are those of `quantize`."""
    return dequantize(quantize(x, q_dtype, scale, compute_dtype), x.dtype, scale)


def compute_scale(amax: jax.Array, scale: jax.Array, fp8_max: Any, margin: int = 0) -> jax.Array:
    """Returns the scale with which ``amax`` becomes the largest number of a format.

    Args:
      amax: the largest magnitude; where it is 0 or not finite, the scale stays.
      scale: the last one.
      fp8_max: the largest number, see `get_fp8_max`.
      margin: powers of two to leave above.
    """
    usable = (amax > 0.0) & jnp.isfinite(amax)
    return 1.0 / jnp.where(usable, fp8_max / amax / 2**margin, 1.0 / scale)


def compute_amax_history(x: jax.Array, amax_history: jax.Array) -> jax.Array:
    """Takes the largest magnitude of an array into a history: it stands first, the oldest drops out."""
    return next_history(x, amax_history)
