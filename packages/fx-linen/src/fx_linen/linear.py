"""Linear layers and embeddings. The arithmetic is in `fx_core.ops.linear` and `fx_core.ops.embed`."""

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from fx_core.ops import embed, linear
from fx_core.ops.dtypes import promote_dtype
from fx_core.ops.initializers import default_bias_init, default_embed_init, default_kernel_init
from fx_core.ops.inputs import features_of
from fx_core.ops.params import Initializer
from fx_core.typing import Dtype, PrecisionLike

from fx_linen.module import Module, compact, merge_param

__all__ = ["Dense", "DenseGeneral", "Einsum", "Embed"]


class Dense(Module):
    """Linear map over the last axis: ``inputs @ kernel + bias``.

    Attributes:
      features: size of the last axis of the result.
      use_bias: whether to add a bias.
      dtype: dtype of the computation (default: inferred from inputs and parameters).
      param_dtype: dtype of the parameters ``kernel`` (in, features) and ``bias`` (features,).
      precision: of the multiplication, see `jax.lax.Precision`.
      kernel_init: initializer for the kernel.
      bias_init: initializer for the bias.
      promote_dtype: brings inputs and parameters to one dtype.
      dot_general: replaces `jax.lax.dot_general`.
      dot_general_cls: a module or function that makes such a replacement; wins over ``dot_general``.

    >>> import jax, jax.numpy as jnp, fx_linen as nn
    >>> variables = nn.Dense(4).init(jax.random.key(0), jnp.ones((2, 3)))
    >>> jax.tree.map(jnp.shape, variables)
    {'params': {'bias': (4,), 'kernel': (3, 4)}}
    """

    features: int
    use_bias: bool = True
    dtype: Dtype | None = None
    param_dtype: Dtype = jnp.float32
    precision: PrecisionLike = None
    kernel_init: Initializer = default_kernel_init
    bias_init: Initializer = default_bias_init
    promote_dtype: Callable[..., Any] = promote_dtype
    dot_general: Callable[..., jax.Array] | None = None
    dot_general_cls: Any = None

    @compact
    def __call__(self, inputs: jax.Array) -> jax.Array:
        """Applies the map.

        Args:
          inputs: shape ``(..., in)``.

        Returns:
          An array of shape ``(..., features)``.
        """
        shapes = linear.dense_params(features_of(inputs), self.features, self.use_bias)
        kernel = self.param("kernel", self.kernel_init, shapes["kernel"].shape, self.param_dtype)
        bias = self.param("bias", self.bias_init, shapes["bias"].shape, self.param_dtype) if self.use_bias else None
        inputs, kernel, bias = self.promote_dtype(inputs, kernel, bias, dtype=self.dtype)
        return linear.dense(
            inputs,
            kernel,
            bias,
            precision=self.precision,
            dot_general=_replacement(self.dot_general, self.dot_general_cls),
        )


class DenseGeneral(Module):
    """Linear map over any axes.

    Attributes:
      features: sizes of the new axes, which come last.
      axis: axes of the input to contract.
      batch_dims: leading axes that have a kernel and bias each.
      use_bias: whether to add a bias.
      dtype: dtype of the computation (default: inferred from inputs and parameters).
      param_dtype: dtype of ``kernel`` ``(*batch, *axis, *features)`` and ``bias`` ``(*batch, *features)``.
      kernel_init: initializer for the kernel, which it sees as a matrix.
      bias_init: initializer for the bias, which it sees as a vector.
      precision: of the multiplication, see `jax.lax.Precision`.
      promote_dtype: brings inputs and parameters to one dtype.
      dot_general: replaces `jax.lax.dot_general`.
      dot_general_cls: a module or function that makes such a replacement; wins over ``dot_general``.

    >>> import jax, jax.numpy as jnp, fx_linen as nn
    >>> layer = nn.DenseGeneral(features=(4, 5), axis=(1, -1))
    >>> variables = layer.init(jax.random.key(0), jnp.ones((1, 3, 7, 2)))
    >>> jax.tree.map(jnp.shape, variables)
    {'params': {'bias': (4, 5), 'kernel': (3, 2, 4, 5)}}
    """

    features: int | Sequence[int]
    axis: int | Sequence[int] = -1
    batch_dims: Sequence[int] = ()
    use_bias: bool = True
    dtype: Dtype | None = None
    param_dtype: Dtype = jnp.float32
    kernel_init: Initializer = default_kernel_init
    bias_init: Initializer = default_bias_init
    precision: PrecisionLike = None
    promote_dtype: Callable[..., Any] = promote_dtype
    dot_general: Callable[..., jax.Array] | None = None
    dot_general_cls: Any = None

    @compact
    def __call__(self, inputs: jax.Array) -> jax.Array:
        """Applies the map.

        Args:
          inputs: any shape that has the axes.

        Returns:
          An array of shape ``(*batch, *other_axes, *features)``.

        Raises:
          ShapeMismatchError: an axis is outside the input, or named twice.
          ArgumentError: the batch dimensions are not the leading ones.
        """
        shape = jnp.shape(inputs)
        plan = linear.plan_dense_general(len(shape), self.features, self.axis, self.batch_dims)
        batch, contracted = [shape[i] for i in plan.batch_dims], [shape[i] for i in plan.axis]
        specs = linear.dense_general_params(
            batch, contracted, plan.features, self.use_bias, self.kernel_init, self.bias_init
        )
        kernel = self.param("kernel", specs["kernel"].init, specs["kernel"].shape, self.param_dtype)
        bias = None
        if self.use_bias:
            bias = self.param("bias", specs["bias"].init, specs["bias"].shape, self.param_dtype)
        inputs, kernel, bias = self.promote_dtype(inputs, kernel, bias, dtype=self.dtype)
        return linear.dense_general(
            plan,
            inputs,
            kernel,
            bias,
            precision=self.precision,
            dot_general=_replacement(self.dot_general, self.dot_general_cls),
        )


