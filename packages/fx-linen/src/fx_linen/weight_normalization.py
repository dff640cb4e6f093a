"""Layers that normalize the weights of another layer. The arithmetic is in `fx_core.ops.norm`."""

from collections.abc import Iterable, Sequence
from dataclasses import field
from typing import Any

import jax
import jax.numpy as jnp
from fx_core.array_node import array_of, is_array_node
from fx_core.errors.ops import non_matrix_weight
from fx_core.ops.dtypes import canonicalize_dtype
from fx_core.ops.initializers import ones
from fx_core.ops.norm.weights import spectral_norm, weight_axes, weight_norm
from fx_core.ops.params import Initializer
from fx_core.scope import Variable
from fx_core.typing import Dtype

from fx_linen.module import Module, compact, nowrap
from fx_linen.transforms import map_variables

__all__ = ["SpectralNorm", "WeightNorm"]

# Where variables exist before `init`, weights are normalized twice in one call; what belongs to them is made once.
Estimates = dict[str, tuple[Variable[Any], Variable[Any], jax.Array]]


def _name(module: Module, path: Sequence[Any]) -> str:
    """Layer and path of a weight, with slashes."""
    keys = [getattr(entry, "key", getattr(entry, "name", entry)) for entry in path[1:]]
    return "/".join([str(module.name), *map(str, keys)])


def _stored_name(module: Module, collection: str, weight: str, name: str) -> str:
    """The name of what belongs to a weight: as it was stored, where the weight's box with partition names is gone."""
    boxed = f"{weight}/value/{name}"
    return boxed if module.has_variable(collection, boxed) else f"{weight}/{name}"


class SpectralNorm(Module):
    """Divide the weights of a layer by their largest singular value.

    Miyato et al., *Spectral Normalization for Generative Adversarial Networks*, 2018. Weights of less than two
    dimensions stay as they are. For each of the others there is an estimate of the singular vector, ``u``, and of the
    singular value, ``sigma``; they improve with each call that updates them.

    Attributes:
      layer_instance: the layer, or any other module.
      n_steps: power iterations per call.
      epsilon: keeps vectors of zeros from becoming NaN.
      dtype: of the normalized weights; None keeps theirs.
      param_dtype: of ``u`` and ``sigma``.
      error_on_non_matrix: whether weights of more than two dimensions are an error; else all dimensions but the last
        are taken as one.
      collection_name: where ``u`` and ``sigma`` live: make it mutable when training.

    >>> import jax, jax.numpy as jnp, fx_linen as nn
    >>> layer = nn.SpectralNorm(nn.Dense(4), n_steps=20)
    >>> variables = layer.init(jax.random.key(0), jnp.ones((1, 3)), update_stats=True)
    >>> kernel = variables["params"]["layer_instance"]["kernel"]
    >>> bool(abs(jnp.linalg.norm(kernel, 2) - 1) < 1e-3)
    True
    """

    layer_instance: Module
    n_steps: int = 1
    epsilon: float = 1e-12
    dtype: Dtype | None = None
    param_dtype: Dtype = jnp.float32
    error_on_non_matrix: bool = False
    collection_name: str = "batch_stats"

    @compact
    def __call__(self, *args: Any, update_stats: bool, **kwargs: Any) -> Any:
        """Calls the layer with normalized weights.

        Args:
          *args: arguments of the layer.
          update_stats: whether the estimates of this call are stored, for the next one to go on from; so when training.
          **kwargs: more arguments of the layer.

        Returns:
          What the layer returns.

        Raises:
          ShapeMismatchError: a weight has more than two dimensions, and ``error_on_non_matrix`` is set.
        """

        known: Estimates = {}

        def normalized(variables: Any) -> Any:
            def one(path: Sequence[Any], weight: jax.Array) -> jax.Array:
                return self._normalized(_name(self.layer_instance, path), weight, known, update_stats)

            return jax.tree_util.tree_map_with_path(one, variables, is_leaf=is_array_node)

        def forward(layer: Any) -> Any:
            return layer(*args, **kwargs)

        mapped = map_variables(forward, "params", normalized, init=self.is_initializing(), mutable=True)
        return mapped(self.layer_instance)

    @nowrap
    def _normalized(self, name: str, weight: jax.Array, known: Estimates, update_stats: bool) -> jax.Array:
        if weight.ndim < 2:
            return weight
        weight = array_of(weight)
        if weight.ndim > 2 and self.error_on_non_matrix:
            raise non_matrix_weight(name, weight.shape)
        if name not in known:
            known[name] = self._estimate(name, weight)
        u, sigma, before = known[name]
        new, value = spectral_norm(weight, before, self.n_steps, self.epsilon)
        if update_stats:
            u.value, sigma.value = new, value
        return (weight / jnp.where(value != 0, value, 1)).astype(
            canonicalize_dtype(weight, new, value, dtype=self.dtype)
        )

    @nowrap
    def _estimate(self, name: str, weight: jax.Array) -> tuple[Variable[Any], Variable[Any], jax.Array]:
        def first() -> jax.Array:
            return jax.random.normal(self.make_rng("params"), (1, weight.shape[-1]), self.param_dtype)

        collection = self.collection_name
        u = self.variable(collection, _stored_name(self, collection, name, "u"), first)
        sigma_name = _stored_name(self, collection, name, "sigma")
        sigma = self.variable(collection, sigma_name, jnp.ones, (), self.param_dtype)
        return u, sigma, u.value


