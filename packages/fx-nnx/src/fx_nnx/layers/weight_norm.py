"""Layers that normalize the weights of another layer. The arithmetic is in `fx_core.ops.norm`.

The other layer keeps its weights as they are trained: it is called through a copy whose weights are the normalized
ones, and which shares everything else with it.
"""

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from fx_core.errors.ops import non_matrix_weight
from fx_core.ops.dtypes import canonicalize_dtype
from fx_core.ops.initializers import normal, ones
from fx_core.ops.initializers.fixed import draws_nothing
from fx_core.ops.norm.weights import spectral_norm, weight_axes, weight_norm
from fx_core.ops.params import Initializer
from fx_core.typing import Dtype

from fx_nnx.errors import ArgumentTypeError
from fx_nnx.filters import Filter, PathContains, to_predicate
from fx_nnx.graph.functions import merge, split
from fx_nnx.graph.kinds import is_node
from fx_nnx.graph.updating import update
from fx_nnx.layers.params import located, promote_dtype
from fx_nnx.modules.module import Module
from fx_nnx.objects.fields import data
from fx_nnx.paths import Path
from fx_nnx.rngs.rngs import Rngs
from fx_nnx.states.state import State
from fx_nnx.variables.kinds import BatchStat, Param

__all__ = ["SpectralNorm", "WeightNorm"]

_initial_u: Initializer = normal()


def _name(path: Path) -> str:
    return "/".join(map(str, path))


def _weights(layer: Module) -> Iterable[tuple[Path, Param[Any]]]:
    if not is_node(layer):
        raise ArgumentTypeError("What is normalized are the weights of a layer.", expected="a module", got=repr(layer))
    return ((path, leaf) for path, leaf in split(layer)[1].flat_state() if isinstance(leaf, Param))


def _with_weights(layer: Module, new: Callable[[Path, Param[Any]], Any], args: Any, kwargs: Any) -> Any:
    """Call a layer with other values in place of its parameters."""
    graphdef, state = split(layer)
    shared: list[tuple[Path, Any]] = []
    for path, leaf in state.flat_state():
        value = new(path, leaf) if isinstance(leaf, Param) else None
        shared.append((path, leaf if value is None else leaf.replace(value)))
    stand_in = merge(graphdef, State.from_flat_path(shared))
    out = stand_in(*args, **kwargs)
    # What the call has added, such as sown values, belongs to the layer.
    known = {path for path, _ in shared}
    added = [(path, leaf) for path, leaf in split(stand_in)[1].flat_state() if path not in known]
    if added:
        update(layer, State.from_flat_path(added))
    return out


class SpectralNorm(Module):
    """Divides the weights of a layer by their largest singular value.

    Miyato et al., *Spectral Normalization for Generative Adversarial Networks*, 2018. Weights of less than two
    dimensions stay as they are. For each of the others there is an estimate of the singular vector, ``u``, and of the
    singular value, ``sigma``: the values of ``batch_stats`` under ``(*path, "u")`` and ``(*path, "sigma")``, where
    ``path`` is that of the weight, a tuple. They improve with each call that updates them. The layer's own weights are
    never changed.

    >>> import jax.numpy as jnp
    >>> import fx_nnx as nnx
    >>> inner = nnx.Linear(3, 3, use_bias=False, rngs=nnx.Rngs(0))
    >>> layer = SpectralNorm(inner, n_steps=30, rngs=nnx.Rngs(0))
    >>> bool(abs(jnp.linalg.norm(layer(jnp.eye(3)), 2) - 1) < 1e-3)
    True
    >>> sorted(layer.batch_stats)
    [('kernel', 'sigma'), ('kernel', 'u')]

    Args:
      layer_instance: the layer, or any other module.
      n_steps: power iterations per call.
      epsilon: keeps vectors of zeros from becoming NaN.
      dtype: of the normalized weights; None keeps theirs.
      param_dtype: of ``u`` and ``sigma``.
      error_on_non_matrix: whether weights of more than two dimensions are an error; else all dimensions but the last
        are taken as one.
      update_stats: whether the estimates of a call are stored, for the next one to go on from;
        `fx_nnx.Module.eval` and `fx_nnx.Module.train` switch it off and on.
      rngs: RNG streams; ``u`` is initialized with a key of ``params``.

    Raises:
      ShapeMismatchError: a weight has more than two dimensions, and ``error_on_non_matrix`` is set.
    """

    def __init__(
        self,
        layer_instance: Module,
        *,
        n_steps: int = 1,
        epsilon: float = 1e-12,
        dtype: Dtype | None = None,
        param_dtype: Dtype = jnp.float32,
        error_on_non_matrix: bool = False,
        update_stats: bool = True,
        rngs: Rngs,
    ):
        self.layer_instance = layer_instance
        self.n_steps, self.epsilon, self.dtype, self.param_dtype = n_steps, epsilon, dtype, param_dtype
        self.error_on_non_matrix, self.use_running_average = error_on_non_matrix, not update_stats
        self.batch_stats: dict[Path, BatchStat[Any]] = data({})
        for path, weight in _weights(layer_instance):
            shape = weight.get_value().shape
            if len(shape) > 2 and error_on_non_matrix:
                raise non_matrix_weight(_name(path), shape)
            if len(shape) >= 2:
                u = _initial_u(rngs.params(), (1, shape[-1]), param_dtype)
                self.batch_stats[*path, "u"] = BatchStat(u)
                self.batch_stats[*path, "sigma"] = BatchStat(jnp.ones((), param_dtype))

    def __describe__(self) -> dict[str, Any]:
        return {"update_stats": not self.use_running_average}

    @located
    def __call__(self, x: Any, update_stats: bool | None = None) -> Any:
        """Calls the layer with normalized weights.

        Args:
          x: the argument of the layer.
          update_stats: instead of what the layer says.

        Returns:
          What the layer returns.
        """
        stored = not self.use_running_average if update_stats is None else update_stats

        def normalized(path: Path, weight: Param[Any]) -> jax.Array | None:
            value = weight.get_value()
            if value.ndim < 2:
                return None
            u, sigma = (self.batch_stats[*path, name] for name in ("u", "sigma"))
            new, size = spectral_norm(value, u.get_value(), self.n_steps, self.epsilon)
            if stored:
                u.set_value(new)
                sigma.set_value(size)
            return (value / jnp.where(size != 0, size, 1)).astype(canonicalize_dtype(value, dtype=self.dtype))

        return _with_weights(self.layer_instance, normalized, (x,), {})

    def set_view(self, use_running_average: bool | None = None) -> None:
        """Sets whether estimates are left as they are from now on; None leaves it."""
        if use_running_average is not None:
            self.use_running_average = use_running_average