class Einsum(Module):
    """Linear map by an einsum equation of input and kernel.

    Attributes:
      shape: of the kernel.
      einsum_str: the equation, such as ``"abc,cd->abd"``; None to give it in the call.
      use_bias: whether to add a bias, which has those dimensions of the result that the kernel has.
      dtype: dtype of the computation (default: inferred from inputs and parameters).
      param_dtype: dtype of the parameters ``kernel`` and ``bias``.
      precision: of the multiplication, see `jax.lax.Precision`.
      kernel_init: initializer for the kernel.
      bias_init: initializer for the bias.
      promote_dtype: brings inputs and parameters to one dtype.
      preferred_element_type: dtype to accumulate in.

    >>> import jax, jax.numpy as jnp, fx_linen as nn
    >>> variables = nn.Einsum((3, 4, 5), "abc,cde->abde").init(jax.random.key(0), jnp.ones((1, 2, 3)))
    >>> jax.tree.map(jnp.shape, variables)
    {'params': {'bias': (4, 5), 'kernel': (3, 4, 5)}}
    """

    shape: Sequence[int]
    einsum_str: str | None = None
    use_bias: bool = True
    dtype: Dtype | None = None
    param_dtype: Dtype = jnp.float32
    precision: PrecisionLike = None
    kernel_init: Initializer = default_kernel_init
    bias_init: Initializer = default_bias_init
    promote_dtype: Callable[..., Any] = promote_dtype
    preferred_element_type: Any = None

    @compact
    def __call__(self, inputs: jax.Array, einsum_str: str | None = None) -> jax.Array:
        """Applies the map.

        Args:
          inputs: the first operand.
          einsum_str: the equation, if the constructor did not get it.

        Returns:
          What the equation says.

        Raises:
          ArgumentError: the equation is not one of two operands with a result.
        """
        equation = merge_param("einsum_str", self.einsum_str, einsum_str)
        plan = linear.plan_einsum(equation, jnp.ndim(inputs), len(self.shape))
        specs = linear.einsum_params(self.shape, [self.shape[i] for i in plan.bias_dims] if self.use_bias else None)
        kernel = self.param("kernel", self.kernel_init, specs["kernel"].shape, self.param_dtype)
        bias = self.param("bias", self.bias_init, specs["bias"].shape, self.param_dtype) if self.use_bias else None
        inputs, kernel, bias = self.promote_dtype(inputs, kernel, bias, dtype=self.dtype)
        return linear.einsum(
            plan,
            inputs,
            kernel,
            bias,
            precision=self.precision,
            preferred_element_type=self.preferred_element_type,
        )


class Embed(Module):
    """Vectors for integers, looked up in the parameter ``embedding`` (num_embeddings, features).

    Attributes:
      num_embeddings: number of vectors.
      features: their size.
      dtype: of the result; None for that of the embedding.
      param_dtype: dtype of the embedding.
      embedding_init: initializer for the embedding.
      promote_dtype: brings the arrays to one dtype.

    >>> import jax, jax.numpy as jnp, fx_linen as nn
    >>> vectors, variables = nn.Embed(10, 4).init_with_output(jax.random.key(0), jnp.array([[1, 2, 3]]))
    >>> vectors.shape
    (1, 3, 4)
    """

    num_embeddings: int
    features: int
    dtype: Dtype | None = None
    param_dtype: Dtype = jnp.float32
    embedding_init: Initializer = default_embed_init
    promote_dtype: Callable[..., Any] = promote_dtype

    def setup(self) -> None:
        """Creates the embedding, which both methods use."""
        shape = embed.embed_params(self.num_embeddings, self.features)["embedding"].shape
        self.embedding = self.param("embedding", self.embedding_init, shape, self.param_dtype)

    def __call__(self, inputs: jax.Array) -> jax.Array:
        """Looks vectors up. An index outside the table gives NaN.

        Args:
          inputs: integers of any shape.

        Returns:
          An array of shape ``(*inputs.shape, features)``.

        Raises:
          DtypeError: the inputs are not integers.
        """
        (embedding,) = self.promote_dtype(self.embedding, dtype=self.dtype, inexact=False)
        return embed.lookup(embedding, jnp.asarray(inputs))

    def attend(self, query: jax.Array) -> jax.Array:
        """Compares vectors with all rows of the embedding, as an output layer that shares its weights.

        Args:
          query: shape ``(..., features)``.

        Returns:
          Inner products, shape ``(..., num_embeddings)``.
        """
        query, embedding = self.promote_dtype(query, self.embedding, dtype=self.dtype)
        return embed.attend(query, embedding)


def _replacement(function: Callable[..., jax.Array] | None, maker: Any) -> Callable[..., jax.Array] | None:
    return function if maker is None else maker()