class WeightNorm(Module):
    """A wrapper that gives the weights of a layer, per feature, a learned length.

    Salimans and Kingma, *Weight Normalization*, 2016.

    Attributes:
      layer_instance: the layer, or any other module.
      epsilon: added to the square of the length.
      dtype: of the normalized weights; None keeps theirs.
      param_dtype: dtype of the lengths.
      use_scale: whether lengths are learned; else they are one.
      scale_init: initializer of the lengths.
      feature_axes: axes that are features: each has its own length, over all other axes. None for one length.
      variable_filter: which weights: those whose path contains one of these texts; None, or no text, for all.

    >>> import jax, jax.numpy as jnp, fx_linen as nn
    >>> layer = nn.WeightNorm(nn.Dense(2))
    >>> variables = layer.init(jax.random.key(0), jnp.ones((1, 3)))
    >>> jax.tree.map(jnp.shape, variables["params"])["layer_instance/kernel/scale"]
    (2,)
    """

    layer_instance: Module
    epsilon: float = 1e-12
    dtype: Dtype | None = None
    param_dtype: Dtype = jnp.float32
    use_scale: bool = True
    scale_init: Initializer = ones
    feature_axes: int | Sequence[int] | None = -1
    variable_filter: Iterable[str] | None = field(default_factory=lambda: {"kernel"})

    @compact
    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Calls the layer with normalized weights.

        Args:
          *args: arguments of the layer.
          **kwargs: more arguments of the layer.

        Returns:
          What the layer returns.
        """

        scales: dict[str, jax.Array] = {}

        def normalized(variables: Any) -> Any:
            def one(path: Sequence[Any], weight: jax.Array) -> jax.Array:
                return self._normalized(_name(self.layer_instance, path), weight, scales)

            return jax.tree_util.tree_map_with_path(one, variables, is_leaf=is_array_node)

        def forward(layer: Any) -> Any:
            return layer(*args, **kwargs)

        mapped = map_variables(forward, "params", normalized, init=self.is_initializing())
        return mapped(self.layer_instance)

    @nowrap
    def _normalized(self, name: str, weight: jax.Array, scales: dict[str, jax.Array]) -> jax.Array:
        if self.variable_filter and not any(text in name for text in self.variable_filter):
            return weight
        weight = array_of(weight)
        axes = weight_axes(weight.ndim, self.feature_axes)
        if self.use_scale and name not in scales:
            shape = tuple(weight.shape[axis] for axis in axes)
            stored = _stored_name(self, "params", name, "scale")
            scales[name] = self.param(stored, self.scale_init, shape, self.param_dtype)
        scale = scales.get(name)
        dtype = canonicalize_dtype(weight, scale, dtype=self.dtype)
        return weight_norm(weight, scale, axes, self.epsilon).astype(dtype)
