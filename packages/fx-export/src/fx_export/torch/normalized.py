"""Networks with normalized weights: what belongs to a weight lies beside it, under the paths that PyTorch has."""

import ast
import dataclasses
import functools
import itertools
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Protocol

import jax
import numpy as np
from fx_core.ops.norm.weights import weight_axes
from fx_core.typing import Dtype

from fx_export.torch.errors import TorchMismatchError
from fx_export.torch.trees import Path

LENGTHS, LEFT, RIGHT = ".lengths", ".u", ".v"
"""What the paths of arrays that belong to a weight end with: its lengths, or its two singular vectors."""

_LAYER = "layer_instance"
_KEYS = {"scales": LENGTHS, "batch_stats": LEFT}
_LINEN = re.compile(r"(?P<weight>.+/.+?)(?:/value)?/(?P<what>scale|u|sigma)")
_KINDS = {"scale": LENGTHS, "u": LEFT, "sigma": "sigma"}
_CONVERGED = 1e-3


class _Tree(Protocol):
    arrays: Any
    objects: dict[Path, Any]

    def twins(self) -> dict[Path, Path]: ...
    def filled(self, arrays: Mapping[Path, np.ndarray]) -> Any: ...


@dataclasses.dataclass
class _Weight:
    """A weight with the paths of what normalizes it.

    Attributes:
      path: of the weight.
      wrapper: of the layer that normalizes it.
      parts: paths by `LENGTHS`, `LEFT`, and ``"sigma"``.
    """

    path: Path
    wrapper: Path
    parts: dict[str, Path]


class Normalized:
    """A network whose normalized weights have what belongs to them beside them.

    The layer within a ``WeightNorm`` or ``SpectralNorm`` has the path of that. An array ``kernel`` has
    ``kernel.lengths``, of as many axes, or the singular vectors ``kernel.u`` and ``kernel.v``, of as many axes, too.

    Args:
      network: the network.

    Attributes:
      arrays: as of `fx_export.torch.trees.Network`, with those paths.
      objects: as of `fx_export.torch.trees.Network`.
      kinds: `LENGTHS` or `LEFT` by the path of each normalized weight.
      scalar: paths of the weights with a single length.

    Raises:
      TorchMismatchError: it cannot be determined what a normalized weight is.
    """

    def __init__(self, network: _Tree):
        self._network = network
        self._weights, problems = _found(network)
        self._axes: dict[Path, tuple[int, ...]] = {}
        inner = {(*weight.wrapper, _LAYER) for weight in self._weights}
        self._inner = {path for path in inner if any(at[: len(path)] == path for at in network.arrays)}
        hidden = {path for weight in self._weights for path in weight.parts.values()}
        self._plain = {path: self._outer(path) for path in network.arrays if path not in hidden}
        self.arrays: dict[Path, Any] = {new: network.arrays[path] for path, new in self._plain.items()}
        self.objects = {
            self._outer(path): layer for path, layer in network.objects.items() if (*path, _LAYER) not in self._inner
        }
        self.kinds: dict[Path, str] = {}
        for weight in self._weights:
            problem = self._add(weight)
            problems += [f"{'/'.join(weight.path)}: {problem}"] if problem else []
        if problems:
            raise TorchMismatchError([], [], sorted(problems))
        self.scalar = {self._outer(path) for path, axes in self._axes.items() if not axes}

    def check_written(self) -> None:
        """Checks that PyTorch, which divides by the estimate as it stands, computes what is computed here.

        Raises:
          TorchMismatchError: an estimate has not converged.
        """
        spectral = [weight for weight in self._weights if LEFT in weight.parts]
        arrays = self._network.arrays
        _check_converged(
            [(w.path, arrays[w.path], arrays[w.parts[LEFT]], self.arrays[self._part(w, RIGHT)]) for w in spectral]
        )

    def twins(self) -> dict[Path, Path]:
        """For each path whose variable is at an earlier path, too, the earlier one; see `Network.twins`."""
        new = dict(self._plain)
        for weight in self._weights:
            new |= {path: self._part(weight, kind) for kind, path in weight.parts.items() if kind != "sigma"}
        twins = self._network.twins().items()
        return {new[path]: new[first] for path, first in twins if path in new and first in new}

    def filled(self, arrays: Mapping[Path, np.ndarray]) -> Any:
        """Returns such a tree with other arrays; a module gets them itself.

        Raises:
          TorchMismatchError: an estimate has not converged.
        """
        made = {path: arrays[new] for path, new in self._plain.items()}
        vectors = []
        for weight in self._weights:
            for kind in (LENGTHS, LEFT):
                if kind in weight.parts:
                    like = self._network.arrays[weight.parts[kind]]
                    made[weight.parts[kind]] = arrays[self._part(weight, kind)].reshape(like.shape)
            if LEFT in weight.parts:
                right = arrays[self._part(weight, RIGHT)]
                vectors.append((weight.path, made[weight.path], made[weight.parts[LEFT]], right))
                dtype = np.dtype(self._network.arrays[weight.parts["sigma"]].dtype)
                made[weight.parts["sigma"]] = np.asarray(_value(*vectors[-1][1:])).astype(dtype)
        _check_converged(vectors)
        return self._network.filled(made)

    def _part(self, weight: _Weight, kind: str) -> Path:
        """The path here of what belongs to a weight."""
        *above, name = self._outer(weight.path)
        return (*above, name + kind)

    def _outer(self, path: Path) -> Path:
        return tuple(name for end, name in enumerate(path, 1) if path[:end] not in self._inner)

    def _add(self, weight: _Weight) -> str | None:
        new, array = self._outer(weight.path), self._network.arrays[weight.path]
        if new in self.kinds:
            return "two layers normalize it"
        if LENGTHS in weight.parts:
            self.kinds[new] = LENGTHS
            lengths = self._network.arrays[weight.parts[LENGTHS]]
            axes = self._length_axes(weight, array.shape, lengths.shape)
            if axes is None:
                return f"lengths of shape {tuple(lengths.shape)} do not belong to a weight of {tuple(array.shape)}"
            self._axes[weight.path] = axes
            shape = tuple(size if axis in axes else 1 for axis, size in enumerate(array.shape))
            self.arrays[self._part(weight, LENGTHS)] = _reshaped(lengths, shape)
            return None
        if set(weight.parts) != {LEFT, "sigma"}:
            return "it has not both of u and sigma"
        self.kinds[new] = LEFT
        left = self._network.arrays[weight.parts[LEFT]]
        if tuple(left.shape) != (1, array.shape[-1]):
            return f"u of shape {tuple(left.shape)} does not belong to a weight of {tuple(array.shape)}"
        ones = (1,) * (len(array.shape) - 1)
        self.arrays[self._part(weight, LEFT)] = _reshaped(left, (*ones, array.shape[-1]))
        self.arrays[self._part(weight, RIGHT)] = _Right(array, left)
        return None

    def _length_axes(self, weight: _Weight, shape: Sequence[int], lengths: Sequence[int]) -> tuple[int, ...] | None:
        """The axes along which lengths have entries: as the layer says, or where they fit, the last axis first."""
        layer = self._network.objects.get(weight.wrapper)
        if layer is not None:
            choices = [weight_axes(len(shape), layer.feature_axes)]
        else:
            choices = list(itertools.combinations(range(len(shape)), len(lengths)))[::-1]
        return next((axes for axes in choices if tuple(shape[axis] for axis in axes) == tuple(lengths)), None)


