"""Normalizations of weights: by their length, and by their largest singular value."""

from collections.abc import Sequence

import jax
from jax import lax

from fx_core.errors.ops import invalid_axes

__all__ = ["l2_normalize", "spectral_norm", "weight_axes", "weight_norm"]


def l2_normalize(x: jax.Array, axes: Sequence[int] | None = None, epsilon: float = 1e-12) -> jax.Array:
    """Divides by the Euclidean length over some axes.

    Args:
      x: any shape.
      axes: axes that the length is taken over; None for all.
      epsilon: added to the square of the length.

    Returns:
      An array like ``x``.

    >>> import jax.numpy as jnp
    >>> l2_normalize(jnp.array([3.0, 4.0]))
    Array([0.6, 0.8], dtype=float32)
    """
    axis = None if axes is None else tuple(axes)
    return x * lax.rsqrt((x * x).sum(axis, keepdims=True) + epsilon)


def spectral_norm(weight: jax.Array, u: jax.Array, n_steps: int, epsilon: float = 1e-12) -> tuple[jax.Array, jax.Array]:
    """Estimates the largest singular value by power iteration.

    Miyato et al., *Spectral Normalization for Generative Adversarial Networks*, 2018. The singular vectors get no
    gradient.

    Args:
      weight: two dimensions at least; all but the last are taken as one, the rows of a matrix.
      u: ``(1, columns)``, the estimate of the right singular vector so far.
      n_steps: number of iterations, one at least.
      epsilon: keeps vectors of zeros from becoming NaN.

    Returns:
      The new ``u``, and the singular value, a scalar.
    """
    matrix = weight.reshape(-1, weight.shape[-1])
    v = u
    for _ in range(n_steps):
        v = l2_normalize(u @ matrix.T, None, epsilon)
        u = l2_normalize(v @ matrix, None, epsilon)
    u, v = lax.stop_gradient(u), lax.stop_gradient(v)
    return u, (v @ matrix @ u.T)[0, 0]


def weight_axes(ndim: int, feature_axes: int | Sequence[int] | None) -> tuple[int, ...]:
    """Returns the feature axes of a weight, counted from the front, in order.

    Args:
      ndim: number of dimensions.
      feature_axes: axes, negative ones from the end; None for none.

    Raises:
      ShapeMismatchError: a weight of so many dimensions lacks an axis.
    """
    if feature_axes is None:
        return ()
    axes = (feature_axes,) if isinstance(feature_axes, int) else feature_axes
    if not all(-ndim <= axis < ndim for axis in axes):
        raise invalid_axes("feature_axes", axes, ndim)
    return tuple(sorted({axis % ndim for axis in axes}))


def weight_norm(
    weight: jax.Array, scale: jax.Array | None, feature_axes: Sequence[int], epsilon: float = 1e-12
) -> jax.Array:
    """Scales the weights of each feature to the length ``scale``.

    Salimans and Kingma, *Weight Normalization*, 2016.

    Args:
      weight: any shape.
      scale: of the shape of the feature axes; None for the length one.
      feature_axes: as `weight_axes` gives them.
      epsilon: added to the square of the length.

    Returns:
      An array like ``weight``.

    >>> import jax.numpy as jnp
    >>> weight_norm(jnp.array([[3.0, 0.0], [4.0, 2.0]]), jnp.array([1.0, 10.0]), (1,))
    Array([[ 0.6,  0. ],
           [ 0.8, 10. ]], dtype=float32)
    """
    rest = [axis for axis in range(weight.ndim) if axis not in feature_axes]
    weight = l2_normalize(weight, rest, epsilon)
    if scale is None:
        return weight
    shape = [weight.shape[axis] if axis in feature_axes else 1 for axis in range(weight.ndim)]
    return weight * scale.reshape(shape)