class WeightNorm(Module):
    """Gives the weights of a layer, per feature, a learned length.

    Salimans and Kingma, *Weight Normalization*, 2016. The lengths are `Param` variables in ``scales`` under the path of
    the weight, a tuple, so that they are trained with the directions, which are the layer's own weights.

    >>> import jax.numpy as jnp
    >>> import fx_nnx as nnx
    >>> layer = WeightNorm(nnx.Linear(3, 2, use_bias=False, rngs=nnx.Rngs(0)), rngs=nnx.Rngs(0))
    >>> jnp.linalg.norm(layer(jnp.eye(3)), axis=0).round(3), layer.scales["kernel",].shape
    (Array([1., 1.], dtype=float32), (2,))

    Args:
      layer_instance: the layer, or any other module.
      feature_axes: axes that are features: each has its own length, over all other axes. None for one length.
      use_scale: whether lengths are learned; else they are one.
      scale_init: initializer of the lengths.
      epsilon: added to the square of the length.
      dtype: of the normalized weights; None keeps theirs.
      param_dtype: dtype of the lengths.
      variable_filter: which weights.
      promote_dtype: replaces `fx_nnx.layers.promote_dtype`.
      rngs: RNG streams; lengths that are random are initialized with keys of ``params``.

    Raises:
      ShapeMismatchError: a weight lacks one of the axes.
    """

    def __init__(
        self,
        layer_instance: Module,
        *,
        feature_axes: int | Sequence[int] | None = -1,
        use_scale: bool = True,
        scale_init: Initializer = ones,
        epsilon: float = 1e-12,
        dtype: Dtype | None = None,
        param_dtype: Dtype = jnp.float32,
        variable_filter: Filter = PathContains("kernel", exact=True),  # noqa: B008 (an immutable filter)
        promote_dtype: Callable[..., Any] = promote_dtype,
        rngs: Rngs,
    ):
        self.layer_instance = layer_instance
        self.feature_axes = tuple(feature_axes) if isinstance(feature_axes, Sequence) else feature_axes
        self.use_scale, self.scale_init, self.epsilon = use_scale, scale_init, epsilon
        self.dtype, self.param_dtype, self.promote_dtype = dtype, param_dtype, promote_dtype
        self.variable_filter = tuple(variable_filter) if isinstance(variable_filter, list) else variable_filter
        self.scales: dict[Path, Param[Any]] = data({})
        matches = to_predicate(self.variable_filter)
        for path, weight in _weights(layer_instance):
            if use_scale and matches(path, weight):
                shape = weight.get_value().shape
                lengths = tuple(shape[axis] for axis in weight_axes(len(shape), self.feature_axes))
                # As in Flax, lengths that are not random take no key from the layers that come after.
                key = None if draws_nothing(scale_init) else rngs.params()
                self.scales[path] = Param(scale_init(key, lengths, param_dtype))

    @located
    def __call__(self, x: Any, *args: Any, **kwargs: Any) -> Any:
        """Calls the layer with normalized weights.

        Args:
          x: the first argument of the layer.
          *args: further arguments.
          **kwargs: further arguments.

        Returns:
          What the layer returns.
        """
        matches = to_predicate(self.variable_filter)

        def normalized(path: Path, weight: Param[Any]) -> jax.Array | None:
            if not matches(path, weight):
                return None
            scale = self.scales[path].get_value() if self.use_scale else None
            value = weight.get_value()
            made = weight_norm(value, scale, weight_axes(value.ndim, self.feature_axes), self.epsilon)
            return self.promote_dtype((made,), dtype=self.dtype)[0]  # only now: lengths of narrow dtypes are rough

        return _with_weights(self.layer_instance, normalized, (x, *args), kwargs)