class _Right:
    """The right singular vector of a weight, computed from the other one when it is asked for."""

    def __init__(self, weight: Any, left: Any):
        self._weight, self._left = weight, left
        self.shape, self.dtype = (*weight.shape[:-1], 1), left.dtype

    def __array__(self, dtype: Dtype | None = None, copy: bool | None = None) -> np.ndarray:
        return _unit(_matrix(self._weight) @ _wide(self._left)).reshape(self.shape).astype(dtype or self.dtype)


def _found(network: _Tree) -> tuple[list[_Weight], list[str]]:
    """Returns the normalized weights, and what is wrong with others."""
    weights: dict[tuple[Path, Path], _Weight] = {}
    problems = [
        f"{'/'.join(path)}: lengths of one that are not learned (use_scale=False) have no form in PyTorch"
        for path, layer in network.objects.items()
        if _is_weight_norm(layer) and not layer.use_scale
    ]
    for path in network.arrays:
        for wrapper, kind, places in _belonging(path):
            known = next((place for place in places if place in network.arrays), None)
            if known is None:
                problems.append(f"{'/'.join(path)}: the weight that it belongs to is not there")
            else:
                weights.setdefault((known, wrapper), _Weight(known, wrapper, {})).parts[kind] = path
    return list(weights.values()), problems


def _belonging(path: Path) -> Iterator[tuple[Path, str, list[Path]]]:
    """Gives, for an array of a layer that normalizes weights, the layer, its kind, and where the weight may be."""
    linen = _LINEN.fullmatch(path[-1]) if path else None
    if linen is not None:
        weight, wrapper = tuple(linen["weight"].split("/")), path[:-1]
        yield wrapper, _KINDS[linen["what"]], [(*wrapper, *weight), (*wrapper[:-1], *weight)]
    elif len(path) > 1 and path[-2] in _KEYS and path[-1].startswith("("):
        # The keys are paths, tuples.
        names = tuple(map(str, ast.literal_eval(path[-1])))
        kind = LENGTHS
        if path[-2] == "batch_stats":
            names, kind = names[:-1], _KINDS[names[-1]]
        yield path[:-2], kind, [(*path[:-2], _LAYER, *names)]


def _is_weight_norm(layer: Any) -> bool:
    return any(c.__module__.startswith("fx_nnx.") and c.__name__ == "WeightNorm" for c in type(layer).__mro__)


def _reshaped(array: Any, shape: tuple[int, ...]) -> Any:
    if isinstance(array, jax.ShapeDtypeStruct):
        return jax.ShapeDtypeStruct(shape, array.dtype)
    return np.asarray(array).reshape(shape)


def _wide(array: Any) -> np.ndarray:
    return np.asarray(array).astype(np.float64).reshape(-1)


def _matrix(weight: Any) -> np.ndarray:
    wide = np.asarray(weight).astype(np.float64)
    return wide.reshape(-1, wide.shape[-1])


def _unit(vector: np.ndarray) -> np.ndarray:
    return vector / np.sqrt(np.sum(vector**2) + 1e-12)


def _value(weight: Any, left: Any, right: Any) -> float:
    """The singular value for two vectors."""
    return float(_wide(right) @ _matrix(weight) @ _wide(left))


def _check_converged(vectors: Sequence[tuple[Path, Any, Any, Any]]) -> None:
    """Compare singular values with those after one more step, which layers here take in each call."""
    problems = []
    for path, weight, left, right in vectors:
        value, matrix = _value(weight, left, right), _matrix(weight)
        after = functools.reduce(lambda v, m: _unit(m @ v), [matrix, matrix.T], _wide(left))
        better = float(np.linalg.norm(matrix @ after))
        if not abs(better - value) <= _CONVERGED * better:
            problems.append(
                f"{'/'.join(path)}: the singular value {value:.4g} is {better:.4g} after one more step, so that PyTorch"
                " divides by another number; call the layer in training until it stays"
            )
    if problems:
        raise TorchMismatchError([], [], problems)
